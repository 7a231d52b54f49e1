/** The other end of hash-thread.ts: reads and hashes, one call after the other, in the order in which they came. */
import { readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { assert } from "../../domain/assert.ts";
import { describeFault } from "../../domain/fault.ts";
import { joinDigests } from "../../weights/chunk-digests.ts";
import { ChunkHasher } from "./chunk-hasher.ts";
import type { HashAnswer, HashCall } from "./hash-messages.ts";

/** Read and hashed while they are in the processor's cache: whole megabytes were a fifth slower. */
const READ_BYTES = 256 * 1024;
const NOTHING = new Uint8Array(0);

const port = parentPort;
assert(port !== null, "this runs in a thread");
const sessions = new Map<number, ChunkHasher>();
const block = new Uint8Array(READ_BYTES);

port.on("message", (call: HashCall) => port.postMessage(answered(call)));

function answered(call: HashCall): HashAnswer {
  try {
    return answer(call);
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : null;
    const fault = { code, message: describeFault(thrown) };
    return { call: call.call, bytes: 0, chunkDigests: NOTHING, sha256: null, fault };
  }
}

function answer(call: HashCall): HashAnswer {
  const nothing: HashAnswer = { call: call.call, bytes: 0, chunkDigests: NOTHING, sha256: null, fault: null };
  switch (call.kind) {
    case "begin":
      sessions.set(call.session, new ChunkHasher(call.chunkBytes));
      return nothing;
    case "read":
      return { ...nothing, ...readOn(hasherOf(call.session), call) };
    case "finish":
      return { ...nothing, ...hasherOf(call.session).finish() };
    case "end":
      sessions.delete(call.session);
      return nothing;
  }
}

function readOn(
  hasher: ChunkHasher,
  { descriptor, from, to }: { readonly descriptor: number; readonly from: number; readonly to: number },
): { bytes: number; chunkDigests: Uint8Array } {
  const ended: Uint8Array[] = [];
  let at = from;
  while (at < to) {
    const bytesRead = readSync(descriptor, block, 0, Math.min(block.length, to - at), at);
    if (bytesRead === 0) break;
    at += bytesRead;
    ended.push(...hasher.update(block.subarray(0, bytesRead)));
  }
  return { bytes: at - from, chunkDigests: joinDigests(ended) };
}

function hasherOf(session: number): ChunkHasher {
  const hasher = sessions.get(session);
  assert(hasher !== undefined, `session ${session} began`);
  return hasher;
}
