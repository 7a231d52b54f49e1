/**
 * All nodes as columns: one typed array for each fact, one dense id for each node, so that a decision over 100,000 nodes reads a few
 * numbers and follows no object. Ids are reused; `generation` tells an old bearer from a new one.
 *
 * `upsert` takes whole facts and answers with what they changed for the index; `heartbeat` takes only what beats change. A node's
 * static score (score.ts) is kept in a column; a round trip's jitter is no change, so that it does not sort lists anew.
 */
import type { NodeId } from "../../domain/ids.ts";
import { DenseIds, grownBytes, grownFloats, grownInts, Names } from "./columns.ts";
import { hazardPerMs, type NodeQualities, nodeScore } from "./score.ts";

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

export class NodeTable {
  readonly ids = new DenseIds<NodeId>();
  readonly regions = new Names();
  readonly gpuClasses = new Names();
  readonly owners = new Names();
  readonly networks = new Names();
  /** Columns, by node. Read by the search, written here only. */
  state = new Uint8Array(0);
  region = new Int32Array(0);
  owner = new Int32Array(0);
  network = new Int32Array(0);
  gpuClass = new Int32Array(0);
  vramUsableBytes = new Float64Array(0);
  vramFreeBytes = new Float64Array(0);
  trust = new Float64Array(0);
  priceMicroUsdPerHour = new Float64Array(0);
  rttMs = new Float64Array(0);
  decodeTokPerSecond = new Float64Array(0);
  hazardPerMs = new Float64Array(0);
  gramsCo2PerHour = new Float64Array(0);
  staticMs = new Float64Array(0);

  #regionRanks = new Int32Array(1);

  /** By region code + 1: its place among all names, so that ties between regions do not depend on which was met first. */
  regionRanks(): Int32Array {
    const { size } = this.regions;
    if (this.#regionRanks.length !== size + 1) {
      const names = Array.from({ length: size }, (_, code) => this.regions.name(code) ?? "");
      const sorted = [...names].sort();
      this.#regionRanks = Int32Array.from([0, ...names.map((name) => sorted.indexOf(name) + 1)]);
    }
    return this.#regionRanks;
  }

  /** -1 when the table has no such node. */
  find(nodeId: NodeId): number {
    return this.ids.find(nodeId);
  }

  upsert(traits: NodeTraits): NodeChange {
    const known = this.ids.find(traits.nodeId);
    const node = known === -1 ? this.ids.add(traits.nodeId) : known;
    this.#reserve(node + 1);
    const regionBefore = this.region[node];
    this.state[node] = AVAILABILITIES.indexOf(traits.availability);
    this.region[node] = this.regions.code(traits.region);
    this.owner[node] = this.owners.code(traits.owner);
    this.network[node] = this.networks.code(traits.network);
    this.gpuClass[node] = this.gpuClasses.code(traits.gpuClass);
    this.vramUsableBytes[node] = traits.vramUsableBytes;
    this.vramFreeBytes[node] = traits.vramFreeBytes;
    this.trust[node] = traits.trust ?? NEUTRAL.trust;
    this.priceMicroUsdPerHour[node] = traits.priceMicroUsdPerHour ?? NEUTRAL.priceMicroUsdPerHour;
    this.rttMs[node] = Math.min(RTT_MS_MAX, traits.rttMs ?? NEUTRAL.rttMs);
    this.decodeTokPerSecond[node] = traits.decodeTokPerSecond ?? NEUTRAL.decodeTokPerSecond;
    this.hazardPerMs[node] = hazardPerMs(traits.stayChancePerHour ?? NEUTRAL.stayChancePerHour);
    this.gramsCo2PerHour[node] = traits.gramsCo2PerHour ?? NEUTRAL.gramsCo2PerHour;
    this.staticMs[node] = nodeScore(this.qualities(node));
    return { node, isMoved: known === -1 || regionBefore !== this.region[node] };
  }

  /** True when it is news. */
  setAvailability(node: number, availability: NodeAvailability): boolean {
    const state = AVAILABILITIES.indexOf(availability);
    if (this.state[node] === state) return false;
    this.state[node] = state;
    return true;
  }

  /** True when the node's static score is another than before. */
  heartbeat(node: number, beat: { readonly rttMs: number }): boolean {
    const keptMs = this.rttMs[node] ?? 0;
    if (Math.abs(beat.rttMs - keptMs) <= Math.max(RTT_NEWS_MS, RTT_NEWS_SHARE * keptMs)) return false;
    this.rttMs[node] = Math.min(RTT_MS_MAX, beat.rttMs);
    this.staticMs[node] = nodeScore(this.qualities(node));
    return true;
  }

  remove(nodeId: NodeId): void {
    this.state[this.ids.find(nodeId)] = AVAILABILITIES.indexOf("offline");
    this.ids.remove(nodeId);
  }

  qualities(node: number): NodeQualities {
    return {
      decodeTokPerSecond: this.decodeTokPerSecond[node] ?? 0,
      trust: this.trust[node] ?? 0,
      rttMs: this.rttMs[node] ?? 0,
      priceMicroUsdPerHour: this.priceMicroUsdPerHour[node] ?? 0,
      gramsCo2PerHour: this.gramsCo2PerHour[node] ?? 0,
    };
  }

  #reserve(count: number): void {
    if (count <= this.state.length) return;
    const length = Math.max(count, this.state.length * 2, 64);
    this.state = grownBytes(this.state, length);
    this.region = grownInts(this.region, length);
    this.owner = grownInts(this.owner, length);
    this.network = grownInts(this.network, length);
    this.gpuClass = grownInts(this.gpuClass, length);
    this.vramUsableBytes = grownFloats(this.vramUsableBytes, length);
    this.vramFreeBytes = grownFloats(this.vramFreeBytes, length);
    this.trust = grownFloats(this.trust, length);
    this.priceMicroUsdPerHour = grownFloats(this.priceMicroUsdPerHour, length);
    this.rttMs = grownFloats(this.rttMs, length);
    this.decodeTokPerSecond = grownFloats(this.decodeTokPerSecond, length);
    this.hazardPerMs = grownFloats(this.hazardPerMs, length);
    this.gramsCo2PerHour = grownFloats(this.gramsCo2PerHour, length);
    this.staticMs = grownFloats(this.staticMs, length);
  }
}
