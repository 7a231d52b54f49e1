/**
 * What is asked of the matcher, and why an entry of its index cannot take it. Hard rules come first and are never traded for score;
 * the order below is the order in which they are tried, and an entry is counted under the first one that it breaks.
 *
 * What nobody knows of a node never breaks a rule that nobody set: no floor is 0, no cap is infinite, no list is null. Where a rule is
 * set, a node without a known region is in no list, and one without a known price, trust or round trip has the neutral value of
 * `NEUTRAL` (node-table.ts), which the caller of `upsert` may replace by a known one.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";

export interface MatchConstraints {
  /** Null: anywhere. */
  readonly regions: readonly string[] | null;
  /** Absent or empty: none. Where any is, a node of unknown region is kept out too. */
  readonly excludedRegions?: readonly string[];
  /** 0 to 1. */
  readonly trustMin: number;
  readonly priceMicroUsdPerHourMax: number;
  readonly rttMsMax: number;
  /** On the reference load. */
  readonly decodeTokPerSecondMin: number;
  /** Null: any. */
  readonly gpuClasses: readonly string[] | null;
  /** Failure domains that this work must stay out of: a hedge is not placed beside the attempt that it hedges. */
  readonly excludedOwners: ReadonlySet<string>;
  readonly excludedNetworks: ReadonlySet<string>;
}

export const UNCONSTRAINED: MatchConstraints = {
  regions: null,
  trustMin: 0,
  priceMicroUsdPerHourMax: Number.POSITIVE_INFINITY,
  rttMsMax: Number.POSITIVE_INFINITY,
  decodeTokPerSecondMin: 0,
  gpuClasses: null,
  excludedOwners: new Set(),
  excludedNetworks: new Set(),
};

export interface MatchRequest {
  readonly modelId: ModelId;
  /** Context that the replica must have: prompt, what was generated and what may still be. */
  readonly tokensNeeded: number;
  /** How long the slot will be held, as far as anybody can tell: what the node's stay is weighed against. */
  readonly remainingMs: number;
  /** Nodes that failed this work a short while ago. */
  readonly excludedNodeIds: ReadonlySet<NodeId>;
  /** The replica that decoded this prompt's head before, and which share of the prompt that was (0 to 1). */
  readonly hint: { readonly replicaId: ReplicaId; readonly promptShare: number } | null;
  /** Where the caller is; null when not known, and then every region is equally far. */
  readonly callerRegion: string | null;
  readonly constraints: MatchConstraints;
  /** 32 bits, drawn from the request's own id: equal requests in any order get equal answers. */
  readonly seed: number;
}

/** The first four stand for node states 1 to 4 of the node table. */
export const OBSTACLES = [
  "node-offline",
  "node-suspect",
  "node-draining",
  "node-yielding",
  "replica-not-ready",
  "node-failed-before",
  "region-not-allowed",
  "trust-too-low",
  "price-too-high",
  "too-far",
  "too-slow",
  "gpu-class-not-allowed",
  "owner-excluded",
  "network-excluded",
  "context-too-small",
  "memory-too-small",
  "slots-full",
] as const;
export type Obstacle = (typeof OBSTACLES)[number];
/** How many entries each rule turned away; rules that turned none away are left out. */
export type ObstacleCounts = ReadonlyMap<Obstacle, number>;

export function obstacleCounts(counts: Int32Array): ObstacleCounts {
  const named = new Map<Obstacle, number>();
  for (const [code, name] of OBSTACLES.entries()) {
    const count = counts[code] ?? 0;
    if (count > 0) named.set(name, count);
  }
  return named;
}

/** FNV-1a over UTF-16 units, 32 bits: a seed for the draws of one decision. */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return mixed(hash);
}

/** Spreads neighbouring seeds over all bits (the finaliser of MurmurHash3). */
export function mixed(seed: number): number {
  let hash = seed | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
