/**
 * Reads a header from front to back without knowing its length: bytes are fetched in large pieces as the parser asks, and
 * no more is ever held than the header's bound. Every read is checked against the end of the file first, so that a count
 * or a length that lies costs nothing.
 */
import type { ByteSource } from "./byte-source.ts";
import { GgufProblem } from "./gguf-refusal.ts";

/** A 256k vocabulary with merges is about 20 MB; a header far beyond that is an attack or a mistake. */
export const HEADER_BYTES_MAX = 512 * 1024 * 1024;
const FETCH_BYTES = 1024 * 1024;

export class GgufCursor {
  readonly #source: ByteSource;
  #bytes = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));
  #filled = 0;
  #position = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get position(): number {
    return this.#position;
  }

  /** True when the next `count` bytes are at hand; otherwise `await need(count)` before taking them. */
  has(count: number): boolean {
    return this.#position + count <= this.#filled;
  }

  async need(count: number, what: string): Promise<void> {
    const end = this.#position + count;
    if (end <= this.#filled) return;
    if (end > this.#source.sizeBytes) {
      const left = this.#source.sizeBytes - this.#position;
      throw new GgufProblem(
        "truncated",
        `${what} needs ${count} bytes at ${this.#position}, the file has ${left} left`,
      );
    }
    if (end > HEADER_BYTES_MAX) {
      throw new GgufProblem("too-large", `${what} would make the header longer than ${HEADER_BYTES_MAX} bytes`);
    }
    const want = Math.min(Math.max(end, this.#filled + FETCH_BYTES), this.#source.sizeBytes, HEADER_BYTES_MAX);
    const more = await this.#source.read(this.#filled, want - this.#filled);
    this.#append(more);
    if (end > this.#filled) {
      throw new GgufProblem("truncated", `${what} needs ${count} bytes at ${this.#position}, the file ends sooner`);
    }
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  /** Reads one scalar with `read` at the position of its `size` bytes. */
  scalar<T>(size: number, read: (view: DataView, at: number) => T): T {
    return read(this.#view, this.#advance(size));
  }

  skip(count: number): void {
    this.#advance(count);
  }

  /** A copy of the bytes between two positions already read. */
  copy(from: number, to: number): Uint8Array {
    return this.#bytes.slice(from, to);
  }

  #advance(count: number): number {
    const at = this.#position;
    this.#position = at + count;
    return at;
  }

  #append(more: Uint8Array): void {
    const filled = this.#filled + more.length;
    if (filled > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(filled, Math.min(2 * this.#bytes.length, HEADER_BYTES_MAX)));
      grown.set(this.#bytes.subarray(0, this.#filled));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#bytes.set(more, this.#filled);
    this.#filled = filled;
  }
}
