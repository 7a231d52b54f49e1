/**
 * What a stage put out, by sequence and position, so that it can be sent again when a stage behind it is lost. In memory up to a bound, then on disk,
 * and beyond that the least needed goes: first sequences that run no more, the one that rested longest first, then the oldest positions of others.
 *
 * Positions follow each other. What is put out from an earlier position on takes the place of all from there (drafts that were rejected); what begins
 * behind the end has a hole before it, and the log of that sequence begins anew.
 *
 * What was decoded `together` comes back in pieces of two positions at least, whatever the pieces were: a single one would be rounded differently.
 */
import type { SequenceId, WireFormat } from "../../domain/chain.ts";
import type { ActivationSpill } from "../../ports/activation-spill.ts";
import type { StagePass } from "../../ports/stage-engine.ts";

export interface LoggedPiece {
  readonly start: number;
  readonly count: number;
  readonly how: StagePass["how"];
  readonly format: WireFormat;
  readonly data: Uint8Array;
  /** Of the last piece only, when it reaches the log's end. */
  readonly draw: StagePass["draw"];
}

export interface ActivationLogOptions {
  readonly memoryBytesMax: number;
  readonly spillBytesMax: number;
  /** Null: nothing goes to disk. */
  readonly spill: ActivationSpill | null;
  /** The disk failed: what was to be kept there is lost, and nothing more is written. Reading that failed is told each time. */
  onFault(fault: unknown): void;
}

/** Single positions are kept in blocks of so many. */
const BLOCK_POSITIONS = 32;
/** Of all sequences; a record without data is small, and so many were never open at once. */
const SEQUENCES_MAX = 1_024;

interface Block {
  start: number;
  count: number;
  readonly how: StagePass["how"];
  readonly format: WireFormat;
  /** Of one position. */
  readonly stride: number;
  /** Null once it lies on disk. */
  data: Uint8Array | null;
  offset: number | null;
}

interface Kept {
  blocks: Block[];
  draw: { readonly start: number; readonly draw: NonNullable<StagePass["draw"]> } | null;
  isResting: boolean;
  spilledBytes: number;
  isSpilling: boolean;
}

export class ActivationLog {
  readonly #options: ActivationLogOptions;
  /** The one that was touched longest ago comes first. */
  readonly #kept = new Map<SequenceId, Kept>();
  #memoryBytes = 0;
  #spilledBytes = 0;
  /** The disk failed once: nothing more is written, and what does not fit into memory goes. */
  #isSpillBroken = false;

  constructor(options: ActivationLogOptions) {
    this.#options = options;
  }

  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  get spilledBytes(): number {
    return this.#spilledBytes;
  }

  /** The data is copied. */
  keep(sequence: SequenceId, output: Omit<LoggedPiece, "draw"> & Pick<StagePass, "draw">): void {
    const kept = this.#touched(sequence);
    kept.isResting = false;
    this.#cut(sequence, kept, output.start);
    if (endOf(kept) !== output.start) this.#clear(sequence, kept);
    const stride = output.data.length / output.count;
    const last = kept.blocks.at(-1);
    const isMore =
      last?.data != null &&
      output.how === "singly" &&
      last.how === "singly" &&
      last.format === output.format &&
      last.stride === stride &&
      last.count + output.count <= BLOCK_POSITIONS;
    if (isMore) this.#append(last, output.data, output.count);
    else {
      const { start, count, how, format } = output;
      kept.blocks.push({ start, count, how, format, stride, data: Uint8Array.from(output.data), offset: null });
      this.#memoryBytes += output.data.length;
    }
    kept.draw = output.draw === null ? null : { start: output.start, draw: output.draw };
    this.#keepBounds(sequence);
  }

  /** All positions from `from` to the end are here; there is one at least. */
  covers(sequence: SequenceId, from: number): boolean {
    const kept = this.#kept.get(sequence);
    const [first] = kept?.blocks ?? [];
    return kept !== undefined && first !== undefined && first.start <= from && from < endOf(kept);
  }

  /** Behind the last position; 0 when nothing is here. */
  endOf(sequence: SequenceId): number {
    const kept = this.#kept.get(sequence);
    return kept === undefined ? 0 : endOf(kept);
  }

