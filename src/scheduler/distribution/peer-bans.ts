/**
 * Whom this node does not ask for chunks, and until when. What somebody sent is judged here and nowhere else.
 *
 * | event         | the peer is left alone                              | reported                     |
 * | ------------- | --------------------------------------------------- | ---------------------------- |
 * | bad-chunk     | for the session                                     | always                       |
 * | wrong-length  | for the session                                     | always                       |
 * | breach        | 2 min, doubling to 1 h; from the 5th on the session | always                       |
 * | too-slow      | 30 s, doubling to 15 min                            | at the 1st in a row          |
 * | unreachable   | 5 s, doubling to 5 min                              | at the 1st in a row          |
 * | expired       | not at all: a new grant is right; from the 3rd in a row as unreachable | never      |
 * | served        | is free again and counts from the start, unless it is banned for the session | –    |
 *
 * A bad chunk is no accident: carriers are authenticated and checked, so the other end has rotten bytes or means it. Times are spread by a
 * draw, so that many nodes that lost one holder do not return to it together.
 */
import type { NodeId } from "../../domain/ids.ts";

export type PeerOffence = "bad-chunk" | "wrong-length" | "too-slow" | "breach" | "unreachable" | "expired";

export interface BanDecision {
  /** Infinity for the session; the time of the event when it is not banned. */
  readonly untilMs: number;
  /** Tell the coordinator. */
  readonly isReported: boolean;
}

interface Record {
  untilMs: number;
  /** In a row, by kind; `served` ends the row. */
  readonly counts: Map<PeerOffence, number>;
  lastEventMs: number;
}

/** Above what one node meets; beyond it the record that is closest to its end goes. */
export const PEER_RECORDS_MAX = 1_024;
const BREACHES_MAX = 5;
const EXPIRED_FORGIVEN = 2;
const BACKOFFS: Readonly<{ [kind in "breach" | "too-slow" | "unreachable"]: { firstMs: number; mostMs: number } }> = {
  breach: { firstMs: 120_000, mostMs: 3_600_000 },
  "too-slow": { firstMs: 30_000, mostMs: 900_000 },
  unreachable: { firstMs: 5_000, mostMs: 300_000 },
};
/** A wait is between this share of its backoff and all of it. */
const SPREAD_FROM = 0.75;

export class PeerBans {
  readonly #records = new Map<NodeId, Record>();

  /** `draw` is 0 to 1. */
  report(
    nodeId: NodeId,
    event: { readonly offence: PeerOffence; readonly nowMs: number; readonly draw: number },
  ): BanDecision {
    const { offence, nowMs, draw } = event;
    const record = this.#recordOf(nodeId, nowMs);
    record.lastEventMs = nowMs;
    const count = (record.counts.get(offence) ?? 0) + 1;
    record.counts.set(offence, count);
    const waitMs = waitFor(offence, count, draw);
    if (waitMs > 0) record.untilMs = Math.max(record.untilMs, nowMs + waitMs);
    this.#shrink(nodeId);
    return { untilMs: Math.max(record.untilMs, nowMs), isReported: isReported(offence, count) };
  }

  /** It gave a whole, right chunk. */
  served(nodeId: NodeId): void {
    if (this.#records.get(nodeId)?.untilMs !== Number.POSITIVE_INFINITY) this.#records.delete(nodeId);
  }

  isBanned(nodeId: NodeId, nowMs: number): boolean {
    return nowMs < (this.#records.get(nodeId)?.untilMs ?? Number.NEGATIVE_INFINITY);
  }

  /** When the next ban ends; null when none will. */
  nextEndMs(nowMs: number): number | null {
    let next: number | null = null;
    for (const { untilMs } of this.#records.values()) {
      if (untilMs > nowMs && Number.isFinite(untilMs) && (next === null || untilMs < next)) next = untilMs;
    }
    return next;
  }

  /** Sorted by id. */
  banned(nowMs: number): readonly NodeId[] {
    return [...this.#records.keys()].filter((nodeId) => this.isBanned(nodeId, nowMs)).sort();
  }

  get size(): number {
    return this.#records.size;
  }

  #recordOf(nodeId: NodeId, nowMs: number): Record {
    const known = this.#records.get(nodeId);
    if (known !== undefined) return known;
    const fresh: Record = { untilMs: Number.NEGATIVE_INFINITY, counts: new Map(), lastEventMs: nowMs };
    this.#records.set(nodeId, fresh);
    return fresh;
  }

  #shrink(keep: NodeId): void {
    if (this.#records.size <= PEER_RECORDS_MAX) return;
    let first: NodeId | null = null;
    for (const [nodeId, record] of this.#records) {
      if (nodeId === keep) continue;
      const best = first === null ? undefined : this.#records.get(first);
      if (best === undefined || isEarlier(record, best)) first = nodeId;
    }
    if (first !== null) this.#records.delete(first);
  }
}

function waitFor(offence: PeerOffence, count: number, draw: number): number {
  switch (offence) {
    case "bad-chunk":
    case "wrong-length":
      return Number.POSITIVE_INFINITY;
    case "breach":
      return count >= BREACHES_MAX ? Number.POSITIVE_INFINITY : backoff("breach", count, draw);
    case "too-slow":
    case "unreachable":
      return backoff(offence, count, draw);
    case "expired":
      return count <= EXPIRED_FORGIVEN ? 0 : backoff("unreachable", count - EXPIRED_FORGIVEN, draw);
  }
}

function backoff(kind: keyof typeof BACKOFFS, count: number, draw: number): number {
  const { firstMs, mostMs } = BACKOFFS[kind];
  const waitMs = Math.min(mostMs, firstMs * 2 ** Math.min(count - 1, 20));
  return Math.round(waitMs * (SPREAD_FROM + (1 - SPREAD_FROM) * draw));
}

function isReported(offence: PeerOffence, count: number): boolean {
  switch (offence) {
    case "bad-chunk":
    case "wrong-length":
    case "breach":
      return true;
    case "too-slow":
    case "unreachable":
      return count === 1;
    case "expired":
      return false;
  }
}

function isEarlier(a: Record, b: Record): boolean {
  return a.untilMs < b.untilMs || (a.untilMs === b.untilMs && a.lastEventMs < b.lastEventMs);
}
