/** A store of chunks on a real disk: what it keeps, over lives and for several at once. */
import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ChunkSet } from "../src/domain/chunk-set.ts";
import { type ChunkFolder, chunkFolder, expectWhole, fill, overwrite } from "./support/chunk-folder.ts";
import { chunkedModel, KIB_64 } from "./support/chunked-model.ts";

const signal = new AbortController().signal;

let on: ChunkFolder;
beforeEach(async () => {
  on = await chunkFolder();
});
afterEach(() => on.close());

describe("keeping", () => {
  test("chunks that come in any order make the file whole, and an engine gets its path", async () => {
    const model = chunkedModel([5 * KIB_64 + 17]);
    const weights = await on.open(model);
    await fill(weights, model, [5, 0, 3]);
    await expect(weights.path()).rejects.toMatchObject({
      code: "weights-incomplete",
      data: { storedChunks: 3, chunkCount: 6 },
    });
    await fill(weights, model, [4, 1, 2]);
    await expectWhole(weights, model);
    expect((await stat(await weights.path())).mode & 0o777).toBe(0o600);
    expect((await stat(join(on.path, model.weightsSha256))).mode & 0o777).toBe(0o700);
  });

  test("several files are named as an engine looks for them, whatever the manifest calls them", async () => {
    const model = chunkedModel([KIB_64 + 1, 3 * KIB_64, 10]);
    const weights = await on.open(model);
    await fill(weights, model);
    const path = await weights.path();
    expect(path).toBe(on.pathOf(model, `${model.weightsSha256}-00001-of-00003.gguf`));
    for (const [at, bytes] of model.files.entries()) {
      expect(await readFile(path.replace("00001-of", `0000${at + 1}-of`))).toEqual(bytes);
    }
    expect(await readdir(on.path)).toEqual([model.weightsSha256, `${model.weightsSha256}.lock`]);
  });

  test("bytes of another digest or length are bad, and nothing of them is kept", async () => {
    const model = chunkedModel([2 * KIB_64]);
    const weights = await on.open(model);
    expect(await weights.tryLock()).toBe(true);
    const flipped = Buffer.from(model.chunk(0));
    flipped[100] = (flipped[100] ?? 0) ^ 1;
    expect(await weights.write(0, flipped)).toBe("bad");
    expect(await weights.write(0, model.chunk(0).subarray(1))).toBe("bad");
    expect(await weights.write(0, Buffer.concat([model.chunk(0), Buffer.alloc(1)]))).toBe("bad");
    expect(await weights.write(1, model.chunk(0))).toBe("bad");
    expect(weights.have.size).toBe(0);
    expect(await readdir(join(on.path, model.weightsSha256))).not.toContain(`${model.weightsSha256}.gguf`);
  });

  test("a share is enough for an engine that needs no more: the rest are holes that take no room", async () => {
    const model = chunkedModel([64 * KIB_64]);
    const weights = await on.open(model);
    await fill(weights, model, [0, 40]);
    const path = await weights.path(
      ChunkSet.of(64, [
        [0, 1],
        [40, 1],
      ]),
    );
    const bytes = await readFile(path);
    expect(bytes.length).toBe(64 * KIB_64);
    expect(bytes.subarray(40 * KIB_64, 41 * KIB_64)).toEqual(model.chunk(40));
    expect(bytes.subarray(KIB_64, 2 * KIB_64)).toEqual(Buffer.alloc(KIB_64));
    const [stored] = await on.store().list();
    expect(stored).toMatchObject({ totalBytes: 64 * KIB_64, storedBytes: 2 * KIB_64, isWhole: false });
    expect(stored?.onDiskBytes).toBeLessThan(6 * KIB_64);
  });
});

