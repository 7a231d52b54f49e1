/**
 * Which chunk a node asks next, and whom. Rarest first: a chunk that few have is taken before one that many have, so that everything is
 * soon in several places and a holder that leaves takes nothing with it. Among equally rare ones a seeded draw decides, so that nodes
 * that start together ask for different chunks and then have something for each other. Of the holders that have it, the one that is
 * expected to deliver first is asked.
 *
 * | chunk      | next               | done      | release / refuse / holder gone           |
 * | ---------- | ------------------ | --------- | ---------------------------------------- |
 * | wanted     | in flight           | done      | ignored: it was not in flight             |
 * | in flight  | doubled (endgame)   | done      | wanted again when no other flight is left |
 * | done       | bug                 | ignored   | ignored: a doubled one came first         |
 *
 * How many chunks one holder is asked for at once follows its bandwidth-delay product: enough to keep the way full, no more, so that a
 * slow holder keeps few chunks waiting. The endgame: when nothing is left to ask for, what is in flight at a slow holder is asked for
 * once more at one that is expected to be at least twice as fast.
 *
 * Cost: `next` looks at the holders (64 at most) and at up to `LOOKS_MAX` chunks of the order; when all of these are at busy holders it
 * walks one holder's own set from where it stopped last. `done`, `release` and a chunk that a holder gains cost O(holders).
 */
