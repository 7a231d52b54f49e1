/** The digest of a file and those of its chunks, in one pass over its bytes. */
import { createHash, type Hash } from "node:crypto";
import { assert } from "../../domain/assert.ts";
import { sha256Hex } from "../../domain/ids.ts";
import { DIGEST_BYTES } from "../../domain/weights.ts";
import type { FileDigests } from "../../ports/model-files.ts";

export class ChunkHasher {
  readonly #chunkBytes: number;
  readonly #whole: Hash = createHash("sha256");
  #chunk: Hash = createHash("sha256");
  #inChunk = 0;
  #done: Buffer[] = [];
  bytes = 0;

  constructor(chunkBytes: number) {
    assert(Number.isSafeInteger(chunkBytes) && chunkBytes > 0, `${chunkBytes} is a chunk's size`);
    this.#chunkBytes = chunkBytes;
  }

  /** The digests of chunks that ended with these bytes, in order; none when none did. */
  update(data: Uint8Array): readonly Uint8Array[] {
    this.#whole.update(data);
    this.bytes += data.length;
    const before = this.#done.length;
    for (let at = 0; at < data.length; ) {
      const part = data.subarray(at, at + this.#chunkBytes - this.#inChunk);
      this.#chunk.update(part);
      this.#inChunk += part.length;
      at += part.length;
      if (this.#inChunk === this.#chunkBytes) this.#endChunk();
    }
    return this.#done.slice(before);
  }

  /** The last chunk may be short. Called once. */
  finish(): FileDigests {
    if (this.#inChunk > 0) this.#endChunk();
    const chunkDigests = new Uint8Array(this.#done.length * DIGEST_BYTES);
    for (const [at, digest] of this.#done.entries()) chunkDigests.set(digest, at * DIGEST_BYTES);
    return { sha256: sha256Hex(this.#whole.digest("hex")), chunkDigests };
  }

  #endChunk(): void {
    this.#done.push(this.#chunk.digest());
    this.#chunk = createHash("sha256");
    this.#inChunk = 0;
  }
}
