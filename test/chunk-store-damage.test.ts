/** What a store of chunks does not believe, and what it never touches. */
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ChunkSet } from "../src/domain/chunk-set.ts";
import { type ChunkFolder, chunkFolder, expectWhole, fill, overwrite } from "./support/chunk-folder.ts";
import { type ChunkedModel, chunkedModel, KIB_64 } from "./support/chunked-model.ts";

const signal = new AbortController().signal;

let on: ChunkFolder;
beforeEach(async () => {
  on = await chunkFolder();
});
afterEach(() => on.close());

describe("a disk that rots", () => {
  const damages: readonly (readonly [
    string,
    (path: string, model: ChunkedModel) => Promise<void>,
    readonly number[],
  ])[] = [
    ["a flipped bit", (path) => overwrite(path, 2 * KIB_64 + 5, Buffer.from([0xff, 0x00, 0xff])), [2]],
    ["a file that was cut short", (path) => truncate(path, 4 * KIB_64 + 9), [4, 5]],
    ["a hole", (path) => overwrite(path, KIB_64, Buffer.alloc(2 * KIB_64)), [1, 2]],
    ["a file that is gone", (path) => rm(path), [0, 1, 2, 3, 4, 5]],
  ];
  for (const [name, damage, lost] of damages) {
    test(`${name} is found before an engine opens the file, forgotten, and brought again`, async () => {
      const model = chunkedModel([5 * KIB_64 + 100]);
      const before = await on.open(model);
      await fill(before, model);
      await before.close();
      await damage(on.firstFile(model), model);
      const weights = await on.open(model);
      await expect(weights.path()).rejects.toMatchObject({ code: "weights-incomplete" });
      expect([...ChunkSet.full(6).minus(weights.have)]).toEqual(lost);
      await fill(weights, model, lost);
      await expectWhole(weights, model);
    });
  }

  test("a damaged chunk is not given to others: its first reading finds it, and later lives know", async () => {
    const model = chunkedModel([3 * KIB_64]);
    const before = await on.open(model);
    await fill(before, model);
    await before.close();
    await overwrite(on.firstFile(model), KIB_64 + 5, Buffer.from([0xff, 0x00, 0xff]));
    const weights = await on.open(model);
    const reads = await Promise.allSettled([weights.read(1, 0, 10), weights.read(1, 60_000, 10)]);
    for (const read of reads) expect(read).toMatchObject({ reason: { code: "chunk-damaged", data: { chunk: 1 } } });
    expect(await weights.read(2, 5, 7)).toEqual(new Uint8Array(model.chunk(2).subarray(5, 12)));
    await weights.close();
    expect([...(await on.open(model)).have]).toEqual([0, 2]);
  });

  test("a scrub reads all again, tells what is damaged and forgets it; one of a range reads that range", async () => {
    const model = chunkedModel([6 * KIB_64]);
    const weights = await on.open(model);
    await fill(weights, model);
    for (const chunk of [1, 4]) await overwrite(on.firstFile(model), chunk * KIB_64, Buffer.from("rot"));
    const told: number[] = [];
    const onVerified = (bytes: number) => told.push(bytes);
    expect(await weights.scrub({ signal, from: 0, count: 3, onVerified })).toEqual([1]);
    expect(told).toEqual([KIB_64, 2 * KIB_64, 3 * KIB_64]);
    expect(await weights.scrub({ signal })).toEqual([4]);
    expect([...weights.have]).toEqual([0, 2, 3, 5]);
    await weights.close();
    expect([...(await on.open(model)).have]).toEqual([0, 2, 3, 5]);
  });

  test("a journal that is damaged, gone or of another model costs a look at the files, and no chunk", async () => {
    const model = chunkedModel([6 * KIB_64]);
    const before = await on.open(model);
    await fill(before, model, [0, 1, 4]);
    await before.close();
    const journal = on.pathOf(model, "journal");
    const whole = await readFile(journal);
    const torn = Buffer.from(whole);
    torn[whole.length - 3] = (torn[whole.length - 3] ?? 0) ^ 0xff;
    for (const bytes of [
      torn,
      Buffer.from("not a journal"),
      Buffer.alloc(0),
      whole.subarray(0, 70),
      Buffer.alloc(500, 0xff),
    ]) {
      await writeFile(journal, bytes);
      const weights = await on.open(model);
      expect([...weights.have]).toEqual([0, 1, 4]);
      await weights.close();
      expect(await readFile(journal)).toEqual(whole);
    }
    await rm(journal);
    expect([...(await on.open(model)).have]).toEqual([0, 1, 4]);
  });
});

