/** The nodes and edges of a layout's graph (layout-graph.ts). */
import type { BatchLimits, MachineProfile } from "../../domain/cluster.ts";

export interface GraphNode {
  readonly id: string;
  readonly machine: MachineProfile;
  readonly first: number;
  readonly end: number;
  /** Tokens x layers. */
  readonly kvTokenLayers: number;
  readonly limits: BatchLimits;
}

export interface GraphEdge {
  readonly index: number;
  readonly from: number;
  readonly to: number;
  /** What one token weighs on this edge. */
  readonly bytesPerToken: number;
  /** The link's, less when the NICs at its ends cannot feed all their links at once. */
  readonly bytesPerSecond: number;
  readonly latencyS: number;
  /** First layer that is run at `to`; the model's layer count for the sink. */
  readonly firstLayer: number;
  /** What a maximum flow sends over it, wide ways first. */
  readonly flowTokensPerSecond: number;
}
