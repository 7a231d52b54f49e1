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
import { AgentMembership, type MembershipStatus } from "./membership/agent-membership.ts";
import { Runner } from "./runner/runner.ts";
import type { PeerHandler } from "./session.ts";
import type { StageParts } from "./stages/stage-parts.ts";

export interface AgentPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly dialer: LinkDialer;
  readonly engines: EngineHost;
  /** A server of the owner's, as an engine; null, or absent, where there is none. */
  readonly attached?: EngineHost | null;
  readonly weights: WeightsCache;
  /** Deals with other nodes; without it the node knows the coordinator alone. */
  readonly peers?: PeerHandler;
  /** For stages of chains; null, or absent, where the node holds whole models only. */
  readonly stages?: StageParts | null;
}

export interface AgentOptions {
  readonly keyPair: KeyPair;
  readonly target: LinkTarget;
  /** Secret of a join code; null once the node is known to the grid. */
  readonly joinToken: string | null;
  readonly name: string;
  /** Where the machine stands, as its owner names it; null when he does not. */
  readonly region?: string | null;
  /** What its owner wants for an hour of it while it serves; null when he names nothing. */
  readonly priceMicroUsdPerHour?: number | null;
  readonly agentVersion: string;
  readonly capabilities: NodeCapabilities;
  /** Threads of each engine on the CPU. */
  readonly threads: number;
  /** The grid that the join code names; without it the one that answers is taken. */
  readonly gridId?: string | null;
  /** What that grid signs with, as this node knows it from before. */
  readonly gridPublicKeyHex?: string | null;
  /** Bytes that all files of weights may take; without it they may fill the disk. */
  readonly weightsBudgetBytes?: number | null;
  /** Measures memory for the heartbeat; without it the figure is estimated from `capabilities`. */
  readonly memoryFreeBytes?: () => number;
  readonly onStatus?: (status: MembershipStatus) => void;
}

export type AgentState = "connecting" | "online" | "refused" | "stopped";

export interface Agent {
  readonly nodeId: NodeId;
  state(): AgentState;
  replicas(): readonly ReplicaReport[];
  /** Something other than the agent's own work changed what lies on the disk: the coordinator is told. Never rejects. */
  lookAtWeights(): Promise<void>;
  /** Resolves at the first welcome; rejects with a `FallowError` when the coordinator refuses for good, or at the abort. */
  whenOnline(signal: AbortSignal): Promise<void>;
  /** The owner wants the machine: running attempts move, engines end, memory is free when it resolves. */
  yieldNow(reason: string): Promise<void>;
  /** The owner is away: the node may be planned on again. */
  resume(): void;
  /**
   * Says goodbye, ends the engines and the link. With `drainMs` running attempts may finish for so long first. May be called
   * twice.
   */
  stop(options?: { readonly drainMs: number }): Promise<void>;
}

/** How long `stop` lets running attempts finish. */
const STOP_DRAIN_MS = 0;

/** Starts to connect at once, and reconnects for ever unless refused. */
export function createAgent(ports: AgentPorts, options: AgentOptions): Agent {
  const { capabilities } = options;
  const runner = new Runner(
    {
      ...ports,
      memoryFreeBytes: options.memoryFreeBytes ?? (() => estimatedFreeBytes(capabilities, runner.replicas())),
    },
    {
      devices: capabilities.devices,
      threads: options.threads,
      weightsBudgetBytes: options.weightsBudgetBytes ?? null,
    },
  );
  const waiters = new Set<(status: MembershipStatus) => void>();
  const membership = new AgentMembership(
    {
      name: options.name,
      region: options.region ?? null,
      priceMicroUsdPerHour: options.priceMicroUsdPerHour ?? null,
      target: options.target,
      gridId: options.gridId ?? null,
      gridPublicKeyHex: options.gridPublicKeyHex ?? null,
      joinToken: options.joinToken,
      version: options.agentVersion,
      onStatus: (status) => {
        options.onStatus?.(status);
        for (const wake of [...waiters]) wake(status);
      },
    },
    { ...ports, keyPair: options.keyPair, capabilities: () => capabilities, work: runner },
  );
  membership.start();
  return {
    nodeId: membership.nodeId,
    state: () => stateOf(membership.status),
    replicas: () => runner.replicas(),
    lookAtWeights: () => runner.lookAtWeights(),
    whenOnline: (signal) => whenOnline(membership, waiters, signal),
    yieldNow: async (reason) => {
      ports.peers?.onYield?.(true);
      await runner.yieldNow(reason, () => membership.beatNow());
      membership.beatNow();
    },
    resume: () => {
      runner.resume();
      ports.peers?.onYield?.(false);
      membership.beatNow();
    },
    stop: async (stopping) => {
      await membership.stop({ drainMs: stopping?.drainMs ?? STOP_DRAIN_MS });
      await runner.stop();
    },
  };
}

function whenOnline(
  membership: AgentMembership,
  waiters: Set<(status: MembershipStatus) => void>,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void) => {
      waiters.delete(look);
      signal.removeEventListener("abort", abort);
      end();
    };
    const abort = () => settle(() => reject(new FallowError("cancelled", "stopped waiting for the grid")));
    const look = (status: MembershipStatus) => {
      if (status.kind === "online") settle(resolve);
      else if (status.kind === "refused") settle(() => reject(new FallowError(status.code, status.message)));
      else if (status.kind === "stopped") settle(() => reject(new FallowError("cancelled", "the agent was stopped")));
    };
    waiters.add(look);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    else look(membership.status);
  });
}

function stateOf(status: MembershipStatus): AgentState {
  return status.kind === "waiting" ? "connecting" : status.kind;
}

/** What was free when the machine was measured, less what the engines have taken since. */
function estimatedFreeBytes(capabilities: NodeCapabilities, replicas: readonly ReplicaReport[]): number {
  const free = capabilities.devices.reduce((sum, device) => sum + device.memoryFreeBytes, 0);
  return Math.max(0, free - replicas.reduce((sum, replica) => sum + replica.memoryBytes, 0));
}
