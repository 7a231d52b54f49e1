/**
 * Keeps the replicas that should exist: makes the replica plan after every change of the roster (changes of one turn, and those
 * within `planGapMs` of a plan, share the next one) and every `planMs`, sends the orders, and follows what nodes report.
 *
 * | event                                        | what happens                                                       |
 * | -------------------------------------------- | ------------------------------------------------------------------ |
 * | order sent                                   | `planned`: its memory counts                                       |
 * | node reports it                              | as reported                                                        |
 * | reported `failed`                            | forgotten, unloaded; this node waits out its back-off for the model |
 * | not reported `orderGraceMs` after the order  | forgotten: the order or the node's agent was lost                  |
 * | reported without an order, of a known model  | adopted: the coordinator restarted, or the node came back          |
 * | reported without an order, else              | unloaded                                                           |
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { modelId as asModelId, replicaId as asReplicaId, sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import { type Demand, pairKey, planReplicas, type ReplicaOrder } from "../../scheduler/placement/replica-plan.ts";
import { replicaBytes, SLOTS_MAX } from "../../scheduler/placement/slots.ts";
import { describeLosers, type NodeFact, nodeObstacle, type ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import type { ServedModels } from "./served-models.ts";

interface KnownReplica {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly deviceId: string;
  readonly slots: number;
  readonly contextTokens: number;
  readonly memoryBytes: number;
  readonly orderedAtMs: number;
  report: ReplicaReport | null;
  isUnloading: boolean;
  lastUsedAtMs: number;
}

export interface ReplicaPoolPorts {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly roster: Roster;
  readonly models: ServedModels;
  /** Live leases on a replica. */
  leasedOn(replicaId: ReplicaId): number;
  /** Requests that wait for a replica of each model. */
  demand(): ReadonlyMap<ModelId, Demand>;
  /** A replica may have become ready. */
  onChange(): void;
}

/** A failed load: tried again on this node after 2, 4, 8 … seconds, at most after 5 minutes. */
const LOAD_BACKOFF = { baseMs: 2_000, capMs: 300_000 };
/** A failure this long past its back-off no longer counts. */
const FAILURE_MEMORY_MS = 3_600_000;

export class ReplicaPool {
  readonly #ports: ReplicaPoolPorts;
  readonly #options: DispatchOptions;
  readonly #known = new Map<ReplicaId, KnownReplica>();
  readonly #failures = new Map<string, { count: number; notBeforeMs: number }>();
  readonly #servingWaiters = new Set<() => void>();
  #version = 0;
  #plannedVersion = -1;
  #isPlanQueued = false;
  #isStopped = false;
  #timer: Timer | null = null;
  #gapTimer: Timer | null = null;
  #lastPlanMs = Number.NEGATIVE_INFINITY;
  #nodeCache: { version: number; nodes: ReadonlyMap<NodeId, NodeFact> } | null = null;

  constructor(ports: ReplicaPoolPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  start(): void {
    this.#timer = this.#ports.clock.setTimer(this.#options.planMs, () => this.#planAndRepeat());
    this.planSoon();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#gapTimer?.cancel();
  }

  /** Grows with every change that could alter a plan. */
  get version(): number {
    return this.#ports.roster.version + this.#version;
  }

  /** In the order of node ids; made once for each version of the roster. */
  nodes(): ReadonlyMap<NodeId, NodeFact> {
    const { roster } = this.#ports;
    if (this.#nodeCache?.version !== roster.version) {
      this.#nodeCache = {
        version: roster.version,
        nodes: new Map(roster.nodes().map((view) => [view.nodeId, nodeFact(view)])),
      };
    }
    return this.#nodeCache.nodes;
  }