import { assert } from "../../domain/assert.ts";
import { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import { expectedMs, Holder, type HolderMeasure, type HolderOffer, slotsOf } from "./chunk-holder.ts";
import { AVAILABILITY_MAX, RarestOrder } from "./rarest-order.ts";

export type Supplier = NodeId | "source";

export interface ChunkPick {
  readonly chunk: number;
  readonly nodeId: NodeId;
  /** Somebody else was asked for it before: whoever comes first wins, `done` names those to cancel. */
  readonly isDuplicate: boolean;
  readonly expectedMs: number;
}

interface Flight {
  readonly supplier: Supplier;
  readonly startedMs: number;
  /** Null from the source: nobody is asked twice for that. */
  readonly expectedMs: number | null;
}

export const HOLDERS_MAX = AVAILABILITY_MAX;
const LOOKS_MAX = 2_048;
const COPIES_MAX = 2;
/** A second holder must be expected this much sooner: a copy costs the bytes of a chunk. */
const ENDGAME_GAIN = 2;

export class NextChunks {
  readonly #chunkBytes: number;
  readonly #wanted: RarestOrder;
  readonly #missing: ChunkSet;
  readonly #done: ChunkSet;
  readonly #availability: Uint8Array;
  readonly #flights = new Map<number, Flight[]>();
  readonly #holders = new Map<NodeId, Holder>();
  #random: number;

  constructor(options: {
    readonly needed: ChunkSet;
    readonly have: ChunkSet;
    readonly chunkBytes: number;
    readonly seed: number;
  }) {
    const { needed, have, chunkBytes, seed } = options;
    this.#chunkBytes = chunkBytes;
    this.#wanted = new RarestOrder(needed.chunkCount);
    this.#missing = new ChunkSet(needed.chunkCount);
    this.#done = have.clone();
    this.#availability = new Uint8Array(needed.chunkCount);
    this.#random = seed | 0;
    this.need(needed);
  }

  /** Needed and not here; in flight ones included. */
  get missingCount(): number {
    return this.#missing.size;
  }

  get inFlightCount(): number {
    return this.#flights.size;
  }

  /** More layers are needed. */
  need(chunks: ChunkSet): void {
    for (const chunk of chunks) {
      if (this.#done.has(chunk) || !this.#missing.add(chunk)) continue;
      this.#want(chunk);
    }
  }

  /** A holder, or what it has by now. Beyond `HOLDERS_MAX` a further one is not taken: false. */
  setHolder(offer: HolderOffer): boolean {
    let holder = this.#holders.get(offer.nodeId);
    if (holder === undefined) {
      if (this.#holders.size >= HOLDERS_MAX) return false;
      const count = this.#availability.length;
      holder = new Holder(offer.nodeId, Math.floor(this.#draw() * count), count);
      this.#holders.set(offer.nodeId, holder);
    }
    holder.rank = offer.rank;
    holder.uploadsFree = offer.uploadsFree;
    for (const chunk of holder.chunks.minus(offer.chunks)) this.#lose(holder, chunk);
    for (const chunk of offer.chunks.minus(holder.chunks)) if (!holder.refused.has(chunk)) this.#gain(holder, chunk);
    return true;
  }

  /** It is gone, banned or unreachable: what it was asked for is wanted again. Returns those chunks. */
  dropHolder(nodeId: NodeId): readonly number[] {
    const holder = this.#holders.get(nodeId);
    if (holder === undefined) return [];
    const asked = [...holder.asked].sort((a, b) => a - b);
    for (const chunk of asked) this.release(chunk, nodeId);
    for (const chunk of holder.chunks.clone()) this.#lose(holder, chunk);
    this.#holders.delete(nodeId);
    return asked;
  }

  /** What was measured of a holder: the round trip, and the bytes a second of all that comes from it. */
  measure(nodeId: NodeId, measured: HolderMeasure): void {
    this.#holders.get(nodeId)?.measure(measured);
  }

  /** It said that it is busy: not asked before then. */
  pause(nodeId: NodeId, untilMs: number): void {
    const holder = this.#holders.get(nodeId);
    if (holder !== undefined) holder.pausedUntilMs = untilMs;
  }

  /** Null when nothing is to be asked of anybody at this moment; call again after any event. */
  next(nowMs: number): ChunkPick | null {
    const ready = this.#ready(nowMs);
    const able = ready.filter((holder) => holder.wantedCount > 0);
    const found = able.length === 0 ? null : (this.#rarest(able) ?? this.#anyOf(able));
    if (found === null) return this.#double(ready, nowMs);
    this.#unwant(found.chunk);
    return this.#ask(found.chunk, found.holder, { nowMs, isDuplicate: false });
  }

  /** Chunks that no holder here has and nobody is asked for: what to claim from the source. */
  orphans(): ChunkSet {
    const orphans = new ChunkSet(this.#availability.length);
    for (let place = 0; place < this.#wanted.sizeOf(0); place++) orphans.add(this.#wanted.at(0, place));
    return orphans;
  }

  /** The coordinator gave this chunk to this node to take from the source. False when it is in flight or here: then it is not fetched there. */
  takeFromSource(chunk: number, nowMs: number): boolean {
    if (!this.#wanted.has(chunk)) return false;
    this.#unwant(chunk);
    this.#flights.set(chunk, [{ supplier: "source", startedMs: nowMs, expectedMs: null }]);
    return true;
  }

  /** It is here and right. Returns who else was asked for it, to be cancelled. */
  done(chunk: number, from: Supplier): readonly Supplier[] {
    if (!this.#done.add(chunk)) return [];
    if (this.#wanted.has(chunk)) this.#unwant(chunk);
    this.#missing.delete(chunk);
    const flights = this.#flights.get(chunk) ?? [];
    this.#flights.delete(chunk);
    for (const { supplier } of flights) if (supplier !== "source") this.#holders.get(supplier)?.asked.delete(chunk);
    if (from !== "source") this.#holders.get(from)?.delivered();
    return flights.map(({ supplier }) => supplier).filter((supplier) => supplier !== from);
  }

  /** It was cut short or took too long: the holder may be asked again, for fewer at once. */
  release(chunk: number, from: Supplier): void {
    const flights = this.#flights.get(chunk);
    const left = flights?.filter(({ supplier }) => supplier !== from) ?? [];
    if (flights === undefined || left.length === flights.length) return;
    const holder = from === "source" ? undefined : this.#holders.get(from);
    holder?.asked.delete(chunk);
    holder?.failed();
    if (left.length > 0) {
      this.#flights.set(chunk, left);
      return;
    }
    this.#flights.delete(chunk);
    this.#want(chunk);
  }

  /** The holder does not give this chunk: it is not asked for it again. */
  refuse(chunk: number, nodeId: NodeId): void {
    this.release(chunk, nodeId);
    const holder = this.#holders.get(nodeId);
    if (holder === undefined) return;
    holder.refused.add(chunk);
    if (holder.chunks.has(chunk)) this.#lose(holder, chunk);
  }

  /** The soonest to deliver first. */
  #ready(nowMs: number): readonly Holder[] {
    const ready = [...this.#holders.values()].filter(
      (holder) => holder.pausedUntilMs <= nowMs && holder.asked.size < slotsOf(holder, this.#chunkBytes),
    );
    const expected = new Map(ready.map((holder) => [holder, expectedMs(holder, this.#chunkBytes)]));
    const of = (holder: Holder): number => expected.get(holder) ?? 0;
    return ready.sort((a, b) => of(a) - of(b) || a.rank - b.rank || (a.nodeId < b.nodeId ? -1 : 1));
  }

  #rarest(able: readonly Holder[]): { readonly chunk: number; readonly holder: Holder } | null {
    let looks = 0;
    for (let availability = 1; availability <= this.#holders.size; availability++) {
      const size = this.#wanted.sizeOf(availability);
      const start = size === 0 ? 0 : Math.floor(this.#draw() * size);
      for (let step = 0; step < size; step++) {
        if (++looks > LOOKS_MAX) return null;
        const chunk = this.#wanted.at(availability, (start + step) % size);
        const holder = able.find((one) => one.chunks.has(chunk));
        if (holder !== undefined) return { chunk, holder };
      }
    }
    return null;
  }

  /** The rare ones are all at busy holders: any that a free one has. */
  #anyOf(able: readonly Holder[]): { readonly chunk: number; readonly holder: Holder } | null {
    const [holder] = able;
    if (holder === undefined) return null;
    const count = this.#availability.length;
    for (let step = 0; step < count; step++) {
      const chunk = (holder.cursor + step) % count;
      if (!holder.chunks.has(chunk) || !this.#wanted.has(chunk)) continue;
      holder.cursor = chunk + 1;
      return { chunk, holder };
    }
    assert(false, `a holder of ${holder.wantedCount} wanted chunks has one of them`);
  }

  #double(ready: readonly Holder[], nowMs: number): ChunkPick | null {
    for (const holder of ready) {
      const ownMs = expectedMs(holder, this.#chunkBytes);
      let latest: { readonly chunk: number; readonly leftMs: number } | null = null;
      for (const [chunk, flights] of this.#flights) {
        const [flight] = flights;
        if (flight === undefined || flight.expectedMs === null || flights.length >= COPIES_MAX) continue;
        if (flight.supplier === holder.nodeId || !holder.chunks.has(chunk)) continue;
        const leftMs = leftOf(flight.expectedMs, nowMs - flight.startedMs);
        if (leftMs < ENDGAME_GAIN * ownMs || (latest !== null && leftMs <= latest.leftMs)) continue;
        latest = { chunk, leftMs };
      }
      if (latest !== null) return this.#ask(latest.chunk, holder, { nowMs, isDuplicate: true });
    }
    return null;
  }

  #ask(chunk: number, holder: Holder, how: { readonly nowMs: number; readonly isDuplicate: boolean }): ChunkPick {
    const ms = expectedMs(holder, this.#chunkBytes);
    const flights = this.#flights.get(chunk) ?? [];
    flights.push({ supplier: holder.nodeId, startedMs: how.nowMs, expectedMs: ms });
    this.#flights.set(chunk, flights);
    holder.asked.add(chunk);
    return { chunk, nodeId: holder.nodeId, isDuplicate: how.isDuplicate, expectedMs: ms };
  }

  #want(chunk: number): void {
    this.#wanted.add(chunk, this.#availability[chunk] ?? 0);
    for (const holder of this.#holders.values()) if (holder.chunks.has(chunk)) holder.wantedCount++;
  }

  #unwant(chunk: number): void {
    this.#wanted.remove(chunk, this.#availability[chunk] ?? 0);
    for (const holder of this.#holders.values()) if (holder.chunks.has(chunk)) holder.wantedCount--;
  }

  #gain(holder: Holder, chunk: number): void {
    if (!holder.chunks.add(chunk)) return;
    const availability = this.#availability[chunk] ?? 0;
    this.#availability[chunk] = availability + 1;
    if (!this.#wanted.has(chunk)) return;
    this.#wanted.raise(chunk, availability);
    holder.wantedCount++;
  }

  #lose(holder: Holder, chunk: number): void {
    if (!holder.chunks.delete(chunk)) return;
    const availability = this.#availability[chunk] ?? 0;
    this.#availability[chunk] = availability - 1;
    if (!this.#wanted.has(chunk)) return;
    this.#wanted.lower(chunk, availability);
    holder.wantedCount--;
  }

  /** Mulberry32: 0 to 1, the same for the same seed. */
  #draw(): number {
    this.#random = (this.#random + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#random ^ (this.#random >>> 15), 1 | this.#random);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** What is left of a wait; one that is overdue is expected to take as long again as it took. */
function leftOf(expected: number, waitedMs: number): number {
  return waitedMs < expected ? expected - waitedMs : waitedMs;
}
