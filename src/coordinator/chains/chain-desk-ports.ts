/** What the desk for chains needs of the rest of the coordinator, and what its operator may choose. */
import type { NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { NodeFact } from "../../scheduler/placement/snapshot.ts";
import type { StageOrder } from "../../wire/chain-link.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { ServedModels } from "../dispatch/served-models.ts";
import type { Roster } from "../roster.ts";

export interface ChainDeskPorts {
  readonly boot: number;
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, "sha256">;
  readonly ids: Ids;
  readonly log: Log;
  readonly roster: Roster;
  readonly models: ServedModels;
  readonly book: ReplicaBook;
  nodes(): ReadonlyMap<NodeId, NodeFact>;
  /** Bytes of a share of the weights, and how many of them lie on the node; null while nobody knows. */
  shareOn(
    nodeId: NodeId,
    weightsSha256: Sha256Hex,
    share: LayerShare,
  ): { readonly bytes: number; readonly storedBytes: number } | null;
  /** A model has to have a replica and there is no room for it. */
  isShort(): boolean;
  /** What runs on the chain that this stage stood for is over, and goes on when it serves again. */
  onBreak(tail: ReplicaId, detail: string): void;
  /** A chain takes work. */
  onServing(): void;
}

export interface ChainDeskOptions {
  readonly stageWire: StageOrder["wire"];
  readonly chainSpares: number;
}
