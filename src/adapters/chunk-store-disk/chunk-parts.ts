/**
 * Beginnings of chunks that are still on their way, at their place in the files: a download that is killed goes on behind them. Two may bring one
 * chunk at once, and one of them wrong bytes; so once a whole chunk is written nothing of a part is written over it.
 */
import { assert } from "../../domain/assert.ts";
import type { ChunkSet } from "../../domain/chunk-set.ts";
import type { ChunkFiles } from "./chunk-files.ts";
import type { ChunkLayout } from "./chunk-layout.ts";
import type { PartsFile } from "./parts-file.ts";

export interface ChunkPartsWays {
  readonly layout: ChunkLayout;
  readonly files: ChunkFiles;
  readonly records: PartsFile;
  /** Live. */
  readonly have: ChunkSet;
}

export class ChunkParts {
  readonly #ways: ChunkPartsWays;
  readonly #writing = new Map<number, Promise<void>>();
  /** Whole ones are being written there. */
  readonly #shut = new Set<number>();

  constructor(ways: ChunkPartsWays) {
    this.#ways = ways;
  }

  /** Reads what an earlier process recorded. */
  begin(): Promise<void> {
    const { layout, records, have } = this.#ways;
    return records.begin((chunk) => (chunk >= layout.chunkCount || have.has(chunk) ? null : layout.place(chunk).bytes));
  }

  /** Unchecked bytes from the chunk's beginning; null when there are none. */
  async read(chunk: number): Promise<Uint8Array | null> {
    const { files, records } = this.#ways;
    const bytes = records.bytesOf(chunk);
    if (bytes === 0) return null;
    const into = new Uint8Array(bytes);
    if (await files.read(chunk, 0, into)) return into;
    await records.drop(chunk);
    return null;
  }

  /** Does nothing unless it goes on where the part ends, or begins it anew, and the chunk is neither here nor being written. Rejects `disk-full`. */
  async write(chunk: number, offset: number, bytes: Uint8Array): Promise<void> {
    const { layout, files, records, have } = this.#ways;
    const end = offset + bytes.length;
    assert(end <= layout.place(chunk).bytes, `${end} bytes lie in chunk ${chunk}`);
    const goesOn = offset === 0 || offset === records.bytesOf(chunk);
    if (!goesOn || have.has(chunk) || this.#shut.has(chunk) || this.#writing.has(chunk)) return;
    const writing = files.write(chunk, bytes, { offset, note: () => records.record(chunk, end) });
    this.#writing.set(chunk, writing);
    await writing.finally(() => this.#writing.delete(chunk));
  }

  drop(chunk: number): Promise<void> {
    return this.#ways.records.drop(chunk);
  }

  /** Calls `write` while no part is written there, with how far one is. */
  async replace(chunk: number, write: (partBytes: number) => Promise<void>): Promise<void> {
    this.#shut.add(chunk);
    try {
      await this.#writing.get(chunk)?.catch(() => undefined); // told to whoever wrote it
      await write(this.#ways.records.bytesOf(chunk));
      await this.drop(chunk);
    } finally {
      this.#shut.delete(chunk);
    }
  }
}
