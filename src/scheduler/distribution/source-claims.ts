/**
 * Who takes which chunk of one model from the source. The source is the last resort: a chunk goes to one node at a time, and only when
 * nobody that the node can reach has it, so that however many start together the source sends the model about once.
 *
 * | chunk, seen by the node that asks                        | answer                                             |
 * | -------------------------------------------------------- | -------------------------------------------------- |
 * | given to it before, and it asks again                     | again: an earlier try failed; the time does not grow |
 * | given to another node, not lapsed                         | not: the other brings it                           |
 * | a serving holder has it that the node did not name unreachable | not                                           |
 * | as before, but all such holders have been saturated long  | given, within `RELIEF_SHARE` of the model an hour   |
 * | nobody serves it                                          | given, the rarest first                            |
 *
 * Relief: where all uploads are taken for long, more copies are what is missing, and a chunk from the source makes one more holder.
 * The bound keeps a crowd from turning to the source; it is what the source may send beyond the model and lost claims.
 *
 * A claim lapses `CLAIM_TTL_MS` after it was given or after its node last brought one of its chunks; then others may have it, and the
 * node that let it lapse waits `LAPSED_WAIT_MS`, so that one that is stuck does not take the same chunks again and again. A node that
 * brings chunks ahead of need gets none while others ask. Chunks are given in blocks: long ranges are what sources are good at.
 *
 * Cost of a claim: a few passes over bitmaps (12 KB for 100,000 chunks) and a walk that stops when enough are found; one over all needed
 * chunks only for a node that named holders unreachable, or where some are saturated.
 */