describe("a new life", () => {
  test("what was kept is there, and goes on from where it was", async () => {
    const model = chunkedModel([8 * KIB_64]);
    const before = await on.open(model);
    await fill(before, model, [1, 2, 6]);
    await before.close();
    const weights = await on.open(model);
    expect([...weights.have]).toEqual([1, 2, 6]);
    await fill(weights, model, [0, 3, 4, 5, 7]);
    await expectWhole(weights, model);
    await weights.close();
    expect(await on.store().list()).toMatchObject([{ weightsSha256: model.weightsSha256, isWhole: true }]);
  });

  test("what lies beside the chunks is given back as it was kept, and nothing when there is none", async () => {
    const model = chunkedModel([2 * KIB_64]);
    await on.open(model);
    const kept = await on.store().kept(model.weightsSha256);
    expect(kept?.signedManifest).toEqual(model.signedManifest);
    expect(kept?.digests).toEqual(model.digests);
    expect(await on.store().kept(chunkedModel([10]).weightsSha256)).toBeNull();
  });

  test("after another boot a chunk that the journal names is believed when its digest is right", async () => {
    const model = chunkedModel([8 * KIB_64]);
    const before = await on.open(model, on.store(1));
    await fill(before, model);
    await before.close();
    // A power cut: the record reached the disk, the bytes did not.
    await overwrite(on.firstFile(model), 3 * KIB_64, Buffer.alloc(KIB_64));
    const told: number[] = [];
    const weights = await on.store(2).open(model, { signal, onVerified: (bytes) => told.push(bytes) });
    expect([...weights.have]).toEqual([0, 1, 2, 4, 5, 6, 7]);
    expect(told.at(-1)).toBe(8 * KIB_64);
    await weights.close();
    // The new boot's journal says the same.
    expect([...(await on.open(model, on.store(2))).have]).toEqual([0, 1, 2, 4, 5, 6, 7]);
  });

  test("where the system tells no boot nothing is believed unread", async () => {
    const model = chunkedModel([4 * KIB_64]);
    const before = await on.open(model, on.store(0));
    await fill(before, model);
    await before.close();
    await overwrite(on.firstFile(model), 0, Buffer.from([1, 2, 3]));
    expect([...(await on.open(model, on.store(0))).have]).toEqual([1, 2, 3]);
  });
});

describe("listing and removing", () => {
  test("models are listed by their last use, and a removed one leaves its empty lock only", async () => {
    const models = [chunkedModel([KIB_64 + 1, 10]), chunkedModel([2 * KIB_64]), chunkedModel([KIB_64])];
    for (const [at, model] of models.entries()) {
      const weights = await on.open(model);
      await fill(weights, model, at === 0 ? [0, 2] : undefined);
      await weights.close();
      await utimes(on.pathOf(model, "manifest.json"), 1_000 - at, 1_000 - at);
    }
    const listed = await on.store().list();
    expect(listed.map(({ weightsSha256 }) => weightsSha256)).toEqual(
      models.map((model) => model.weightsSha256).reverse(),
    );
    expect(listed.at(-1)).toMatchObject({ totalBytes: KIB_64 + 11, storedBytes: KIB_64 + 10, isWhole: false });
    for (const model of models) await on.store().remove(model.weightsSha256);
    await on.store().remove(models[0]?.weightsSha256 ?? chunkedModel([1]).weightsSha256);
    expect(await on.store().list()).toEqual([]);
    for (const name of await readdir(on.path)) expect((await stat(join(on.path, name))).size, name).toBe(0);
  });

  test("what is open here, or has its path told to an engine elsewhere, is not removed; afterwards it is", async () => {
    const model = chunkedModel([KIB_64]);
    const store = on.store();
    const weights = await on.open(model, store);
    await fill(weights, model);
    await weights.path();
    for (const other of [store, on.store()]) {
      await expect(other.remove(model.weightsSha256)).rejects.toMatchObject({ code: "weights-in-use" });
    }
    await weights.close();
    await store.remove(model.weightsSha256);
    expect(await store.list()).toEqual([]);
  });

  test("what another agent has open and does not use is removed all the same, and that agent sees that it is gone", async () => {
    const model = chunkedModel([3 * KIB_64]);
    const weights = await on.open(model);
    await fill(weights, model);
    await weights.unlock();
    await weights.path();
    await expect(on.store().remove(model.weightsSha256)).rejects.toMatchObject({ code: "weights-in-use" });
    weights.rest();
    await vi.waitFor(() => on.store().remove(model.weightsSha256), { timeout: 20_000 });
    await expect(weights.read(1, 0, 10)).rejects.toMatchObject({ code: "chunk-damaged" });
    expect(weights.have.size).toBe(0);
    // A third one begins it anew; this one goes on from there.
    const other = await on.open(model);
    await fill(other, model, [2]);
    await other.close();
    await weights.refresh();
    expect([...weights.have]).toEqual([2]);
    await fill(weights, model);
    await expectWhole(weights, model);
  });

  test("a file that an agent before chunks left is removed too", async () => {
    const model = chunkedModel([KIB_64]);
    for (const ending of ["gguf", "partial"]) await writeFile(join(on.path, `${model.weightsSha256}.${ending}`), "x");
    await on.store().remove(model.weightsSha256);
    expect(await readdir(on.path)).toEqual([`${model.weightsSha256}.lock`]);
  });
});

