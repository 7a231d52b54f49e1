/**
 * A chunk on its way. What came of it is written to the disk piece by piece, so that a killed agent, or one whose owner came, goes on behind it;
 * whoever brings the rest need not be who brought the beginning. So a chunk that was continued and has another digest is nobody's
 * fault: it is fetched again from its beginning.
 *
 * | event                         | its part on the disk                              |
 * | ----------------------------- | ------------------------------------------------- |
 * | first to bring it             | read, and continued                               |
 * | second, in the endgame        | left alone: it brings the whole chunk             |
 * | asked bytes came              | grows                                             |
 * | whole and right               | becomes the chunk                                 |
 * | whole and wrong, broken rules | dropped                                           |
 * | we stop it, the line is cut   | stays                                             |
 */
import { type ChunkPlace, chunkPlace } from "../../../domain/weights.ts";
import type { OpenModel } from "./open-models.ts";

/** While a long piece comes. */
const SAVE_BYTES = 256 * 1024;

export interface ChunkPartsWays {
  readonly model: OpenModel;
  /** This process has the right to write, at this moment. */
  mayWrite(): boolean;
  /** The disk does not take it. */
  fail(cause: unknown): void;
}

/** Who brings which chunk. */
export class ChunkArrivals {
  readonly #ways: ChunkPartsWays;
  readonly #owned = new Set<number>();

  constructor(ways: ChunkPartsWays) {
    this.#ways = ways;
  }

  /** Rejects when the disk cannot be read. Whoever opens it ends it. */
  async open(chunk: number): Promise<ArrivingChunk> {
    const { model } = this.#ways;
    const place = chunkPlace(model.content.manifest, chunk);
    if (this.#owned.has(chunk) || !this.#ways.mayWrite()) return new ArrivingChunk(chunk, place, null);
    this.#owned.add(chunk);
    const owner = { ...this.#ways, over: () => this.#owned.delete(chunk) };
    try {
      return new ArrivingChunk(chunk, place, owner, await model.stored.part(chunk));
    } catch (thrown) {
      owner.over();
      throw thrown;
    }
  }
}

export class ArrivingChunk {
  readonly chunk: number;
  readonly place: ChunkPlace;
  /** Its beginning came earlier, maybe from somebody else. */
  readonly isContinued: boolean;
  readonly #owner: (ChunkPartsWays & { over(): void }) | null;
  #bytes: Uint8Array | null = null;
  #filled = 0;
  #savedBytes = 0;
  #credit: (() => void) | null = null;

  constructor(
    chunk: number,
    place: ChunkPlace,
    owner: (ChunkPartsWays & { over(): void }) | null,
    part?: Uint8Array | null,
  ) {
    this.chunk = chunk;
    this.place = place;
    this.#owner = owner;
    // A part of all bytes would leave nothing to ask for.
    this.isContinued = part !== undefined && part !== null && part.length < place.bytes;
    if (!this.isContinued || !part) return;
    this.push(part);
    this.#savedBytes = part.length;
  }

  /** Of its beginning, on the disk as they are here. */
  get savedBytes(): number {
    return this.#savedBytes;
  }

  get filledBytes(): number {
    return this.#filled;
  }

  get restBytes(): number {
    return this.place.bytes - this.#filled;
  }

  get isWhole(): boolean {
    return this.restBytes === 0;
  }

  /** All of them, once it is whole. */
  get bytes(): Uint8Array {
    return this.#bytes ?? new Uint8Array(0);
  }

  /** Answers with what is beyond it. */
  push(part: Uint8Array): Uint8Array {
    this.#bytes ??= new Uint8Array(this.place.bytes);
    const taken = part.subarray(0, this.restBytes);
    this.#bytes.set(taken, this.#filled);
    this.#filled += taken.length;
    return part.subarray(taken.length);
  }

  /** Called when what was asked for of it is safe, or given up. */
  owes(credit: () => void): void {
    this.#settle();
    this.#credit = credit;
  }

  async saveSome(): Promise<void> {
    if (!this.isWhole && this.#filled - this.#savedBytes >= SAVE_BYTES) await this.#save();
  }

  /** What was asked for came, or no more of it will. Never rejects; a whole chunk is for the store to keep. */
  async save(): Promise<void> {
    if (this.isWhole) return;
    await this.#save();
    this.#settle();
  }

  /** The next one begins anew. Never rejects. */
  async drop(): Promise<void> {
    if (this.#owner?.mayWrite()) await this.#owner.model.stored.dropPart(this.chunk).catch(this.#owner.fail);
  }

  end(): void {
    this.#settle();
    this.#owner?.over();
  }

  async #save(): Promise<void> {
    const [from, to] = [this.#savedBytes, this.#filled];
    if (this.#owner === null || from === to || this.#bytes === null || !this.#owner.mayWrite()) return;
    try {
      await this.#owner.model.stored.writePart(this.chunk, from, this.#bytes.subarray(from, to));
      this.#savedBytes = to;
    } catch (thrown) {
      this.#owner.fail(thrown);
    }
  }

  #settle(): void {
    this.#credit?.();
    this.#credit = null;
  }
}
