/**
 * Digests off the event loop: WebCrypto hashes in libuv's threads, so that a whole model is checked while the agent goes on answering. Several chunks
 * are under way at once: while one is hashed the next is read.
 */
import { webcrypto } from "node:crypto";
import { DIGEST_BYTES } from "../../domain/weights.ts";

/** Of libuv's four threads one is left for everything else. On two cores 3 gave 2.2 GB/s, 1 gave 1.2 (bench/chunk-store.bench.ts). */
const CHECKS_AT_ONCE = 3;

/** The caller leaves the bytes alone until it resolves. */
export async function hasDigest(bytes: Uint8Array, digests: Uint8Array, chunk: number): Promise<boolean> {
  const found = new Uint8Array(await webcrypto.subtle.digest("SHA-256", isOwn(bytes) ? bytes : bytes.slice()));
  const at = chunk * DIGEST_BYTES;
  return Buffer.compare(found, digests.subarray(at, at + DIGEST_BYTES)) === 0;
}

/** WebCrypto takes no memory that other threads may change meanwhile. */
function isOwn(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer;
}

/** Calls `check` for each chunk, a few at once, in the order of their numbers; stops at the first that throws, and at an abort. */
export async function checkAll(
  chunks: readonly number[],
  signal: AbortSignal,
  check: (chunk: number, buffers: ReusedBuffer) => Promise<void>,
): Promise<void> {
  let next = 0;
  let hasFailed = false;
  const run = async () => {
    const buffer = new ReusedBuffer();
    try {
      for (let chunk = chunks[next++]; chunk !== undefined && !hasFailed; chunk = chunks[next++]) {
        signal.throwIfAborted();
        await check(chunk, buffer);
      }
    } catch (thrown) {
      hasFailed = true;
      throw thrown;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(CHECKS_AT_ONCE, chunks.length) }, run));
  for (const end of ended) if (end.status === "rejected") throw end.reason;
}

/** Memory for one chunk at a time: 400 GB pass through a few megabytes. */
export class ReusedBuffer {
  #bytes = new Uint8Array(0);

  of(length: number): Uint8Array<ArrayBuffer> {
    if (this.#bytes.length < length) this.#bytes = new Uint8Array(length);
    return this.#bytes.subarray(0, length);
  }
}
