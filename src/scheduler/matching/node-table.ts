/**
 * All nodes as rows of typed arrays, one dense id for each node, so that a decision over 100,000 nodes reads a few numbers that lie side
 * by side and follows no object (a column for each fact costs a cache miss for each). Ids are reused; `generation` tells an old bearer from a new one.
 *
 * `upsert` takes whole facts and answers with what they changed for the index; `heartbeat` takes only what beats change. A node's
 * static score (score.ts) is kept in a column; a round trip's jitter is no change, so that it does not sort lists anew.
 */
import type { NodeId } from "../../domain/ids.ts";
import { DenseIds, grownFloats, Names } from "./columns.ts";
import { FILING_WIDTH, HORIZONS, horizonMs, Rows } from "./filing.ts";
import { hazardPerMs, type NodeQualities, nodeScore, riskScore } from "./score.ts";

export type NodeAvailability = "takes-work" | "offline" | "suspect" | "draining" | "yielding";
/** By its code in the column `state`; 1 to 4 are also the first obstacles, in this order. */
const AVAILABILITIES: readonly NodeAvailability[] = ["takes-work", "offline", "suspect", "draining", "yielding"];

/** Null: not known. */
export interface NodeTraits {
  readonly nodeId: NodeId;
  readonly availability: NodeAvailability;
  readonly region: string | null;
  readonly owner: string | null;
  readonly network: string | null;
  readonly gpuClass: string | null;
  /** Of the device with most of it: declared minus the owner's reserve. */
  readonly vramUsableBytes: number;
  /** Of that, what no replica has. */
  readonly vramFreeBytes: number;
  readonly trust: number | null;
  readonly priceMicroUsdPerHour: number | null;
  readonly rttMs: number | null;
  readonly decodeTokPerSecond: number | null;
  readonly stayChancePerHour: number | null;
  readonly gramsCo2PerHour: number | null;
}

/** What stands in for a fact that nobody knows: neither an advantage nor a disadvantage among nodes of which nothing is known. */
export const NEUTRAL = {
  trust: 1,
  priceMicroUsdPerHour: 0,
  /** Until the first heartbeat came back: a WAN round trip within a continent. */
  rttMs: 50,
  decodeTokPerSecond: 0,
  stayChancePerHour: 1,
  gramsCo2PerHour: 0,
} as const;

/** A round trip is news when it is off the kept one by more than this and by more than this share: the rest is jitter. */
const RTT_NEWS_MS = 5;
const RTT_NEWS_SHARE = 0.2;
/** A round trip of more counts as this; the link's own bound. */
const RTT_MS_MAX = 600_000;

export interface NodeChange {
  readonly node: number;
  /** The node is new, or in another region: its entries belong into other lists. */
  readonly isMoved: boolean;
}

/** Numbers of a node that lie side by side: all that a search reads of it is in two cache lines. */
const FACTS = 8;
const CODES = 8;
const ROW = CODES + FILING_WIDTH;

export class NodeTable {
  readonly ids = new DenseIds<NodeId>();
  readonly regions = new Names();
  readonly gpuClasses = new Names();
  readonly owners = new Names();
  readonly networks = new Names();
  /** Rows of `FACTS` numbers, one cache line each. */
  #facts = new Float64Array(0);
  /** State, region, owner, network, GPU class; then what lists keep of it. */
  readonly rows = new Rows(ROW);
  readonly filingOffset = CODES;
  /** By horizon: the static score less the risk of that time; NaN while the node takes no work. */
  #boundsMs = new Float64Array(0);
  #gramsCo2PerHour = new Float64Array(0);

  #regionRanks = new Int32Array(1);

  /** By region code + 1: its place among all names, so that ties between regions do not depend on which was met first. */
  regionRanks(): Int32Array {
    const { size } = this.regions;
    if (this.#regionRanks.length !== size + 1) {
      const names = Array.from({ length: size }, (_, code) => this.regions.name(code) ?? "");
      const ranks = new Map([...names].sort().map((name, at) => [name, at + 1]));
      this.#regionRanks = Int32Array.from([0, ...names.map((name) => ranks.get(name) ?? 0)]);
    }
    return this.#regionRanks;
  }

  /** -1 when the table has no such node. */
  find(nodeId: NodeId): number {
    return this.ids.find(nodeId);
  }

  // -------------------------------------------------------------- facts of a node

