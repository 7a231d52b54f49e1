/**
 * What the grid knows of the ways between nodes: what ends measured of each other, and an estimate for pairs that nobody measured.
 *
 * Round trip and loss belong to the pair, the newest of both ends' figures. Bandwidth belongs to a direction: it is counted where bytes
 * arrive, so what B reports of its link to A is the way from A to B.
 *
 * Estimate of an unmeasured pair, the first that applies:
 *
 * | known                                    | round trip                                            | confidence |
 * | ---------------------------------------- | ----------------------------------------------------- | ---------- |
 * | the pair, measured                        | as measured                                           | 1, halved each `HALF_LIFE_MS`, at least 0.3; half of that for one figure of two |
 * | both behind one network address           | `SAME_NETWORK_RTT_MS`                                 | 0.6        |
 * | other pairs of the two regions            | their mean, within the bounds                          | 0.5        |
 * | round trips of both to a third (the coordinator, nodes both measured) | the middle of the bounds \|x - y\| to x + y, tightest over all | 0.3 |
 * | nothing                                   | `UNKNOWN_RTT_MS`                                       | 0.1        |
 *
 * Bandwidth of an unmeasured direction is the less of what the sender was ever seen to send and the receiver to receive. Triangles are
 * bounds on the speed of light, not laws of routing: hence the low confidence.
 *
 * Size: `LINKS_PER_NODE_MAX` for each node, the one measured longest ago goes; 10,000 nodes are at most 640,000 records, told apart by
 * node, and an estimate looks at those of two nodes.
 */
import type { NodeId } from "../../domain/ids.ts";
import type { CarrierKind, LinkQuality } from "../../domain/peer.ts";

export interface LinkEstimate {
  readonly rttMs: number;
  /** From the first node to the second. */
  readonly bytesPerSecond: number;
  readonly lossShare: number;
  /** 0 to 1. */
  readonly confidence: number;
  readonly basis: "measured" | "same-network" | "regions" | "triangle" | "unknown";
  /** They met over the relay only, not long ago. */
  readonly isRelayed?: true;
}

/** What is known of a node itself. */
export interface LinkNode {
  readonly nodeId: NodeId;
  /** Round trip to the coordinator; null before the first heartbeat. */
  readonly coordinatorRttMs: number | null;
  readonly region: string | null;
  readonly network: string | null;
}

export const LINKS_PER_NODE_MAX = 64;
export const LINK_NODES_MAX = 20_000;
const REGION_PAIRS_MAX = 10_000;
/** Ways change with the time of day and with who else uses them. */
export const HALF_LIFE_MS = 30 * 60_000;
const CONFIDENCE_MIN = 0.3;
/** After that they may find a direct way: NATs and machines move. */
export const RELAYED_MS = 10 * 60_000;
export const SAME_NETWORK_RTT_MS = 1;
export const UNKNOWN_RTT_MS = 100;
/** 25 Mbit/s: what most homes send; on one network 400 Mbit/s. */
const UNKNOWN_BYTES_PER_SECOND = 3_125_000;
const SAME_NETWORK_BYTES_PER_SECOND = 50_000_000;
const NEWEST_WEIGHT = 0.1;

interface Direction {
  bytesPerSecond: number;
  atMs: number;
}

interface PairRecord {
  rttMs: number | null;
  lossShare: number | null;
  carrier: CarrierKind;
  atMs: number;
  /** By the sending node. */
  readonly from: Map<NodeId, Direction>;
}

interface NodeRecord {
  self: LinkNode;
  readonly pairs: Map<NodeId, PairRecord>;
  sentMostPerSecond: number | null;
  receivedMostPerSecond: number | null;
}

export class LinkTable {
  readonly #nodes = new Map<NodeId, NodeRecord>();
  readonly #regions = new Map<string, number>();

