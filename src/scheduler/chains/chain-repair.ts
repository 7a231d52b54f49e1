/**
 * Which node takes a lost stage's place: a spare that has just these layers loaded, then a node that has their bytes on its disk, then the one that must
 * fetch least; among equals the nearest to the neighbours. Survivors stay as they are. Where no node can take the place, the chain is planned anew.
 *
 * Nodes that a neighbour's word is against are doubted, not excluded: a machine that was silent a minute ago and is heard now is better than none, and a
 * plan made anew would have the survivors fetch other layers. So the order is: a spare that is not doubted much, a node that is not doubted at all, any spare,
 * any node.
 */
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import type { LoserReason } from "../placement/snapshot.ts";

/** A stage to fill. */
export interface LostStage {
  readonly first: number;
  readonly count: number;
  /** Of weights, KV cache and computing. */
  readonly memoryBytes: number;
  /** Of its layers' weights. */
  readonly weightsBytes: number;
  /** The stages before and after it; null at the ends, where it is the coordinator. */
  readonly previous: NodeId | null;
  readonly next: NodeId | null;
}

export interface SpareStage {
  readonly nodeId: NodeId;
  readonly replicaId: ReplicaId;
  readonly first: number;
  readonly count: number;
}

export interface StageCandidate {
  readonly nodeId: NodeId;
  /** Why it cannot; null when it can. */
  readonly obstacle: LoserReason | null;
  /** Its roomiest device for this stage. */
  readonly deviceId: string;
  readonly freeBytes: number;
  /** Of the stage's weights, that lie on its disk. */
  readonly storedBytes: number;
  /** Chance that it stays; 0 to 1. */
  readonly stayChance: number;
  /** Round trips to the stages before and after it; null: not known. */
  readonly previousRttMs: number | null;
  readonly nextRttMs: number | null;
  readonly bytesPerSecond: number | null;
  /** Words were against it of late; 2: again and again. Absent: none. */
  readonly doubt?: Doubt;
}

export type Doubt = 1 | 2;

export interface ChainRepairQuestion {
  readonly lost: LostStage;
  readonly spares: readonly SpareStage[];
  /** Sorted by node id; nodes of the chain are not among them. */
  readonly candidates: readonly StageCandidate[];
}

export type ChainRepair =
  | { readonly kind: "spare"; readonly spare: SpareStage }
  | {
      readonly kind: "load";
      readonly nodeId: NodeId;
      readonly deviceId: string;
      readonly fetchBytes: number;
      readonly why: "on-disk" | "least-to-fetch";
    }
  /** No node can: how many each reason kept out. */
  | { readonly kind: "plan-anew"; readonly losers: readonly (readonly [LoserReason, number])[] };