describe("several at once", () => {
  test("one writes, the others read what it kept as soon as they look", async () => {
    const model = chunkedModel([4 * KIB_64]);
    const [a, b] = [await on.open(model), await on.open(model)];
    await fill(a, model, [0, 2]);
    expect(await b.tryLock()).toBe(false);
    expect(b.have.size).toBe(0);
    await b.refresh();
    expect([...b.have]).toEqual([0, 2]);
    expect(await b.read(2, 0, KIB_64)).toEqual(new Uint8Array(model.chunk(2)));
    await a.unlock();
    await fill(b, model, [1, 3]);
    await a.refresh();
    await expectWhole(a, model);
  });

  test("what one finds damaged the other does not give out either once it looks", async () => {
    const model = chunkedModel([4 * KIB_64]);
    const [a, b] = [await on.open(model), await on.open(model)];
    await fill(a, model);
    await b.refresh();
    await overwrite(on.firstFile(model), 0, Buffer.from("rot"));
    expect(await a.scrub({ signal })).toEqual([0]);
    await b.refresh();
    expect([...b.have]).toEqual([1, 2, 3]);
  });

  test("those who open it through one store share what is known, and one of them writes", async () => {
    const model = chunkedModel([4 * KIB_64]);
    const store = on.store();
    const [a, b] = await Promise.all([on.open(model, store), on.open(model, store)]);
    await fill(a, model, [1]);
    expect([...b.have]).toEqual([1]);
    expect(await b.tryLock()).toBe(false);
    await a.close();
    await fill(b, model, [0, 2, 3]);
    expect(b.have.isFull).toBe(true);
  });

  test("chunks that are written at the same time are all kept", async () => {
    const model = chunkedModel([200 * KIB_64]);
    const weights = await on.open(model);
    await weights.tryLock();
    await Promise.all(
      Array.from({ length: 200 }, (_, at) => weights.write((at * 77) % 200, model.chunk((at * 77) % 200))),
    );
    await weights.close();
    await expectWhole(await on.open(model), model);
  });

  test("an opening that is given up leaves nothing open, and another goes on", async () => {
    const model = chunkedModel([64 * KIB_64]);
    const before = await on.open(model, on.store(1));
    await fill(before, model);
    await before.close();
    const store = on.store(2);
    const abort = new AbortController();
    const first = store.open(model, { signal: abort.signal, onVerified: () => abort.abort() });
    const second = store.open(model, { signal });
    await expect(first).rejects.toMatchObject({ name: "AbortError" });
    expect((await second).have.isFull).toBe(true);
  });
});
