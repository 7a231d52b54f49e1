/** One user's hold on a model's chunks: several in a process share the chunks, and one at a time may write. */
import { assert } from "../../domain/assert.ts";
import type { ChunkSet } from "../../domain/chunk-set.ts";
import type { CheckedRange, StoredContent, StoredWeights } from "../../ports/chunk-store.ts";
import type { CheckOptions, DiskWeights } from "./disk-weights.ts";

export class StoredHandle implements StoredWeights {
  readonly content: StoredContent;
  readonly have: ChunkSet;
  readonly #weights: DiskWeights;
  readonly #leave: () => Promise<void>;
  #closed: Promise<void> | null = null;

  constructor(weights: DiskWeights, leave: () => Promise<void>) {
    this.content = weights.content;
    this.have = weights.have;
    this.#weights = weights;
    this.#leave = leave;
  }

  tryLock(): Promise<boolean> {
    return this.#open().tryLock(this);
  }

  unlock(): Promise<void> {
    return this.#open().unlock(this);
  }

  refresh(): Promise<void> {
    return this.#open().refresh();
  }

  write(chunk: number, bytes: Uint8Array, savedBytes = 0): Promise<"kept" | "bad"> {
    return this.#open().write(this, chunk, bytes, savedBytes);
  }

  part(chunk: number): Promise<Uint8Array | null> {
    return this.#open().withParts(this, (parts) => parts.read(chunk));
  }

  writePart(chunk: number, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#open().withParts(this, (parts) => parts.write(chunk, offset, bytes));
  }

  dropPart(chunk: number): Promise<void> {
    return this.#open().withParts(this, (parts) => parts.drop(chunk));
  }

  read(chunk: number, offset: number, length: number): Promise<Uint8Array> {
    return this.#open().read(chunk, offset, length);
  }

  path(needed?: ChunkSet, options: Partial<CheckOptions> = {}): Promise<string> {
    return this.#open().path(this, needed ?? null, { signal: new AbortController().signal, ...options });
  }

  rest(): void {
    this.#open().rest(this);
  }

  scrub(options: CheckOptions & Partial<CheckedRange>): Promise<readonly number[]> {
    const { from = 0, count = this.have.chunkCount } = options;
    return this.#open().scrub({ from, count }, options);
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    await this.#weights.unlock(this);
    this.#weights.rest(this);
    await this.#leave();
  }

  #open(): DiskWeights {
    assert(this.#closed === null, "closed weights are used no more");
    return this.#weights;
  }
}
