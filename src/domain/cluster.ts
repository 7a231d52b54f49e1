/**
 * A cluster of unequal nodes and the model that it is to hold, as a planner and the serving simulator see it: what each kind of
 * machine can do with k layers, what each link carries. Measured profiles, not promises. The file format is docs/cluster-format.md;
 * its schema and every bound on its numbers are in wire/cluster-file.ts, so that inside nobody validates again.
 *
 * Units: bytes, bytes per second, seconds, tokens per second. Layers are numbered 0 to `layerCount - 1`.
 */

/** A curve given by points, in ascending x; between points it is linear, outside it goes on as its nearest segment does. */
export interface Curve {
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** Bounds of one batch on a machine that holds k layers. */
export interface BatchLimits {
  readonly promptRequestsMax: number;
  readonly promptTokensMax: number;
  /** Sum of the context lengths of the sequences of a decode batch. */
  readonly decodeContextTokensMax: number;
  readonly decodeTokensMax: number;
}

export interface MachineProfile {
  readonly name: string;
  /** Most layers that leave room for a KV cache; the tables below have entries 0 to `layersMax`, entry 0 is unused. */
  readonly layersMax: number;
  /** Tokens per second through the node when it holds k layers, on the cluster's mean request. */
  readonly tokensPerSecondByLayers: readonly number[];
  /** KV cache room in tokens x layers when k layers are held: a request of n tokens on l layers takes n * l. */
  readonly kvTokenLayersByLayers: readonly number[];
  /** Seconds that one layer takes for a batch of x prompt tokens. */
  readonly promptSecondsPerLayer: Curve;
  /** Seconds that one layer takes for a decode batch of x sequences. */
  readonly decodeSecondsPerLayer: Curve;
  readonly limitsByLayers: readonly BatchLimits[];
  readonly nicInBytesPerSecond: number;
  readonly nicOutBytesPerSecond: number;
  readonly vramBytes: number;
}

/** What the rules of a plan look at; files without these get the neutral values. */
export interface ClusterNode {
  /** Unique; letters, digits, `_`, `-`, `.`. */
  readonly id: string;
  readonly machine: MachineProfile;
  /** Null: not said. Planners then find regions from the links. */
  readonly region: string | null;
  /** Failure domains: replicas of one stage avoid sharing them. Null: a domain of its own. */
  readonly owner: string | null;
  readonly network: string | null;
  /** 0 to 1; 1 when nothing is said. */
  readonly trust: number;
  readonly priceMicroUsdPerHour: number;
  /** Chance that the node stays for one hour; 1 when nothing is said. */
  readonly survivalPerHour: number;
  readonly gramsCo2PerHour: number;
  /** Layers that it may hold at most for other reasons than the profile's (the owner's reserve); `machine.layersMax` otherwise. */
  readonly layersMax: number;
}

/** Directed. `source` and `sink` stand for the coordinator, which sends tokens and takes them. */
export interface ClusterLink {
  readonly from: string;
  readonly to: string;
  readonly bytesPerSecond: number;
  readonly latencySeconds: number;
}
export const SOURCE = "source";
export const SINK = "sink";

export interface ClusterModel {
  readonly layerCount: number;
  readonly layerBytes: number;
  /** A token between the coordinator and a node. */
  readonly tokenBytes: number;
  /** A token's hidden state between two nodes. */
  readonly activationBytes: number;
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
}

export interface Cluster {
  readonly name: string;
  readonly model: ClusterModel;
  /** In the order of the file. */
  readonly nodes: readonly ClusterNode[];
  /** At most one for each ordered pair; undirected entries of a file appear in both directions. */
  readonly links: readonly ClusterLink[];
  /** Layouts that came with the file, by name (`ilp`, `petals`, `swarm`). */
  readonly layouts: ReadonlyMap<string, Layout>;
}

/** Layers `first` to `end - 1`. */
export interface LayerInterval {
  readonly first: number;
  readonly end: number;
}

/** Which node holds which run of layers; a node that is absent holds none. Runs may overlap. */
export type Layout = ReadonlyMap<string, LayerInterval>;

/** Linear between points; before the first one as there, beyond the last one as the curve ended, but never falling: time is not negative. */
export function interpolate(curve: Curve, at: number): number {
  const { x, y } = curve;
  const [xFirst = 0, yFirst = 0] = [x[0], y[0]];
  if (at <= xFirst) return yFirst;
  let right = 1;
  while (right < x.length - 1 && (x[right] ?? 0) < at) right += 1;
  const [x0 = 0, y0 = 0] = [x[right - 1], y[right - 1]];
  const [x1 = x0, y1 = y0] = [x[right], y[right]];
  if (x1 === x0 || (at > x1 && y1 < y0)) return y1;
  return y0 + ((y1 - y0) * (at - x0)) / (x1 - x0);
}
