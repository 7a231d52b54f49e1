/**
 * The seam inside the agent: membership keeps the link and calls the runner; the runner does the work and answers through
 * the line. A line is one connection: when it closes, its leases are dead and the runner drops their work.
 */
import type { NodeId } from "../domain/ids.ts";
import type { KeyPair } from "../ports/crypto.ts";
import type { AgentMessage, CoordinatorMessage, ReplicaReport, Welcome } from "../wire/agent-link.ts";

export interface Line {
  readonly gridId: string;
  readonly nodeId: NodeId;
  readonly welcome: Welcome;
  readonly keyPair: KeyPair;
  /** Does nothing once the line is closed. */
  send(message: AgentMessage): void;
  bufferedBytes(): number;
}

/** Messages that concern work rather than membership. */
export type WorkOrder = Extract<
  CoordinatorMessage,
  {
    type:
      | "replica.load"
      | "replica.unload"
      | "attempt.start"
      | "attempt.cancel"
      | "weights.stage"
      | "chain.set"
      | "chain.fingerprint.ask"
      | "chain.progress.ask"
      | "chain.over"
      | "node.drain";
  }
>;

/** Messages about weights on other nodes, and the ways to them. */
export type PeerOrder = Extract<
  CoordinatorMessage,
  { type: "weights.holders" | "weights.claimed" | "relay.offer" | "relay.refused" }
>;

/** The part of the agent that deals with other nodes; it sees the same line. */
export interface PeerHandler {
  onLineUp(line: Line): void;
  onLineDown(): void;
  onPeerOrder(order: PeerOrder): void;
  /** The owner came (true) or left: nothing moves to or from other nodes while he is here. */
  onYield?(isYielding: boolean): void;
}

export interface WorkHandler {
  onLineUp(line: Line): void;
  onLineDown(): void;
  onOrder(order: WorkOrder): void;
  /** For hello and every heartbeat. */
  replicas(): readonly ReplicaReport[];
  isYielding(): boolean;
  memoryFreeBytes(): number;
  /** Ends all engines. May be called twice. */
  stop(): Promise<void>;
}