describe("an agent before chunks", () => {
  test("left a whole file, which is taken over as it is", async () => {
    const model = chunkedModel([4 * KIB_64 + 3]);
    await writeFile(join(on.path, `${model.weightsSha256}.gguf`), model.files[0] ?? "");
    expect(await on.store().list()).toMatchObject([{ weightsSha256: model.weightsSha256, isWhole: true }]);
    const weights = await on.open(model);
    expect(weights.have.isFull).toBe(true);
    await expectWhole(weights, model);
    expect(await readdir(on.path)).toEqual([model.weightsSha256, `${model.weightsSha256}.lock`]);
  });

  test("left a file in part, whose good chunks are taken over", async () => {
    const model = chunkedModel([6 * KIB_64]);
    const partial = Buffer.from(model.files[0]?.subarray(0, 4 * KIB_64 + 100) ?? "");
    partial[KIB_64] = (partial[KIB_64] ?? 0) ^ 1;
    await writeFile(join(on.path, `${model.weightsSha256}.partial`), partial);
    const weights = await on.open(model);
    expect([...weights.have]).toEqual([0, 2, 3]);
    await fill(weights, model, [1, 4, 5]);
    await expectWhole(weights, model);
  });

  test("left a file with more bytes than the model: what is too much is cut off", async () => {
    const model = chunkedModel([2 * KIB_64 + 5]);
    await writeFile(join(on.path, `${model.weightsSha256}.gguf`), Buffer.concat([...model.files, Buffer.from("tail")]));
    const weights = await on.open(model);
    await expectWhole(weights, model);
  });

  test("left links, which are nobody's: what they point at stays as it is", async () => {
    const model = chunkedModel([2 * KIB_64]);
    const mine = join(on.path, "mine.gguf");
    await writeFile(mine, Buffer.alloc(2 * KIB_64, 7));
    await symlink(mine, join(on.path, `${model.weightsSha256}.gguf`));
    await link(mine, join(on.path, `${model.weightsSha256}.partial`));
    const weights = await on.open(model);
    expect(weights.have.size).toBe(0);
    await fill(weights, model);
    expect(await readFile(mine)).toEqual(Buffer.alloc(2 * KIB_64, 7));
  });
});

describe("foreign things in the folder", () => {
  test("a link in place of a file is not followed, neither to read nor to write", async () => {
    const model = chunkedModel([2 * KIB_64]);
    const secret = join(on.path, "secret");
    await writeFile(secret, model.files[0] ?? "");
    const weights = await on.open(model);
    await symlink(secret, on.firstFile(model));
    expect(await weights.tryLock()).toBe(true);
    await expect(weights.write(0, Buffer.from(model.chunk(0)))).rejects.toMatchObject({ code: "weights-foreign-file" });
    await weights.close();
    await rm(on.pathOf(model, "journal"));
    expect((await on.open(model)).have.size).toBe(0);
  });

  test("a link in place of the model's folder, its journal or its lock is refused", async () => {
    const elsewhere = await mkdtemp(join(tmpdir(), "fallow-elsewhere-"));
    try {
      const model = chunkedModel([KIB_64]);
      await symlink(elsewhere, join(on.path, model.weightsSha256));
      await expect(on.store().open(model, { signal })).rejects.toMatchObject({ code: "weights-foreign-file" });
      await on.store().remove(model.weightsSha256);
      await writeFile(join(elsewhere, "file"), "theirs");
      await symlink(join(elsewhere, "file"), join(on.path, `${model.weightsSha256}.lock`)).catch(async () => {
        await rm(join(on.path, `${model.weightsSha256}.lock`));
        await symlink(join(elsewhere, "file"), join(on.path, `${model.weightsSha256}.lock`));
      });
      await expect(on.store().open(model, { signal })).rejects.toMatchObject({ code: "weights-foreign-file" });
      await rm(join(on.path, `${model.weightsSha256}.lock`));
      await symlink(join(elsewhere, "file"), on.pathOf(model, "journal"));
      await expect(on.store().open(model, { signal })).rejects.toMatchObject({ code: "weights-foreign-file" });
      expect(await readdir(elsewhere)).toEqual(["file"]);
      expect(await readFile(join(elsewhere, "file"), "utf8")).toBe("theirs");
    } finally {
      await rm(elsewhere, { recursive: true });
    }
  });

  test("other files in the folder are neither listed nor removed", async () => {
    await writeFile(join(on.path, "notes.txt"), "mine");
    await mkdir(join(on.path, "photos"));
    expect(await on.store().list()).toEqual([]);
    expect((await readdir(on.path)).sort()).toEqual(["notes.txt", "photos"]);
  });
});
