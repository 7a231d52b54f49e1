/**
 * Who takes which chunks of one model from the source. A chunk is given to one node at a time, and only while no holder could give it, so
 * the source sends a model about once however many nodes start together: each brings another part of it into the grid, and they fetch the
 * rest from each other.
 *
 * | event                       | claim                                                                       |
 * | --------------------------- | --------------------------------------------------------------------------- |
 * | asked for, nobody brings it | given until `untilMs`                                                        |
 * | asked for by its claimant   | given on                                                                    |
 * | the claimant tells it has it | ended                                                                      |
 * | time is over                | stays with its claimant until another node asks for the chunk, then goes there |
 * | the claimant is gone or done | ended                                                                      |
 */
import type { ChunkRun, ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";

/** Of one node at once: what it takes from the source must be in the grid before it gets more. */
export const CLAIMED_PER_NODE_MAX = 256;

export interface ClaimAsk {
  readonly nodeId: NodeId;
  readonly need: ChunkSet;
  /** At least 1. */
  readonly chunksMax: number;
  /** Chunks that the node can get from a holder. */
  readonly elsewhere: ChunkSet;
  readonly nowMs: number;
  readonly untilMs: number;
  /** Ahead of need. */
  readonly isIdle: boolean;
}

interface Claim {
  readonly nodeId: NodeId;
  readonly untilMs: number;
  readonly isIdle: boolean;
}

export class SourceClaims {
  readonly #byChunk = new Map<number, Claim>();
  readonly #byNode = new Map<NodeId, Set<number>>();
  /** Where the search goes on: chunks are given round and round, so that none waits for the end of all others. */
  #cursor = 0;

  /** Chunks that somebody was given and has not brought. */
  get size(): number {
    return this.#byChunk.size;
  }

  countOf(nodeId: NodeId): number {
    return this.#byNode.get(nodeId)?.size ?? 0;
  }

  /** Ascending. Its own claims first, then chunks that nobody brings; never more than `CLAIMED_PER_NODE_MAX` in all. */
  give(ask: ClaimAsk): readonly number[] {
    const { nodeId, need, elsewhere, nowMs, untilMs, isIdle } = ask;
    const wanted = need.minus(elsewhere);
    const own = [...(this.#byNode.get(nodeId) ?? [])].filter((chunk) => wanted.has(chunk)).sort((a, b) => a - b);
    const given = own.slice(0, ask.chunksMax);
    const room = Math.min(ask.chunksMax - given.length, CLAIMED_PER_NODE_MAX - this.countOf(nodeId));
    const free = this.#free(wanted, { nodeId, nowMs, countMax: room });
    for (const chunk of [...given, ...free]) this.#set(chunk, { nodeId, untilMs, isIdle });
    return [...given, ...free].sort((a, b) => a - b);
  }

  /** The node may take these chunks from the source. */
  holds(nodeId: NodeId, [first, count]: ChunkRun): boolean {
    const own = this.#byNode.get(nodeId);
    if (own === undefined || count > own.size) return false;
    for (let chunk = first; chunk < first + count; chunk++) if (!own.has(chunk)) return false;
    return true;
  }

  /** The node has these now. Returns how many of them it had claimed. */
  settle(nodeId: NodeId, have: ChunkSet): number {
    let settled = 0;
    for (const chunk of this.#byNode.get(nodeId) ?? []) {
      if (!have.has(chunk)) continue;
      this.#end(chunk);
      settled += 1;
    }
    return settled;
  }

  /** The node is gone, or wants no more. */
  release(nodeId: NodeId): void {
    for (const chunk of this.#byNode.get(nodeId) ?? []) this.#end(chunk);
  }

  /** Someone is bringing what somebody waits for. */
  hasUrgent(nowMs: number): boolean {
    for (const { untilMs, isIdle } of this.#byChunk.values()) if (!isIdle && untilMs > nowMs) return true;
    return false;
  }

  #free(wanted: ChunkSet, { nodeId, nowMs, countMax }: { nodeId: NodeId; nowMs: number; countMax: number }): number[] {
    const free: number[] = [];
    if (countMax <= 0) return free;
    const after: number[] = [];
    for (const chunk of wanted) {
      const claim = this.#byChunk.get(chunk);
      if (claim !== undefined && (claim.nodeId === nodeId || claim.untilMs > nowMs)) continue;
      if (chunk >= this.#cursor) free.push(chunk);
      else if (after.length < countMax) after.push(chunk);
      if (free.length === countMax) break;
    }
    free.push(...after.slice(0, countMax - free.length));
    this.#cursor = (free.at(-1) ?? -1) + 1;
    return free;
  }

  #set(chunk: number, claim: Claim): void {
    this.#end(chunk);
    this.#byChunk.set(chunk, claim);
    const own = this.#byNode.get(claim.nodeId);
    if (own === undefined) this.#byNode.set(claim.nodeId, new Set([chunk]));
    else own.add(chunk);
  }

  #end(chunk: number): void {
    const claim = this.#byChunk.get(chunk);
    if (claim === undefined) return;
    this.#byChunk.delete(chunk);
    const own = this.#byNode.get(claim.nodeId);
    own?.delete(chunk);
    if (own?.size === 0) this.#byNode.delete(claim.nodeId);
  }
}