  /** A node joined, or something of it changed. False beyond `LINK_NODES_MAX`. */
  setNode(node: LinkNode): boolean {
    const known = this.#nodes.get(node.nodeId);
    if (known !== undefined) {
      known.self = node;
      return true;
    }
    if (this.#nodes.size >= LINK_NODES_MAX) return false;
    this.#nodes.set(node.nodeId, {
      self: node,
      pairs: new Map(),
      sentMostPerSecond: null,
      receivedMostPerSecond: null,
    });
    return true;
  }

  dropNode(nodeId: NodeId): void {
    for (const other of this.#nodes.get(nodeId)?.pairs.keys() ?? []) this.#nodes.get(other)?.pairs.delete(nodeId);
    this.#nodes.delete(nodeId);
  }

  /** What `reporter` measured of its link to `other`. Ignored unless both are set. */
  report(reporter: NodeId, other: NodeId, quality: LinkQuality): void {
    const own = this.#nodes.get(reporter);
    const far = this.#nodes.get(other);
    if (own === undefined || far === undefined || reporter === other) return;
    const { rttMs, lossShare, bytesPerSecond, measuredAtMs } = quality;
    const pair = own.pairs.get(other) ?? {
      rttMs: null,
      lossShare: null,
      carrier: quality.carrier,
      atMs: measuredAtMs,
      from: new Map(),
    };
    // Put again at the end: the map's order is that of the last report.
    for (const [record, peer] of [
      [own, other],
      [far, reporter],
    ] as const) {
      record.pairs.delete(peer);
      record.pairs.set(peer, pair);
    }
    pair.carrier = quality.carrier;
    pair.atMs = Math.max(pair.atMs, measuredAtMs);
    if (rttMs !== null) pair.rttMs = rttMs;
    if (lossShare !== null) pair.lossShare = lossShare;
    if (rttMs !== null) this.#learnRegion(own.self, far.self, rttMs);
    if (bytesPerSecond !== null && bytesPerSecond > 0) {
      pair.from.set(other, { bytesPerSecond, atMs: measuredAtMs });
      own.receivedMostPerSecond = Math.max(own.receivedMostPerSecond ?? 0, bytesPerSecond);
      far.sentMostPerSecond = Math.max(far.sentMostPerSecond ?? 0, bytesPerSecond);
    }
    this.#shrink(own);
    this.#shrink(far);
  }

  estimate(from: NodeId, to: NodeId, nowMs: number): LinkEstimate {
    const sender = this.#nodes.get(from);
    const receiver = this.#nodes.get(to);
    const pair = sender?.pairs.get(to);
    // Who meets over the relay only is on no network with the other, whatever the addresses look like.
    const isSameNetwork = pair?.carrier !== "relay" && areSame(sender?.self.network, receiver?.self.network);
    const direction = pair?.from.get(from);
    const bytesPerSecond = direction?.bytesPerSecond ?? guessBandwidth(sender, receiver, isSameNetwork);
    const lossShare = pair?.lossShare ?? 0;
    const ageMs = pair === undefined ? 0 : Math.max(0, nowMs - pair.atMs);
    const fresh = Math.max(CONFIDENCE_MIN, 2 ** (-ageMs / HALF_LIFE_MS));
    const relayed = pair?.carrier === "relay" && ageMs < RELAYED_MS ? { isRelayed: true as const } : {};
    if (pair !== undefined && pair.rttMs !== null && direction !== undefined) {
      return { rttMs: pair.rttMs, bytesPerSecond, lossShare, confidence: fresh, basis: "measured", ...relayed };
    }
    const guess = this.#guessRtt(sender, receiver, isSameNetwork);
    if (pair === undefined) return { ...guess, bytesPerSecond, lossShare };
    const confidence = Math.max(guess.confidence, fresh / 2);
    return { rttMs: pair.rttMs ?? guess.rttMs, bytesPerSecond, lossShare, confidence, basis: "measured", ...relayed };
  }

  /** The carrier that the pair's newest report named; null when nobody met. */
  carrierOf(one: NodeId, other: NodeId): CarrierKind | null {
    return this.#nodes.get(one)?.pairs.get(other)?.carrier ?? null;
  }

  /** Bytes were counted on this way; else its bandwidth is an estimate, also where its round trip was measured. */
  isBandwidthMeasured(from: NodeId, to: NodeId): boolean {
    return this.#nodes.get(from)?.pairs.get(to)?.from.has(from) ?? false;
  }

  /** Pairs measured from or to a node, the one measured longest ago first. */
  measuredWith(nodeId: NodeId): readonly NodeId[] {
    return [...(this.#nodes.get(nodeId)?.pairs.keys() ?? [])];
  }

  get nodeCount(): number {
    return this.#nodes.size;
  }

  #guessRtt(
    a: NodeRecord | undefined,
    b: NodeRecord | undefined,
    isSameNetwork: boolean,
  ): Pick<LinkEstimate, "rttMs" | "confidence" | "basis"> {
    if (isSameNetwork) return { rttMs: SAME_NETWORK_RTT_MS, confidence: 0.6, basis: "same-network" };
    const bounds = a === undefined || b === undefined ? null : boundsOf(a, b);
    const regional = this.#regions.get(regionKey(a?.self.region, b?.self.region) ?? "");
    if (regional !== undefined) {
      const rttMs = bounds === null ? regional : Math.min(bounds.mostMs, Math.max(bounds.leastMs, regional));
      return { rttMs, confidence: 0.5, basis: "regions" };
    }
    if (bounds === null) return { rttMs: UNKNOWN_RTT_MS, confidence: 0.1, basis: "unknown" };
    return { rttMs: (bounds.leastMs + bounds.mostMs) / 2, confidence: 0.3, basis: "triangle" };
  }

  #learnRegion(a: LinkNode, b: LinkNode, rttMs: number): void {
    const key = regionKey(a.region, b.region);
    if (key === null || areSame(a.network, b.network)) return;
    const old = this.#regions.get(key);
    if (old === undefined && this.#regions.size >= REGION_PAIRS_MAX) return;
    this.#regions.set(key, old === undefined ? rttMs : old + NEWEST_WEIGHT * (rttMs - old));
  }

  #shrink(record: NodeRecord): void {
    if (record.pairs.size <= LINKS_PER_NODE_MAX) return;
    const [oldest] = record.pairs.keys();
    if (oldest === undefined) return;
    record.pairs.delete(oldest);
    this.#nodes.get(oldest)?.pairs.delete(record.self.nodeId);
  }
}