  /**
   * A piece from `from` on (or from one position before it, where a single one would be left), of at most so many bytes and positions; null when it is
   * not here. It is cut at the next change of how it was decoded.
   */
  async read(
    sequence: SequenceId,
    from: number,
    { bytesMax, positionsMax }: { readonly bytesMax: number; readonly positionsMax: number },
  ): Promise<LoggedPiece | null> {
    const kept = this.#kept.get(sequence);
    if (kept === undefined || !this.covers(sequence, from)) return null;
    const end = endOf(kept);
    const run = runAt(kept.blocks, from);
    const [head] = run;
    if (head === undefined) return null;
    const { how, format, stride } = head;
    const runStart = head.start;
    const runEnd = run.reduce((sum, { count }) => sum + count, runStart);
    const start = how === "together" ? Math.max(runStart, Math.min(from, runEnd - 2)) : from;
    const countMax = Math.max(2, Math.min(positionsMax, Math.floor(bytesMax / stride)));
    let count = Math.min(countMax, runEnd - start);
    // Never all but one.
    if (how === "together" && runEnd - start - count === 1) count = count > 2 ? count - 1 : count + 1;
    const drawn = start + count === end ? kept.draw : null;
    const data = await this.#bytesOf(sequence, run, { start, count });
    if (data === null) return null;
    return { start, count, how, format, data, draw: drawn !== null && drawn.start >= start ? drawn.draw : null };
  }

  /** It runs no more: it goes first when room is needed. */
  rest(sequence: SequenceId): void {
    const kept = this.#kept.get(sequence);
    if (kept !== undefined) kept.isResting = true;
  }

  drop(sequence: SequenceId): void {
    const kept = this.#kept.get(sequence);
    if (kept === undefined) return;
    this.#clear(sequence, kept);
    this.#kept.delete(sequence);
  }

  async close(): Promise<void> {
    for (const sequence of [...this.#kept.keys()]) this.drop(sequence);
    await this.#options.spill?.close();
  }

  // ---------------------------------------------------------------- within

  #touched(sequence: SequenceId): Kept {
    const kept = this.#kept.get(sequence) ?? {
      blocks: [],
      draw: null,
      isResting: false,
      spilledBytes: 0,
      isSpilling: false,
    };
    this.#kept.delete(sequence);
    this.#kept.set(sequence, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > SEQUENCES_MAX && oldest !== undefined) this.drop(oldest);
    return kept;
  }

