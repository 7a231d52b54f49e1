/**
 * A process of its own that fills a store of chunks from a file, to be killed or to run out of disk. argv: folder, file of the whole model,
 * bytes of a chunk. Tells one line for each thing that it did, written at once so that a kill loses none.
 *
 * waiting (for the lock) · have <chunks> · try <chunk> · kept <chunk> · full <json> · path <path>
 */
import { readFileSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { DiskChunkStore } from "../../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { FallowError } from "../../src/domain/fault.ts";
import { chunkedModel } from "./chunked-model.ts";

const LOOK_MS = 10;
const [folder = "", source = "", chunkBytes = "", headroom = "0"] = process.argv.slice(2);
const tell = (line: string) => writeSync(1, `${line}\n`);

const model = chunkedModel([], { from: [readFileSync(source)], chunkBytes: Number(chunkBytes) });
const store = new DiskChunkStore({ folder, headroomBytes: headroom === "default" ? null : Number(headroom) });
const weights = await store.open(model, { signal: new AbortController().signal });
tell("open");
while (!(await weights.tryLock())) {
  tell("waiting");
  await sleep(LOOK_MS);
}
tell(`have ${[...weights.have].join(",")}`);
try {
  // The last one first: the file has its length then, and what is not written is a hole that reads as zeros.
  for (let turn = 0; turn < model.chunkCount; turn++) {
    const chunk = turn === 0 ? model.chunkCount - 1 : turn - 1;
    if (weights.have.has(chunk)) continue;
    tell(`try ${chunk}`);
    await weights.write(chunk, model.chunk(chunk));
    tell(`kept ${chunk}`);
  }
  tell(`path ${await weights.path()}`);
} catch (thrown) {
  if (!(thrown instanceof FallowError)) throw thrown;
  const read = await weights.read(0, 0, 16);
  const isReadable = Buffer.from(read).equals(model.chunk(0).subarray(0, 16));
  tell(`full ${JSON.stringify({ code: thrown.code, ...thrown.data, kept: weights.have.size, isReadable })}`);
}
await weights.close();
