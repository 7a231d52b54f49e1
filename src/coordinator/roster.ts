/**
 * What the rest of the coordinator knows of the nodes: the registry implements it, dispatch and the replica pool consume it.
 * A view is a snapshot; `version` grows with every change that could alter a plan.
 */
import type { NodeCapabilities } from "../domain/hardware.ts";
import type { NodeId, Sha256Hex } from "../domain/ids.ts";
import type { NodeState } from "../domain/node.ts";
import type { AgentMessage, CoordinatorMessage, ReplicaReport, WeightsState } from "../wire/agent-link.ts";

export interface NodeView {
  readonly nodeId: NodeId;
  readonly publicKeyHex: string;
  readonly name: string;
  readonly state: NodeState;
  readonly isYielding: boolean;
  readonly capabilities: NodeCapabilities;
  readonly replicas: readonly ReplicaReport[];
  /** Round trip of the last heartbeat; null before the first. */
  readonly rttMs: number | null;
  readonly lastMessageMonoMs: number;
  readonly joinedAtMs: number;
  /** As the node's own setting names it; null when it names none. */
  readonly region?: string | null;
  /** What its operator wants for an hour of the machine while it serves; null when he named nothing. */
  readonly priceMicroUsdPerHour?: number | null;
  /** Failure domains, as far as the coordinator sees them: the prefix of the address that the link comes from, and the join code. */
  readonly network?: string | null;
  readonly owner?: string | null;
  /** What the operator should look at, as sentences: a clock that is off. */
  readonly warnings?: readonly string[];
}

/** Messages that concern work rather than membership. */
export type WorkMessage = Extract<
  AgentMessage,
  { type: "replica.state" | "attempt.chunks" | "attempt.end" | "attempt.embedding" | "attempt.failed" }
>;

/** Messages of the stages of chains: `coordinator/chains` reads them. */
export type ChainMessage = Extract<
  AgentMessage,
  { type: "chain.state" | "chain.trouble" | "chain.fingerprint" | "chain.progress" }
>;

/** Messages about weights and other nodes: `coordinator/peering` and `coordinator/weights` read them. */
export type PeerMessage = Extract<
  AgentMessage,
  {
    type:
      | "peer.endpoints"
      | "peer.report"
      | "peer.links"
      | "relay.ask"
      | "weights.have"
      | "weights.want"
      | "weights.done"
      | "weights.claim";
  }
>;

export interface RosterHandlers {
  /** The node can be planned on again. */
  onOnline(nodeId: NodeId): void;
  /** No new work; its attempts should move at once. */
  onSuspect(nodeId: NodeId): void;
  /** Owner is back or a drain was ordered: no new work, attempts move (yield) or finish (drain). */
  onWithdrawn(nodeId: NodeId, why: "yield" | "drain"): void;
  /** Link closed, silent too long, or removed: nothing of it is live any more. */
  onGone(nodeId: NodeId, cause: string): void;
  onWork(nodeId: NodeId, message: WorkMessage): void;
  /** Heartbeat or state changed a replica. */
  onReplicas(nodeId: NodeId): void;
  /** What lies on the node's disk, as it says. */
  onWeights?(nodeId: NodeId, state: WeightsState): void;
  onPeer?(nodeId: NodeId, message: PeerMessage): void;
  onChain?(nodeId: NodeId, message: ChainMessage): void;
  /** The node was sent an order to load or to stage these weights. */
  onOrdered?(nodeId: NodeId, weightsSha256: Sha256Hex): void;
}

export interface Roster {
  readonly version: number;
  /** Sorted by node id; offline nodes included. */
  nodes(): readonly NodeView[];
  node(nodeId: NodeId): NodeView | null;
  /** False when the node has no open link. */
  send(nodeId: NodeId, message: CoordinatorMessage): boolean;
  /** Counts a breach of the protocol (foreign lease, skipped seq, token out of vocabulary) and closes the link at the bound. */
  reportBreach(nodeId: NodeId, breach: { code: string; detail: string }): void;
  subscribe(handlers: RosterHandlers): void;
}
