/** Beginnings of chunks that a killed download left: they are continued, never believed. */
import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DiskChunkStore } from "../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import type { StoredWeights } from "../src/ports/chunk-store.ts";
import { type ChunkFolder, chunkFolder, expectWhole, fill } from "./support/chunk-folder.ts";
import { type ChunkedModel, chunkedModel } from "./support/chunked-model.ts";

const CHUNK_BYTES = 64 * 1024;
const SLOT_BYTES = 16;
let folder: ChunkFolder;
let model: ChunkedModel;
beforeEach(async () => {
  folder = await chunkFolder();
  model = chunkedModel([CHUNK_BYTES * 3 + 100], { chunkBytes: CHUNK_BYTES });
});
afterEach(() => folder.close());

async function locked(boot = 1): Promise<StoredWeights> {
  const weights = await folder.open(model, folder.store(boot));
  expect(await weights.tryLock()).toBe(true);
  return weights;
}

/** What a life leaves that wrote so much of a chunk. */
async function leave(chunk: number, bytes: number, boot = 1): Promise<void> {
  const weights = await locked(boot);
  await weights.writePart(chunk, 0, model.chunk(chunk).subarray(0, 1_000));
  await weights.writePart(chunk, 1_000, model.chunk(chunk).subarray(1_000, bytes));
  await weights.close();
}

test("the beginning of a chunk is there in the next life, and is no chunk", async () => {
  await leave(1, 5_000);
  const weights = await locked();
  expect(Buffer.from((await weights.part(1)) ?? []).equals(model.chunk(1).subarray(0, 5_000))).toBe(true);
  expect(await weights.part(0)).toBeNull();
  expect(weights.have.size).toBe(0);
  await expect(weights.read(1, 0, 100)).rejects.toMatchObject({ code: "chunk-damaged" });
  await expect(weights.path()).rejects.toMatchObject({ code: "weights-incomplete" });
  await fill(weights, model);
  expect(await weights.part(1)).toBeNull();
  await expectWhole(weights, model);
});

test("a chunk that was continued is whole with the rest alone", async () => {
  await leave(1, 5_000);
  const weights = await locked();
  await fill(weights, model, [0, 2, 3]);
  expect(await weights.write(1, model.chunk(1), 5_000)).toBe("kept");
  await expectWhole(weights, model);
});

test("of another boot nothing is continued", async () => {
  await leave(1, 5_000);
  expect(await (await locked(2)).part(1)).toBeNull();
});

test("a record that is damaged is none, and others stand", async () => {
  await leave(1, 5_000);
  await leave(2, 7_000);
  const path = folder.pathOf(model, "parts");
  const records = await readFile(path);
  const at = Array.from({ length: records.length / SLOT_BYTES }, (_, slot) => slot * SLOT_BYTES).find(
    (slot) => records.readUInt32LE(slot) === 1 && records.readUInt32LE(slot + 4) === 5_000,
  );
  records.writeUInt32LE(6_000, (at ?? -1) + 4);
  await writeFile(path, records);
  const weights = await locked();
  expect(await weights.part(1)).toBeNull();
  expect((await weights.part(2))?.length).toBe(7_000);
});

test("one that is dropped is gone in the next life too", async () => {
  const weights = await locked();
  await weights.writePart(1, 0, model.chunk(1).subarray(0, 5_000));
  await weights.dropPart(1);
  expect(await weights.part(1)).toBeNull();
  await weights.close();
  expect(await (await locked()).part(1)).toBeNull();
});

test("what does not go on where it ends is not kept", async () => {
  const weights = await locked();
  await weights.writePart(1, 0, model.chunk(1).subarray(0, 1_000));
  await weights.writePart(1, 2_000, model.chunk(1).subarray(2_000, 3_000));
  expect((await weights.part(1))?.length).toBe(1_000);
});

test("wrong bytes of a chunk that another brings at the same time never lie over the right ones", async () => {
  model = chunkedModel([CHUNK_BYTES * 50], { chunkBytes: CHUNK_BYTES });
  const weights = await locked();
  for (let chunk = 0; chunk < model.chunkCount; chunk++) {
    const wrong = Buffer.alloc(CHUNK_BYTES, 0xee);
    await Promise.all([
      weights.writePart(chunk, 0, wrong.subarray(0, 40_000)),
      weights.write(chunk, model.chunk(chunk)),
      weights.writePart(chunk, 0, wrong.subarray(0, 50_000)),
    ]);
    await weights.writePart(chunk, 0, wrong);
  }
  await expectWhole(weights, model);
});

test("a full disk takes no part, says so, and what is there is used", async () => {
  const full = new DiskChunkStore({ folder: folder.path, headroomBytes: 2 ** 60, bootId: new Uint8Array(16).fill(1) });
  await leave(1, 5_000);
  const weights = await folder.open(model, full);
  expect(await weights.tryLock()).toBe(true);
  await expect(weights.writePart(2, 0, model.chunk(2).subarray(0, 9_000))).rejects.toMatchObject({ code: "disk-full" });
  await expect(weights.write(1, model.chunk(1), 5_000)).rejects.toMatchObject({ code: "disk-full" });
  expect(await weights.part(2)).toBeNull();
  expect((await weights.part(1))?.length).toBe(5_000);
  expect(weights.have.size).toBe(0);
});