  /** Sorted by replica id. */
  replicas(): readonly ReplicaFact[] {
    const facts = [...this.#known.values()].map((known) => this.#fact(known));
    return facts.sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1));
  }

  replica(replicaId: ReplicaId): ReplicaFact | null {
    const known = this.#known.get(replicaId);
    return known === undefined ? null : this.#fact(known);
  }

  /** Which model a node's replica runs; null when the pool does not know it. */
  modelOf(replicaId: ReplicaId): ModelId | null {
    return this.#known.get(replicaId)?.modelId ?? null;
  }

  /** Resolves with true when a replica of the model can take a request, or with false at the abort. */
  whenServing(modelId: ModelId, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (isServing: boolean) => {
        this.#servingWaiters.delete(look);
        signal.removeEventListener("abort", abort);
        resolve(isServing);
      };
      const look = () => {
        if (this.slotsOf(modelId) > 0) settle(true);
      };
      const abort = () => settle(false);
      this.#servingWaiters.add(look);
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
      else look();
    });
  }

  /** Ready replicas of a model on nodes that take work. */
  ready(modelId: ModelId): readonly ReplicaFact[] {
    const nodes = this.nodes();
    return this.replicas().filter((replica) => {
      const node = nodes.get(replica.nodeId);
      const isUp = node !== undefined && nodeObstacle(node) === null;
      return isUp && replica.modelId === modelId && replica.state === "ready";
    });
  }

  /** Within which a seed repeats exactly; null when no replica is ready or they differ. */
  numericClass(modelId: ModelId): string | null {
    const classes = new Set(
      this.ready(modelId).map(({ replicaId }) => this.#known.get(replicaId)?.report?.numericClass ?? null),
    );
    const [only = null] = classes;
    return classes.size === 1 ? only : null;
  }

  /** Slots of all ready replicas of a model. */
  slotsOf(modelId: ModelId): number {
    return this.ready(modelId).reduce((sum, replica) => sum + replica.slots, 0);
  }

  /** A lease on it ended. */
  touch(replicaId: ReplicaId): void {
    const known = this.#known.get(replicaId);
    if (known !== undefined) known.lastUsedAtMs = this.#ports.clock.monoMs();
  }

  /** A node reported, or its state changed: compare with what was ordered. */
  observe(nodeId: NodeId): void {
    const view = this.#ports.roster.node(nodeId);
    if (view === null) return;
    const versionBefore = this.version;
    const reported = new Set<string>();
    for (const report of view.replicas) {
      reported.add(report.replicaId);
      this.#take(view, report);
    }
    for (const known of [...this.#known.values()]) {
      if (known.nodeId !== nodeId || reported.has(known.replicaId) || view.state === "offline") continue;
      if (known.report !== null) this.#forget(known);
      else if (this.#isOrderLost(known, view)) this.#giveUp(known);
    }
    if (this.version === versionBefore && this.version === this.#plannedVersion) return;
    this.#ports.onChange();
    for (const look of [...this.#servingWaiters]) look();
    this.planSoon();
  }

  /** The node never mentioned it: the order, or its agent, was lost. A node without replicas has nothing to report, so time tells. */
  #isOrderLost(known: KnownReplica, view: NodeView): boolean {
    const waitedMs = this.#ports.clock.monoMs() - known.orderedAtMs;
    return known.report === null && view.state !== "offline" && waitedMs >= this.#options.orderGraceMs;
  }

  /** In this very turn, but no sooner than `planGapMs` after the plan before. */
  planSoon(): void {
    if (this.#isPlanQueued || this.#isStopped) return;
    this.#isPlanQueued = true;
    const waitMs = this.#lastPlanMs + this.#options.planGapMs - this.#ports.clock.monoMs();
    if (waitMs > 0) this.#gapTimer = this.#ports.clock.setTimer(waitMs, () => this.#planQueued());
    else queueMicrotask(() => this.#planQueued());
  }

  #planQueued(): void {
    this.#isPlanQueued = false;
    if (!this.#isStopped) this.#plan();
  }

  #planAndRepeat(): void {
    if (this.#isStopped) return;
    this.#timer = this.#ports.clock.setTimer(this.#options.planMs, () => this.#planAndRepeat());
    this.planSoon();
  }

  #plan(): void {
    const { roster, models, clock, log } = this.#ports;
    this.#lastPlanMs = clock.monoMs();
    for (const known of [...this.#known.values()]) {
      const view = roster.node(known.nodeId);
      if (view === null) this.#forget(known);
      else if (this.#isOrderLost(known, view)) this.#giveUp(known);
    }
    for (const [key, { notBeforeMs }] of this.#failures) {
      if (clock.monoMs() - notBeforeMs > FAILURE_MEMORY_MS) this.#failures.delete(key);
    }
    const plan = planReplicas({
      snapshot: { version: this.version, nodes: this.nodes(), replicas: this.replicas() },
      models: models.list().map(({ manifest }) => manifest),
      demand: this.#ports.demand(),
      notBeforeMs: new Map([...this.#failures].map(([key, { notBeforeMs }]) => [key, notBeforeMs])),
      nowMs: clock.monoMs(),
      idleUnloadMs: this.#options.idleUnloadMs,
    });
    for (const [modelId, losers] of plan.shortages) {
      log.debug({ modelId, losers: describeLosers(losers) }, "replica wanted, no node can take it");
    }
    for (const order of plan.orders) this.#carryOut(order);
    this.#plannedVersion = this.version;
  }

  #carryOut(order: ReplicaOrder): void {
    const { roster, ids, clock, log, models } = this.#ports;
    if (order.kind === "unload") {
      this.#unload(order.nodeId, order.replicaId, order.why);
      return;
    }
    const model = models.get(order.modelId);
    if (model === null) return;
    const replicaId = asReplicaId(ids.make("rep"));
    const { contextTokens, sequencesMax, memoryBytes } = order.size;
    const { weightsSha256, fileBytes, modelId } = model.manifest;
    const { nodeId, deviceId } = order;
    const load = { replicaId, modelId, weightsSha256, fileBytes, contextTokens, sequencesMax, deviceId };
    if (!roster.send(nodeId, { type: "replica.load", ...load })) return;
    const nowMs = clock.monoMs();
    this.#known.set(replicaId, {
      replicaId,
      nodeId,
      modelId,
      deviceId,
      slots: sequencesMax,
      contextTokens,
      memoryBytes,
      orderedAtMs: nowMs,
      report: null,
      isUnloading: false,
      lastUsedAtMs: nowMs,
    });
    this.#version += 1;
    log.info({ nodeId, replicaId, modelId, contextTokens, slots: sequencesMax }, "replica ordered");
  }

  #take(view: NodeView, report: ReplicaReport): void {
    const replicaId = asReplicaId(report.replicaId);
    const known = this.#known.get(replicaId) ?? this.#adopt(view, report);
    if (known === null) {
      if (report.state !== "gone" && report.state !== "failed") this.#unload(view.nodeId, replicaId, "not-ordered");
      return;
    }
    if (known.nodeId !== view.nodeId) return;
    if (report.state === "failed" || report.state === "gone") {
      if (report.state === "failed") this.#countFailure(known, report);
      this.#forget(known);
      return;
    }
    if (report.state === "ready" && known.report?.state !== "ready") {
      known.lastUsedAtMs = this.#ports.clock.monoMs();
      this.#failures.delete(pairKey(known.nodeId, known.modelId));
    }
    if (known.report?.state !== report.state) this.#version += 1;
    known.report = report;
    if (known.isUnloading) this.#unload(known.nodeId, replicaId, "unloading");
  }

  /** A replica that runs but was not ordered in this life: kept when its weights are those of a registered model. */
  #adopt(view: NodeView, report: ReplicaReport): KnownReplica | null {
    if (report.weightsSha256 === undefined || report.deviceId === undefined) return null;
    if (report.state !== "ready" && report.state !== "loading") return null;
    const model = this.#ports.models.byWeights(sha256Hex(report.weightsSha256));
    const hasDevice = view.capabilities.devices.some(({ deviceId }) => deviceId === report.deviceId);
    const { contextTokens, slots } = report;
    if (model === null || !hasDevice || slots < 1 || contextTokens < 1) return null;
    // No coordinator ever orders more: who claims it would be given every request there is.
    if (slots > SLOTS_MAX || contextTokens > model.manifest.contextTokensMax) return null;
    const nowMs = this.#ports.clock.monoMs();
    const known: KnownReplica = {
      replicaId: asReplicaId(report.replicaId),
      nodeId: view.nodeId,
      modelId: asModelId(model.manifest.modelId),
      deviceId: report.deviceId,
      slots,
      contextTokens,
      memoryBytes: replicaBytes(model.manifest, { contextTokens, sequencesMax: slots }),
      orderedAtMs: nowMs,
      report: null,
      isUnloading: false,
      lastUsedAtMs: nowMs,
    };
    this.#known.set(known.replicaId, known);
    this.#version += 1;
    this.#ports.log.info(
      { nodeId: view.nodeId, replicaId: known.replicaId, modelId: known.modelId },
      "replica adopted",
    );
    return known;
  }

  #unload(nodeId: NodeId, replicaId: ReplicaId, reason: string): void {
    const known = this.#known.get(replicaId);
    if (known !== undefined && !known.isUnloading) {
      known.isUnloading = true;
      this.#version += 1;
    }
    this.#ports.roster.send(nodeId, { type: "replica.unload", replicaId, reason });
  }

  #countFailure(known: KnownReplica, report: ReplicaReport): void {
    const key = pairKey(known.nodeId, known.modelId);
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    const waitMs = backoffCeilingMs(count - 1, LOAD_BACKOFF);
    this.#failures.set(key, { count, notBeforeMs: this.#ports.clock.monoMs() + waitMs });
    const { nodeId, replicaId, modelId } = known;
    this.#ports.log.warn({ nodeId, replicaId, modelId, failure: report.failure, waitMs }, "replica failed");
    this.#ports.roster.send(nodeId, { type: "replica.unload", replicaId, reason: "failed" });
  }

  /** Should the order be late rather than lost, what follows it on the same link takes it back. */
  #giveUp(known: KnownReplica): void {
    this.#unload(known.nodeId, known.replicaId, "the order was not answered in time");
    this.#forget(known);
  }

  #forget(known: KnownReplica): void {
    this.#known.delete(known.replicaId);
    this.#version += 1;
    this.planSoon();
  }

  #fact(known: KnownReplica): ReplicaFact {
    const { replicaId, nodeId, modelId, deviceId, memoryBytes, lastUsedAtMs, report } = known;
    const reported = report?.state ?? "planned";
    return {
      replicaId,
      nodeId,
      modelId,
      deviceId,
      memoryBytes,
      lastUsedAtMs,
      state: known.isUnloading ? "draining" : reported,
      slots: Math.min(known.slots, report?.state === "ready" ? report.slots : known.slots),
      slotsLeased: this.#ports.leasedOn(replicaId),
      contextTokens: Math.min(
        known.contextTokens,
        report?.state === "ready" ? report.contextTokens : known.contextTokens,
      ),
    };
  }
}

function nodeFact(view: NodeView): NodeFact {
  return {
    nodeId: view.nodeId,
    state: view.state,
    isYielding: view.isYielding,
    devices: view.capabilities.devices,
    decodeTokPerSecond: view.capabilities.referenceSpeed?.decodeTokPerSecond ?? null,
  };
}