  #append(block: Block, data: Uint8Array, count: number): void {
    const used = block.count * block.stride;
    let room = block.data ?? new Uint8Array(0);
    if (used + data.length > room.length) {
      const more = new Uint8Array(Math.min(BLOCK_POSITIONS * block.stride, Math.max(used + data.length, used * 2)));
      more.set(room.subarray(0, used));
      this.#memoryBytes += more.length - room.length;
      room = more;
    }
    room.set(data, used);
    block.data = room;
    block.count += count;
  }

  /** Takes away all from `start` on. */
  #cut(sequence: SequenceId, kept: Kept, start: number): void {
    if (endOf(kept) <= start) return;
    const whole = kept.blocks.filter((block) => block.start < start);
    for (const block of kept.blocks) if (block.start >= start) this.#forget(block);
    kept.blocks = whole;
    kept.draw = null;
    const last = whole.at(-1);
    if (last === undefined) {
      this.#clear(sequence, kept);
      return;
    }
    last.count = Math.min(last.count, start - last.start);
    if (!kept.isSpilling || last.data === null) return;
    // The disk may be writing it: what comes behind the cut has to stand elsewhere.
    const own = last.data.slice(0, last.count * last.stride);
    this.#memoryBytes += own.length - last.data.length;
    last.data = own;
  }

  #clear(sequence: SequenceId, kept: Kept): void {
    for (const block of kept.blocks) this.#forget(block);
    kept.blocks = [];
    kept.draw = null;
    this.#spilledBytes -= kept.spilledBytes;
    if (kept.spilledBytes > 0) void this.#options.spill?.drop(sequence);
    kept.spilledBytes = 0;
  }

  #forget(block: Block): void {
    this.#memoryBytes -= block.data?.length ?? 0;
    block.data = null;
  }

  #keepBounds(newest: SequenceId): void {
    const { memoryBytesMax, spillBytesMax } = this.#options;
    const spill = this.#isSpillBroken ? null : this.#options.spill;
    if (this.#memoryBytes <= memoryBytesMax) return;
    if (spill !== null) {
      for (const [sequence, kept] of this.#inOrder()) {
        if (!kept.isSpilling) void this.#spillOut(sequence, kept, spill);
      }
    }
    // Writing takes its time: twice the bound is the end of it.
    const hardMax = spill === null ? memoryBytesMax : memoryBytesMax * 2;
    for (const [sequence, kept] of this.#inOrder()) {
      if (this.#memoryBytes <= hardMax && this.#spilledBytes <= spillBytesMax) return;
      if (sequence !== newest) this.drop(sequence);
      else this.#dropOldest(kept, hardMax);
    }
  }

  #dropOldest(kept: Kept, memoryBytesMax: number): void {
    while (this.#memoryBytes > memoryBytesMax && kept.blocks.length > 1) {
      const [first] = kept.blocks.splice(0, 1);
      if (first !== undefined) this.#forget(first);
    }
  }

  #inOrder(): readonly (readonly [SequenceId, Kept])[] {
    const all = [...this.#kept];
    return [...all.filter(([, { isResting }]) => isResting), ...all.filter(([, { isResting }]) => !isResting)];
  }

  /** Writes what is in memory of one sequence, but for the block that still grows. Never rejects. */
  async #spillOut(sequence: SequenceId, kept: Kept, spill: ActivationSpill): Promise<void> {
    kept.isSpilling = true;
    try {
      for (const block of kept.blocks.slice(0, -1)) {
        const { data } = block;
        if (this.#isSpillBroken) return;
        if (data === null || this.#memoryBytes <= this.#options.memoryBytesMax / 2) continue;
        const bytes = data.subarray(0, block.count * block.stride);
        if (this.#spilledBytes + bytes.length > this.#options.spillBytesMax) break;
        kept.spilledBytes += bytes.length;
        this.#spilledBytes += bytes.length;
        const offset = await spill.append(sequence, bytes);
        // It was taken away, or cut, meanwhile: a shorter one lies there all the same.
        if (block.data !== data) continue;
        block.offset = offset;
        this.#forget(block);
      }
    } catch (fault) {
      // Others were on their way to the disk, too: one word of it is enough.
      if (this.#isSpillBroken) return;
      this.#isSpillBroken = true;
      this.#options.onFault(fault);
    } finally {
      kept.isSpilling = false;
    }
  }

  async #bytesOf(
    sequence: SequenceId,
    run: readonly Block[],
    { start, count }: { readonly start: number; readonly count: number },
  ): Promise<Uint8Array | null> {
    const stride = run[0]?.stride ?? 0;
    const whole = new Uint8Array(count * stride);
    const parts = run.map(({ start: at, count: of, data, offset }) => ({ at, of, data, offset }));
    for (const { at, of, data, offset } of parts) {
      const [from, to] = [Math.max(start, at), Math.min(start + count, at + of)];
      if (from >= to) continue;
      const place = { offset: (from - at) * stride, length: (to - from) * stride };
      let bytes = data?.subarray(place.offset, place.offset + place.length) ?? null;
      if (bytes === null) {
        if (offset === null || this.#options.spill === null) return null;
        try {
          bytes = await this.#options.spill.read(sequence, { ...place, offset: offset + place.offset });
        } catch (fault) {
          this.#options.onFault(fault);
          return null;
        }
      }
      whole.set(bytes, (from - start) * stride);
    }
    return whole;
  }
}

function endOf({ blocks }: Kept): number {
  const last = blocks.at(-1);
  return last === undefined ? 0 : last.start + last.count;
}

/** Blocks that follow each other, alike in how and format, around the one that holds the position; none before its own where it is `singly`. */
function runAt(blocks: readonly Block[], position: number): readonly Block[] {
  const at = blocks.findIndex(({ start, count }) => start <= position && position < start + count);
  const own = blocks[at];
  if (own === undefined) return [];
  const isAlike = (block: Block | undefined) =>
    block !== undefined && block.how === own.how && block.format === own.format && block.stride === own.stride;
  let [from, to] = [at, at + 1];
  while (own.how === "together" && isAlike(blocks[from - 1])) from--;
  while (isAlike(blocks[to])) to++;
  return blocks.slice(from, to);
}
