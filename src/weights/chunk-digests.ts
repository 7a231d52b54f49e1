/**
 * A model's chunks are checked by their SHA-256 digests, one blob of 32 bytes each, those of file 1 after those of file 0. The manifest
 * signs only the root of each file's Merkle tree over them, so that what is signed stays small; the blob comes beside it and is checked once.
 */
import { assert } from "../domain/assert.ts";
import { toHex } from "../domain/hex.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import { type Sha256, treeRoot } from "../domain/merkle-tree.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { chunkCountOf, chunksOfFile, DIGEST_BYTES, type WeightsManifest } from "../domain/weights.ts";

export interface DigestsRefusal {
  readonly code: "digests-length" | "digests-root";
  readonly message: string;
}

/** Root over one file's digests (32 bytes each). */
export function chunkRootOf(digests: Uint8Array, sha256: Sha256): Sha256Hex {
  assert(digests.length % DIGEST_BYTES === 0, `${digests.length} bytes are digests of ${DIGEST_BYTES} each`);
  return sha256Hex(toHex(treeRoot(eachDigest(digests), sha256)));
}

/** Whether an untrusted blob is what the manifest's roots say. */
export function checkDigests(
  manifest: Pick<WeightsManifest, "files" | "chunkBytes">,
  digests: Uint8Array,
  sha256: Sha256,
): Outcome<null, DigestsRefusal> {
  const expected = chunkCountOf(manifest) * DIGEST_BYTES;
  if (digests.length !== expected) {
    const message = `the digests have ${digests.length} bytes; ${expected / DIGEST_BYTES} chunks have ${expected}`;
    return no({ code: "digests-length", message });
  }
  let at = 0;
  for (const { name, fileBytes, chunkRoot } of manifest.files) {
    const end = at + chunksOfFile(fileBytes, manifest.chunkBytes) * DIGEST_BYTES;
    const found = chunkRootOf(digests.subarray(at, end), sha256);
    if (found !== chunkRoot) {
      const message = `the digests of ${JSON.stringify(name)} have the root ${found}, the manifest says ${chunkRoot}`;
      return no({ code: "digests-root", message });
    }
    at = end;
  }
  return ok(null);
}

/** A view of one chunk's digest. */
export function digestOfChunk(digests: Uint8Array, chunk: number): Uint8Array {
  assert(chunk >= 0 && (chunk + 1) * DIGEST_BYTES <= digests.length, `chunk ${chunk} has a digest in the blob`);
  return digests.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES);
}

/** Cuts one file, as it comes, into chunks and hashes each. It holds one chunk at most. */
export class ChunkDigester {
  readonly #chunk: Uint8Array;
  readonly #sha256: Sha256;
  readonly #digests: Uint8Array[] = [];
  #filled = 0;

  constructor(options: { readonly chunkBytes: number; readonly sha256: Sha256 }) {
    this.#chunk = new Uint8Array(options.chunkBytes);
    this.#sha256 = options.sha256;
  }

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const taken = Math.min(this.#chunk.length - this.#filled, bytes.length - at);
      this.#chunk.set(bytes.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled === this.#chunk.length) this.#cut();
    }
  }

  /** After the file's last byte: all its digests. */
  end(): Uint8Array {
    if (this.#filled > 0) this.#cut();
    return joinDigests(this.#digests);
  }

  #cut(): void {
    this.#digests.push(this.#sha256(this.#chunk.subarray(0, this.#filled)));
    this.#filled = 0;
  }
}

/** The blobs of several files, in their order, as one. */
export function joinDigests(blobs: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(blobs.reduce((sum, blob) => sum + blob.length, 0));
  let at = 0;
  for (const blob of blobs) {
    joined.set(blob, at);
    at += blob.length;
  }
  return joined;
}

function* eachDigest(digests: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < digests.length; at += DIGEST_BYTES) yield digests.subarray(at, at + DIGEST_BYTES);
}
