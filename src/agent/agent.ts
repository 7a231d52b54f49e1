/**
 * Assembles the agent: membership keeps the link to the coordinator, the runner does the work, the cache keeps the weights.
 * The agent outlives every engine and every link.
 */
import { FallowError } from "../domain/fault.ts";
import type { NodeCapabilities } from "../domain/hardware.ts";
import type { NodeId } from "../domain/ids.ts";
import type { Clock } from "../ports/clock.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { EngineHost } from "../ports/engine.ts";
import type { LinkDialer, LinkTarget } from "../ports/link.ts";
import type { Log } from "../ports/log.ts";
import type { Random } from "../ports/random.ts";
import type { WeightsCache } from "../ports/weights-cache.ts";
import type { ReplicaReport } from "../wire/agent-link.ts";

export interface AgentPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly dialer: LinkDialer;
  readonly engines: EngineHost;
  readonly weights: WeightsCache;
}

export interface AgentOptions {
  readonly keyPair: KeyPair;
  readonly target: LinkTarget;
  /** Secret of a join code; null once the node is known to the grid. */
  readonly joinToken: string | null;
  readonly name: string;
  readonly agentVersion: string;
  readonly capabilities: NodeCapabilities;
  /** Threads of each engine on the CPU. */
  readonly threads: number;
}

export type AgentState = "connecting" | "online" | "refused" | "stopped";

export interface Agent {
  readonly nodeId: NodeId;
  state(): AgentState;
  replicas(): readonly ReplicaReport[];
  /** Resolves at the first welcome; rejects with a `FallowError` when the coordinator refuses for good, or at the abort. */
  whenOnline(signal: AbortSignal): Promise<void>;
  /** The owner wants the machine: running attempts move, engines end, memory is free when it resolves. */
  yieldNow(reason: string): Promise<void>;
  /** The owner is away: the node may be planned on again. */
  resume(): void;
  /** Says goodbye, ends the engines and the link. May be called twice. */
  stop(): Promise<void>;
}

/** Starts to connect at once, and reconnects for ever unless refused. */
export function createAgent(_ports: AgentPorts, _options: AgentOptions): Agent {
  throw new FallowError("agent-unassembled", "the agent's rooms are not wired yet");
}