  /** 0 takes work; 1 to 4 stand for the first four obstacles (match-request.ts). */
  state(node: number): number {
    return this.rows.ints[node * ROW] ?? 1;
  }
  /** Codes of names; -1 when not known. */
  region(node: number): number {
    return this.rows.ints[node * ROW + 1] ?? -1;
  }
  owner(node: number): number {
    return this.rows.ints[node * ROW + 2] ?? -1;
  }
  network(node: number): number {
    return this.rows.ints[node * ROW + 3] ?? -1;
  }
  gpuClass(node: number): number {
    return this.rows.ints[node * ROW + 4] ?? -1;
  }
  /** The part of a score's upper bound that the node decides; NaN while it takes no work. */
  boundMs(node: number, horizon: number): number {
    return this.#boundsMs[node * HORIZONS + horizon] ?? Number.NaN;
  }
  staticMs(node: number): number {
    return this.#facts[node * FACTS] ?? 0;
  }
  hazardPerMs(node: number): number {
    return this.#facts[node * FACTS + 1] ?? 0;
  }
  trust(node: number): number {
    return this.#facts[node * FACTS + 2] ?? 0;
  }
  priceMicroUsdPerHour(node: number): number {
    return this.#facts[node * FACTS + 3] ?? 0;
  }
  rttMs(node: number): number {
    return this.#facts[node * FACTS + 4] ?? 0;
  }
  decodeTokPerSecond(node: number): number {
    return this.#facts[node * FACTS + 5] ?? 0;
  }
  vramFreeBytes(node: number): number {
    return this.#facts[node * FACTS + 6] ?? 0;
  }
  vramUsableBytes(node: number): number {
    return this.#facts[node * FACTS + 7] ?? 0;
  }

  // -------------------------------------------------------------- changes

  upsert(traits: NodeTraits): NodeChange {
    const known = this.ids.find(traits.nodeId);
    const node = known === -1 ? this.ids.add(traits.nodeId) : known;
    this.#reserve(node + 1);
    const regionBefore = this.region(node);
    this.rows.ints.set(
      [
        AVAILABILITIES.indexOf(traits.availability),
        this.regions.code(traits.region),
        this.owners.code(traits.owner),
        this.networks.code(traits.network),
        this.gpuClasses.code(traits.gpuClass),
      ],
      node * ROW,
    );
    this.#facts.set(
      [
        0,
        hazardPerMs(traits.stayChancePerHour ?? NEUTRAL.stayChancePerHour),
        traits.trust ?? NEUTRAL.trust,
        traits.priceMicroUsdPerHour ?? NEUTRAL.priceMicroUsdPerHour,
        Math.min(RTT_MS_MAX, traits.rttMs ?? NEUTRAL.rttMs),
        traits.decodeTokPerSecond ?? NEUTRAL.decodeTokPerSecond,
        traits.vramFreeBytes,
        traits.vramUsableBytes,
      ],
      node * FACTS,
    );
    this.#gramsCo2PerHour[node] = traits.gramsCo2PerHour ?? NEUTRAL.gramsCo2PerHour;
    this.#facts[node * FACTS] = nodeScore(this.qualities(node));
    this.#bind(node);
    return { node, isMoved: known === -1 || regionBefore !== this.region(node) };
  }

  /** True when it is news. */
  setAvailability(node: number, availability: NodeAvailability): boolean {
    const state = AVAILABILITIES.indexOf(availability);
    if (this.state(node) === state) return false;
    this.rows.ints[node * ROW] = state;
    this.#bind(node);
    return true;
  }

  /** True when the node's static score is another than before. */
  heartbeat(node: number, rttMs: number): boolean {
    const keptMs = this.rttMs(node);
    if (Math.abs(rttMs - keptMs) <= Math.max(RTT_NEWS_MS, RTT_NEWS_SHARE * keptMs)) return false;
    this.#facts[node * FACTS + 4] = Math.min(RTT_MS_MAX, rttMs);
    this.#facts[node * FACTS] = nodeScore(this.qualities(node));
    this.#bind(node);
    return true;
  }

  remove(nodeId: NodeId): void {
    this.rows.ints[this.ids.find(nodeId) * ROW] = AVAILABILITIES.indexOf("offline");
    this.ids.remove(nodeId);
  }

  qualities(node: number): NodeQualities {
    return {
      decodeTokPerSecond: this.decodeTokPerSecond(node),
      trust: this.trust(node),
      rttMs: this.rttMs(node),
      priceMicroUsdPerHour: this.priceMicroUsdPerHour(node),
      gramsCo2PerHour: this.#gramsCo2PerHour[node] ?? 0,
    };
  }

  #bind(node: number): void {
    const isUp = this.state(node) === 0;
    for (let horizon = 0; horizon < HORIZONS; horizon++) {
      const boundMs = this.staticMs(node) + riskScore(this.hazardPerMs(node), horizonMs(horizon));
      this.#boundsMs[node * HORIZONS + horizon] = isUp ? boundMs : Number.NaN;
    }
  }

  #reserve(count: number): void {
    if (count <= this.#gramsCo2PerHour.length) return;
    const length = Math.max(count, this.#gramsCo2PerHour.length * 2, 64);
    this.#facts = grownFloats(this.#facts, length * FACTS);
    this.rows.reserve(length);
    this.#boundsMs = grownFloats(this.#boundsMs, length * HORIZONS);
    this.#gramsCo2PerHour = grownFloats(this.#gramsCo2PerHour, length);
  }
}
