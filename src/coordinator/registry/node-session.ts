/** One proved link of a node: what it told since it connected. Lives as long as the link. */
import type { NodeId } from "../../domain/ids.ts";
import { LIVENESS } from "../../domain/node.ts";
import type { Link } from "../../ports/link.ts";
import {
  bornPulse,
  credited,
  heard,
  judged,
  type Pulse,
  type Verdict,
} from "../../scheduler/liveness/failure-detector.ts";
import {
  type CoordinatorMessage,
  type Heartbeat,
  type Hello,
  type ReplicaReport,
  WIRE_BOUNDS,
} from "../../wire/agent-link.ts";
import { type FrameBudget, fullBudget, takeFrame } from "./frame-budget.ts";
import { networkOf } from "./network-prefix.ts";

/** Queued for one node and not taken by its machine: it reads nothing, and is cut before it costs the coordinator's memory. */
export const SEND_BUFFER_BYTES_MAX = 64 * 1024 * 1024;
/** Of a join code's digest: tells owners apart, and says nothing of the code. */
const OWNER_DIGITS = 16;
/** Beyond this the operator is told: receipts of the node would show times that nobody believes. */
export const CLOCK_SKEW_MS_MAX = 30_000;

export interface HeartbeatChanges {
  /** Something about the node's replicas is new. */
  readonly replicas: boolean;
  /** Of that, something that a plan depends on; load alone is not. */
  readonly plan: boolean;
}

export class NodeSession {
  readonly nodeId: NodeId;
  readonly link: Link;
  /** Order in which links were accepted: the higher one is the newer. */
  readonly connection: number;
  readonly sessionTokenSha256: string;
  /** As the node named it. */
  readonly region: string | null;
  /** What its operator wants for an hour of it. */
  readonly priceMicroUsdPerHour: number | null;
  /** Prefix of the address that the link comes from. */
  readonly network: string | null;
  /** Who came with the same join code belongs together; null when the node came with none. */
  readonly owner: string | null;
  replicas: readonly ReplicaReport[];
  isYielding = false;
  isLeaving = false;
  rttMs: number | null = null;
  clockSkewMs = 0;
  isOver = false;
  #receivedBytes = 0;
  #pulse: Pulse;
  readonly #budget: FrameBudget;

  constructor(start: {
    nodeId: NodeId;
    link: Link;
    connection: number;
    sessionTokenSha256: string;
    hello: Pick<Hello, "region" | "priceMicroUsdPerHour" | "replicas">;
    joinTokenSha256: string | null;
    nowMs: number;
  }) {
    this.nodeId = start.nodeId;
    this.link = start.link;
    this.connection = start.connection;
    this.sessionTokenSha256 = start.sessionTokenSha256;
    this.region = start.hello.region ?? null;
    this.priceMicroUsdPerHour = start.hello.priceMicroUsdPerHour ?? null;
    this.network = networkOf(start.link.remote);
    this.owner = start.joinTokenSha256?.slice(0, OWNER_DIGITS) ?? null;
    this.replicas = start.hello.replicas;
    this.#pulse = bornPulse(start.nowMs);
    this.#budget = fullBudget(start.nowMs);
  }

  get verdict(): Verdict {
    return this.#pulse.verdict;
  }

  get lastHeardMs(): number {
    return this.#pulse.lastHeardMs;
  }

  /** False when the node sends more than its budget. */
  takeFrame(chars: number, nowMs: number): boolean {
    return takeFrame(this.#budget, { chars, nowMs });
  }

  hear(nowMs: number): void {
    this.#pulse = heard(this.#pulse, nowMs);
    this.#receivedBytes = this.link.receivedBytes?.() ?? 0;
  }

  /** Bytes came in since the node was last heard: a large frame is on its way. */
  isReceiving(): boolean {
    return (this.link.receivedBytes?.() ?? 0) > this.#receivedBytes;
  }

  /** What silence says at this time; `pausedMs` is the coordinator's own pause since the last look. */
  judge(nowMs: number, pausedMs: number): Pulse {
    return judged(credited(this.#pulse, pausedMs, nowMs), nowMs, LIVENESS);
  }

  take(pulse: Pulse): void {
    this.#pulse = pulse;
  }

  takeHeartbeat(beat: Heartbeat, wallMs: number): HeartbeatChanges {
    const changes = {
      replicas: !isSame(this.replicas, beat.replicas, (report) => JSON.stringify(report)),
      plan: !isSame(this.replicas, beat.replicas, planText),
    };
    this.replicas = beat.replicas;
    this.isYielding = beat.isYielding;
    this.isLeaving = beat.isLeaving ?? false;
    this.rttMs = beat.rttMs ?? this.rttMs;
    this.clockSkewMs = beat.sentAtMs - wallMs;
    return changes;
  }

  /** Null when the node would have more replicas than a node may have. */
  takeReplica(report: ReplicaReport): HeartbeatChanges | null {
    const old = this.replicas.find((known) => known.replicaId === report.replicaId);
    const others = this.replicas.filter((known) => known !== old);
    if (others.length >= WIRE_BOUNDS.replicasPerNodeMax) return null;
    this.replicas = report.state === "gone" ? others : [...others, report];
    return { replicas: true, plan: old === undefined || planText(old) !== planText(report) };
  }

  /** False when the link takes no more: the node does not read. */
  send(message: CoordinatorMessage): boolean {
    if (this.link.bufferedBytes() > SEND_BUFFER_BYTES_MAX) return false;
    this.link.send(JSON.stringify(message));
    return true;
  }
}

/** What of a replica a plan depends on; `slotsBusy` and `queued` are what the node claims, dispatch counts its own leases. */
function planText(report: ReplicaReport): string {
  const { replicaId, state, slots, contextTokens, numericClass, memoryBytes } = report;
  return [replicaId, state, slots, contextTokens, numericClass, memoryBytes].join(" ");
}

function isSame(
  before: readonly ReplicaReport[],
  after: readonly ReplicaReport[],
  text: (report: ReplicaReport) => string,
): boolean {
  if (before.length !== after.length) return false;
  return before.every((report, at) => {
    const other = after[at];
    return other !== undefined && text(report) === text(other);
  });
}