import { assert } from "../../domain/assert.ts";
import { type ChunkRun, ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";

/** A 4 MiB chunk comes within this at 600 kbit/s. */
export const CLAIM_TTL_MS = 60_000;
export const LAPSED_WAIT_MS = 15_000;
/** How long uploads must have been full before the source helps. */
export const SATURATED_MS = 20_000;
/** Of the model's chunks, an hour. */
export const RELIEF_SHARE = 0.1;
/** Within this after somebody who waits has asked, those ahead of need get none. */
const URGENT_MS = 10_000;
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5_000;
/** 16 MiB of the default chunks in one range request. */
const BLOCK_CHUNKS = 16;
const HOUR_MS = 3_600_000;

export interface ClaimAsk {
  readonly nodeId: NodeId;
  /** What it still lacks and does not fetch already. */
  readonly need: ChunkSet;
  /** Most chunks that it may hold claims on at once. */
  readonly chunksMax: number;
  /** Holders that it tried and could not get chunks from. */
  readonly unreachable: ReadonlySet<NodeId>;
  readonly isIdle: boolean;
}

export interface ClaimAnswer {
  readonly runs: readonly ChunkRun[];
  readonly ttlMs: number;
  readonly retryAfterMs: number;
}

export interface HolderState {
  readonly chunks: ChunkSet;
  readonly uploads: number;
  /** 0: it serves nobody (the owner is there, or it does not want to). */
  readonly uploadsMax: number;
}

interface HolderRecord {
  chunks: ChunkSet;
  isServing: boolean;
  saturatedSinceMs: number | null;
}

interface NodeClaims {
  untilMs: number;
  readonly chunks: Set<number>;
}

export class SourceClaims {
  readonly #chunkCount: number;
  readonly #holders = new Map<NodeId, HolderRecord>();
  /** Serving holders of each chunk. */
  readonly #served: Uint16Array;
  /** Chunks with a serving holder, and chunks with a claim: as sets, so that most are passed over a byte at a time. */
  readonly #servedAny: ChunkSet;
  readonly #claimed: ChunkSet;
  readonly #claims = new Map<NodeId, NodeClaims>();
  readonly #lapsedUntilMs = new Map<NodeId, number>();
  readonly #blocks: Uint32Array;
  #nextBlock = 0;
  #urgentUntilMs = Number.NEGATIVE_INFINITY;
  #reliefChunks: number;
  #reliefAtMs = Number.NEGATIVE_INFINITY;
  #givenCount = 0;
  #lostCount = 0;

  constructor(options: { readonly chunkCount: number; readonly seed: number }) {
    const { chunkCount, seed } = options;
    this.#chunkCount = chunkCount;
    this.#served = new Uint16Array(chunkCount);
    this.#servedAny = new ChunkSet(chunkCount);
    this.#claimed = new ChunkSet(chunkCount);
    this.#blocks = shuffled(Math.ceil(chunkCount / BLOCK_CHUNKS), seed);
    this.#reliefChunks = chunkCount * RELIEF_SHARE;
  }

  /** Chunks given so far, and how many of those lapsed or went with their node. */
  get counts(): { readonly given: number; readonly lost: number; readonly live: number } {
    return { given: this.#givenCount, lost: this.#lostCount, live: this.#claimed.size };
  }

  /** The node was given all of these chunks, and has not brought or lost one of them. */
  holds(nodeId: NodeId, [first, count]: ChunkRun): boolean {
    const own = this.#claims.get(nodeId)?.chunks;
    if (own === undefined || count > own.size) return false;
    for (let chunk = first; chunk < first + count; chunk++) if (!own.has(chunk)) return false;
    return true;
  }

  /** Chunks that the node was given and has not brought. */
  heldBy(nodeId: NodeId): ReadonlySet<number> {
    return this.#claims.get(nodeId)?.chunks ?? new Set();
  }

  /** It wants no more: what it claimed goes to others, and what it has stays. */
  endClaims(nodeId: NodeId): void {
    this.#release(nodeId);
  }

  /** Somebody who waits asked lately, and chunks are on their way. */
  isUrgent(nowMs: number): boolean {
    return nowMs < this.#urgentUntilMs && this.#claimed.size > 0;
  }

  /** What a node has and how busy it is, as it says. The set must not change afterwards. */
  setHolder(nodeId: NodeId, state: HolderState, nowMs: number): void {
    const { chunks, uploads, uploadsMax } = state;
    assert(chunks.chunkCount === this.#chunkCount, `a holder's set is of ${this.#chunkCount} chunks`);
    const before = this.#holders.get(nodeId);
    const isSaturated = uploadsMax > 0 && uploads >= uploadsMax;
    const saturatedSinceMs = isSaturated ? (before?.saturatedSinceMs ?? nowMs) : null;
    const isServing = uploadsMax > 0;
    this.#holders.set(nodeId, { chunks, isServing, saturatedSinceMs });
    // Only what changed: nodes tell all they have, twice a second.
    const counted = before?.isServing === true ? before.chunks : new ChunkSet(this.#chunkCount);
    const counts = isServing ? chunks : new ChunkSet(this.#chunkCount);
    this.#count(counted.minus(counts), -1);
    this.#count(counts.minus(counted), 1);
    this.#arrived(nodeId, chunks, nowMs);
  }

  /** Its link is down: what it has is not to be had, what it claimed goes to others. */
  dropNode(nodeId: NodeId): void {
    const holder = this.#holders.get(nodeId);
    if (holder?.isServing === true) this.#count(holder.chunks, -1);
    this.#holders.delete(nodeId);
    this.#lapsedUntilMs.delete(nodeId);
    this.#release(nodeId);
  }

  claim(ask: ClaimAsk, nowMs: number): ClaimAnswer {
    this.#lapse(nowMs);
    if (!ask.isIdle) this.#urgentUntilMs = nowMs + URGENT_MS;
    if (ask.isIdle && nowMs < this.#urgentUntilMs) return nothing(this.#urgentUntilMs - nowMs);
    const lapsedMs = (this.#lapsedUntilMs.get(ask.nodeId) ?? nowMs) - nowMs;
    if (lapsedMs > 0) return nothing(lapsedMs);
    const own = this.#claims.get(ask.nodeId);
    const again = own === undefined ? [] : [...own.chunks].filter((chunk) => ask.need.has(chunk));
    const room = ask.chunksMax - (own?.chunks.size ?? 0);
    const fresh = room <= 0 ? [] : this.#find(ask, room, nowMs);
    this.#give(ask.nodeId, fresh, nowMs);
    const given = [...again, ...fresh];
    if (given.length === 0) return nothing(this.#untilFirstLapse(nowMs));
    const untilMs = this.#claims.get(ask.nodeId)?.untilMs ?? nowMs;
    return {
      runs: ChunkSet.of(
        this.#chunkCount,
        given.map((chunk) => [chunk, 1]),
      ).runs(),
      ttlMs: untilMs - nowMs,
      retryAfterMs: RETRY_MS_MIN,
    };
  }

  #find(ask: ClaimAsk, room: number, nowMs: number): readonly number[] {
    const free = ask.need.minus(this.#claimed);
    const unserved = free.minus(this.#servedAny);
    const found: number[] = [];
    if (unserved.size > 0) {
      for (const chunk of this.#inBlocks()) {
        if (unserved.has(chunk)) found.push(chunk);
        if (found.length === Math.min(room, unserved.size)) break;
      }
    }
    return found.length === room
      ? found
      : [...found, ...this.#findHeld(ask, free.minus(unserved), room - found.length, nowMs)];
  }

  /** Among chunks that somebody serves: those that the node cannot reach, or that are nowhere to be had soon. */
  #findHeld(ask: ClaimAsk, held: ChunkSet, room: number, nowMs: number): readonly number[] {
    const out = this.#outOfReach(ask, nowMs);
    if (held.size === 0 || out.unreachable.length + out.saturated.length === 0) return [];
    const found: { readonly chunk: number; readonly served: number }[] = [];
    let relief = this.#reliefAt(nowMs);
    for (const chunk of this.#inBlocks()) {
      if (!held.has(chunk)) continue;
      const served = this.#served[chunk] ?? 0;
      const unreached = out.unreachable.filter((holder) => holder.chunks.has(chunk)).length;
      if (served > unreached) {
        if (relief < 1 || ask.isIdle || out.saturated.length === 0) continue;
        if (served > unreached + out.saturated.filter((holder) => holder.chunks.has(chunk)).length) continue;
        relief--;
      }
      found.push({ chunk, served });
    }
    found.sort((a, b) => a.served - b.served || a.chunk - b.chunk);
    const rest = found.slice(0, room).map(({ chunk }) => chunk);
    this.#spendRelief(rest, out.unreachable);
    return rest;
  }

  /** Serving holders that this node cannot count on. */
  #outOfReach(
    ask: ClaimAsk,
    nowMs: number,
  ): { readonly unreachable: readonly HolderRecord[]; readonly saturated: readonly HolderRecord[] } {
    const unreachable: HolderRecord[] = [];
    const saturated: HolderRecord[] = [];
    for (const [nodeId, holder] of this.#holders) {
      if (!holder.isServing) continue;
      if (nodeId === ask.nodeId || ask.unreachable.has(nodeId)) unreachable.push(holder);
      else if (holder.saturatedSinceMs !== null && nowMs - holder.saturatedSinceMs >= SATURATED_MS)
        saturated.push(holder);
    }
    return { unreachable, saturated };
  }

  #reliefAt(nowMs: number): number {
    const most = this.#chunkCount * RELIEF_SHARE;
    const passedMs = Math.max(0, nowMs - this.#reliefAtMs);
    this.#reliefChunks = Math.min(most, this.#reliefChunks + (most * passedMs) / HOUR_MS);
    this.#reliefAtMs = nowMs;
    return this.#reliefChunks;
  }

  #spendRelief(chunks: readonly number[], unreachable: readonly HolderRecord[]): void {
    for (const chunk of chunks) {
      const unreached = unreachable.filter((holder) => holder.chunks.has(chunk)).length;
      if ((this.#served[chunk] ?? 0) > unreached) this.#reliefChunks--;
    }
  }

  /** All chunks, block after block from where the last claim stopped, each block in order. */
  *#inBlocks(): Iterable<number> {
    const start = this.#nextBlock;
    for (let step = 0; step < this.#blocks.length; step++) {
      this.#nextBlock = (start + step) % this.#blocks.length;
      const first = (this.#blocks[this.#nextBlock] ?? 0) * BLOCK_CHUNKS;
      const end = Math.min(this.#chunkCount, first + BLOCK_CHUNKS);
      for (let chunk = first; chunk < end; chunk++) yield chunk;
    }
  }

  #give(nodeId: NodeId, chunks: readonly number[], nowMs: number): void {
    if (chunks.length === 0) return;
    const claims = this.#claims.get(nodeId) ?? { untilMs: 0, chunks: new Set<number>() };
    claims.untilMs = nowMs + CLAIM_TTL_MS;
    for (const chunk of chunks) {
      claims.chunks.add(chunk);
      this.#claimed.add(chunk);
    }
    this.#claims.set(nodeId, claims);
    this.#givenCount += chunks.length;
  }

  #arrived(nodeId: NodeId, chunks: ChunkSet, nowMs: number): void {
    const claims = this.#claims.get(nodeId);
    if (claims === undefined) return;
    for (const chunk of [...claims.chunks]) {
      if (!chunks.has(chunk)) continue;
      claims.chunks.delete(chunk);
      this.#claimed.delete(chunk);
      claims.untilMs = nowMs + CLAIM_TTL_MS;
    }
    if (claims.chunks.size === 0) this.#claims.delete(nodeId);
  }

  #lapse(nowMs: number): void {
    for (const [nodeId, untilMs] of this.#lapsedUntilMs) if (untilMs <= nowMs) this.#lapsedUntilMs.delete(nodeId);
    for (const [nodeId, { untilMs }] of this.#claims) {
      if (untilMs > nowMs) continue;
      this.#release(nodeId);
      this.#lapsedUntilMs.set(nodeId, nowMs + LAPSED_WAIT_MS);
    }
  }

  #release(nodeId: NodeId): void {
    const claims = this.#claims.get(nodeId);
    if (claims === undefined) return;
    for (const chunk of claims.chunks) this.#claimed.delete(chunk);
    this.#lostCount += claims.chunks.size;
    this.#claims.delete(nodeId);
  }

  #untilFirstLapse(nowMs: number): number {
    let firstMs = Number.POSITIVE_INFINITY;
    for (const { untilMs } of this.#claims.values()) firstMs = Math.min(firstMs, untilMs);
    return firstMs - nowMs;
  }

  #count(chunks: ChunkSet, change: 1 | -1): void {
    for (const chunk of chunks) {
      const served = (this.#served[chunk] ?? 0) + change;
      this.#served[chunk] = served;
      if (served === 0) this.#servedAny.delete(chunk);
      else this.#servedAny.add(chunk);
    }
  }
}

function nothing(waitMs: number): ClaimAnswer {
  return { runs: [], ttlMs: 0, retryAfterMs: Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, Math.ceil(waitMs))) };
}

/** Fisher and Yates, by a linear congruential generator (Numerical Recipes): an order that is spread, not secret. */
function shuffled(count: number, seed: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  let state = seed >>> 0;
  for (let at = count - 1; at > 0; at--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (at + 1));
    const moved = order[at] ?? 0;
    order[at] = order[other] ?? 0;
    order[other] = moved;
  }
  return order;
}