/** The tightest bounds that a third, known to both, puts on the round trip. */
function boundsOf(a: NodeRecord, b: NodeRecord): { readonly leastMs: number; readonly mostMs: number } | null {
  let leastMs = 0;
  let mostMs = Number.POSITIVE_INFINITY;
  const bound = (x: number | null | undefined, y: number | null | undefined): void => {
    if (x === null || x === undefined || y === null || y === undefined) return;
    leastMs = Math.max(leastMs, Math.abs(x - y));
    mostMs = Math.min(mostMs, x + y);
  };
  bound(a.self.coordinatorRttMs, b.self.coordinatorRttMs);
  for (const [third, pair] of a.pairs) bound(pair.rttMs, b.pairs.get(third)?.rttMs);
  if (!Number.isFinite(mostMs)) return null;
  // Bounds of different thirds may contradict each other: figures are of different times.
  return leastMs <= mostMs ? { leastMs, mostMs } : { leastMs: mostMs, mostMs: leastMs };
}

function guessBandwidth(from: NodeRecord | undefined, to: NodeRecord | undefined, isSameNetwork: boolean): number {
  if (isSameNetwork) return SAME_NETWORK_BYTES_PER_SECOND;
  const sent = from?.sentMostPerSecond ?? null;
  const received = to?.receivedMostPerSecond ?? null;
  if (sent === null && received === null) return UNKNOWN_BYTES_PER_SECOND;
  return Math.min(sent ?? Number.POSITIVE_INFINITY, received ?? Number.POSITIVE_INFINITY);
}

function regionKey(a: string | null | undefined, b: string | null | undefined): string | null {
  if (a === null || a === undefined || b === null || b === undefined) return null;
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

function areSame(a: string | null | undefined, b: string | null | undefined): boolean {
  return a !== null && a !== undefined && a === b;
}
