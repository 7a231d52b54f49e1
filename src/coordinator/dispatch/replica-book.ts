/**
 * Which replicas there are, by orders sent and by what nodes report.
 *
 * | event                                        | what happens                                                       |
 * | -------------------------------------------- | ------------------------------------------------------------------ |
 * | order sent                                   | `planned`: its memory counts                                       |
 * | node reports it                              | as reported                                                        |
 * | reported `failed`                            | forgotten, unloaded; this node waits out its back-off for the model |
 * | not reported `orderGraceMs` after the order  | forgotten: the order or the node's agent was lost                  |
 * | reported without an order, of a known model  | adopted: the coordinator restarted, or the node came back          |
 * | reported without an order, else              | unloaded                                                           |
 *
 * A stage of a chain is a replica like others, with a seat that `coordinator/chains` gives it; without a seat it is a spare. What stands for the
 * chain is its last stage: `ready` only while all of the chain serves.
 */
import { ATTACHED_DEVICE_ID, type EngineAbility } from "../../domain/attached-engine.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import { modelId as asModelId, replicaId as asReplicaId, sha256Hex } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { LoadOrder } from "../../scheduler/placement/plan-question.ts";
import { replicaBytes, SLOTS_MAX } from "../../scheduler/placement/slots.ts";
import type { ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import { backoffKey, nodesLacking } from "./attached-servers.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import { type KnownReplica, ordered, stageNow } from "./known-replica.ts";
import {
  isSameSeat,
  type StageLoad,
  type StageNow,
  type StageSeat,
  shareOf,
  stageFact,
  stageOf,
} from "./replica-stage.ts";
import type { ServedModels } from "./served-models.ts";

export interface ReplicaBookPorts {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly roster: Roster;
  readonly models: ServedModels;
  /** Live leases on a replica. */
  leasedOn(replicaId: ReplicaId): number;
  /** Something about the replicas of a node changed. */
  onNodeChange?(nodeId: NodeId): void;
}

/** A failed load: tried again on this node after 2, 4, 8 … seconds, at most after 5 minutes. */
const LOAD_BACKOFF = { baseMs: 2_000, capMs: 300_000 };
/** On a server that is attached a try costs little, and its owner may have mended it at any time. */
const ATTACHED_BACKOFF = { baseMs: 1_000, capMs: 10_000 };
/** Who asks for a failure does so at the next look. */
const SAID_MAX = 64;
/** A failure this long past its back-off no longer counts. */
const FAILURE_MEMORY_MS = 3_600_000;
/** Weights that are remembered to lie on a node, the last ones; disks hold tens of models. */
const CACHED_WEIGHTS_MAX = 64;

export class ReplicaBook {
  readonly #ports: ReplicaBookPorts;
  readonly #options: DispatchOptions;
  readonly #known = new Map<ReplicaId, KnownReplica>();
  /** Those of them that are stages. */
  readonly #stages = new Map<ReplicaId, KnownReplica>();
  /** Those of them that servers of nodes' owners hold. */
  readonly #attached = new Set<KnownReplica>();
  readonly #byNode = new Map<NodeId, Set<KnownReplica>>();
  readonly #failures = new Map<string, { count: number; notBeforeMs: number }>();
  /** What the nodes said of replicas that failed; the oldest comes first. */
  readonly #saidOfFailed = new Map<ReplicaId, string>();
  readonly #cached = new Map<NodeId, ReadonlySet<Sha256Hex>>();
  /** When a replica of a node or of a model came or went last, in versions. */
  readonly #changedAt = new Map<NodeId | ModelId, number>();
  #version = 0;

  constructor(ports: ReplicaBookPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Grows with every change. */
  get version(): number {
    return this.#version;
  }

  /** Sorted by replica id. */
  facts(): readonly ReplicaFact[] {
    return this.#sorted([...this.#known.values()]);
  }

  /** Those of one model: asked for many times a second, so no facts of others are made. */
  factsOf(modelId: ModelId): readonly ReplicaFact[] {
    return this.#sorted([...this.#known.values()].filter((known) => known.modelId === modelId));
  }

  #sorted(known: readonly KnownReplica[]): readonly ReplicaFact[] {
    const facts = known.map((one) => this.#fact(one));
    return facts.sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1));
  }

  fact(replicaId: ReplicaId): ReplicaFact | null {
    const known = this.#known.get(replicaId);
    return known === undefined ? null : this.#fact(known);
  }

  onNode(nodeId: NodeId): readonly ReplicaFact[] {
    return [...(this.#byNode.get(nodeId) ?? [])].map((known) => this.#fact(known));
  }

  numericClassOf(replicaId: ReplicaId): string | null {
    return this.#known.get(replicaId)?.report?.numericClass ?? null;
  }

  /** Nodes on which no replica of the model can do all this. */
  lacking(modelId: ModelId, needs: readonly EngineAbility[]): ReadonlySet<NodeId> {
    const others = (nodeId: NodeId) => this.#byNode.get(nodeId) ?? [];
    return nodesLacking({ modelId, needs }, { attached: this.#attached, others });
  }

  cachedWeights(nodeId: NodeId): ReadonlySet<Sha256Hex> | undefined {
    return this.#cached.get(nodeId);
  }

  /** No replica of this node, or of this model, came or went since this version. */
  isUntouched(one: NodeId | ModelId, sinceVersion: number): boolean {
    return (this.#changedAt.get(one) ?? 0) <= sinceVersion;
  }

  /** Key of `pairKey`. */
  notBeforeMs(): ReadonlyMap<string, number> {
    return new Map([...this.#failures].map(([key, { notBeforeMs }]) => [key, notBeforeMs]));
  }

  /** A lease on it ended. */
  touch(replicaId: ReplicaId): void {
    const known = this.#known.get(replicaId);
    if (known !== undefined) known.lastUsedAtMs = this.#ports.clock.monoMs();
  }

  /** Takes a node's report. */
  observe(view: NodeView): void {
    const reported = new Set<string>();
    for (const report of view.replicas) {
      reported.add(report.replicaId);
      this.#take(view, report);
    }
    if (view.state === "offline") return;
    for (const known of [...(this.#byNode.get(view.nodeId) ?? [])]) {
      if (reported.has(known.replicaId)) continue;
      if (known.report !== null) this.#forget(known);
      else if (this.#isOrderLost(known, view)) this.#giveUp(known);
    }
  }

  /** Drops what belongs to nodes that are no more, orders that were lost, failures of long ago. */
  sweep(): void {
    const { roster, clock } = this.#ports;
    for (const known of [...this.#known.values()]) {
      const view = roster.node(known.nodeId);
      if (view === null) this.#forget(known);
      else if (this.#isOrderLost(known, view)) this.#giveUp(known);
    }
    for (const [key, { notBeforeMs }] of this.#failures) {
      if (clock.monoMs() - notBeforeMs > FAILURE_MEMORY_MS) this.#failures.delete(key);
    }
  }

  /** False when the node has no link, or the model is gone or cannot be given to nodes yet. */
  load(order: LoadOrder): boolean {
    const { roster, ids, clock, log, models } = this.#ports;
    const model = models.get(order.modelId);
    const manifest = model?.manifest;
    if (manifest === undefined || manifest.weightsSha256 !== order.weightsSha256) return false;
    if (model?.isDescribed === false) return false;
    const { modelId, weightsSha256, fileBytes } = manifest;
    const { nodeId, deviceId, why } = order;
    const { contextTokens, sequencesMax, memoryBytes } = order.size;
    const replicaId = asReplicaId(ids.make("rep"));
    const load = { replicaId, modelId, weightsSha256, fileBytes, contextTokens, sequencesMax, deviceId };
    if (!roster.send(nodeId, { type: "replica.load", ...load })) return false;
    this.#add(ordered({ ...load, nodeId, slots: sequencesMax, memoryBytes, stage: null }, clock.monoMs()));
    log.info({ nodeId, replicaId, modelId, contextTokens, slots: sequencesMax, why }, "replica ordered");
    return true;
  }

  /** A spare until it is given a seat. Null when the node has no link, or the model is gone or cannot be given to nodes yet. */
  loadStage(order: StageLoad): ReplicaId | null {
    const { roster, ids, clock, log, models } = this.#ports;
    const { nodeId, deviceId, modelId, weightsSha256, stage, contextTokens, sequencesMax, memoryBytes, why } = order;
    const model = models.get(modelId);
    if (model?.manifest.weightsSha256 !== weightsSha256 || model.isDescribed === false) return null;
    const replicaId = asReplicaId(ids.make("rep"));
    const { fileBytes } = model.manifest;
    const load = { replicaId, modelId, weightsSha256, fileBytes, contextTokens, sequencesMax, deviceId };
    if (!roster.send(nodeId, { type: "replica.load", ...load, stage })) return null;
    this.#add(ordered({ ...load, nodeId, slots: sequencesMax, memoryBytes, stage }, clock.monoMs()));
    const { first, count } = stage;
    log.info({ nodeId, replicaId, modelId, first, count, slots: sequencesMax, why }, "stage ordered");
    return replicaId;
  }

  /** Null: it is a spare from now on. */
  seat(replicaId: ReplicaId, seat: StageSeat | null): void {
    const known = this.#known.get(replicaId);
    if (known === undefined || known.stage === null || isSameSeat(known.seat, seat)) return;
    const isTaken = known.seat?.chainId !== seat?.chainId;
    const isServing = seat?.isServing === true && known.seat?.isServing !== true;
    known.seat = seat;
    if (isServing) known.lastUsedAtMs = this.#ports.clock.monoMs();
    // A seat that is given or taken is a stage that comes or goes; that its chain serves is news of its state only.
    if (isTaken) this.#changed(known);
    else this.#reported(known);
  }

  /** What its node said when it failed; null when it did not, or long ago. */
  failureOf(replicaId: ReplicaId): string | null {
    return this.#saidOfFailed.get(replicaId) ?? null;
  }

  /** Null of what is no stage, or not known. */
  stage(replicaId: ReplicaId): StageNow | null {
    const known = this.#known.get(replicaId);
    return known === undefined ? null : stageNow(known);
  }

  /** Sorted by replica id. */
  stages(): readonly StageNow[] {
    const stages = [...this.#stages.values()].flatMap((known) => stageNow(known) ?? []);
    return stages.sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1));
  }

  unload(nodeId: NodeId, replicaId: ReplicaId, reason: string): void {
    const known = this.#known.get(replicaId);
    if (known !== undefined && !known.isUnloading) {
      known.isUnloading = true;
      this.#changed(known);
    }
    this.#ports.roster.send(nodeId, { type: "replica.unload", replicaId, reason });
  }

  /** The node never mentioned it: the order, or its agent, was lost. A node without replicas has nothing to report, so time tells. */
  #isOrderLost(known: KnownReplica, view: NodeView): boolean {
    const waitedMs = this.#ports.clock.monoMs() - known.orderedAtMs;
    return known.report === null && view.state !== "offline" && waitedMs >= this.#options.orderGraceMs;
  }

  #take(view: NodeView, report: ReplicaReport): void {
    const replicaId = asReplicaId(report.replicaId);
    const known = this.#known.get(replicaId) ?? this.#adopt(view, report);
    if (known === null) {
      if (report.state !== "gone" && report.state !== "failed") this.unload(view.nodeId, replicaId, "not-ordered");
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
      this.#failures.delete(backoffKey(known));
      if (known.stage === null && known.deviceId !== ATTACHED_DEVICE_ID) this.#rememberWeights(known);
    }
    const isChanged = known.report?.state !== report.state;
    known.report = report;
    if (isChanged) this.#reported(known);
    if (known.isUnloading) this.unload(known.nodeId, replicaId, "unloading");
  }

  /** A replica that runs but was not ordered in this life: kept when its weights are those of a registered model. */
  #adopt(view: NodeView, report: ReplicaReport): KnownReplica | null {
    if (report.weightsSha256 === undefined || report.deviceId === undefined) return null;
    if (report.state !== "ready" && report.state !== "loading") return null;
    const weightsSha256 = sha256Hex(report.weightsSha256);
    const model = this.#ports.models.byWeights(weightsSha256);
    const hasDevice = view.capabilities.devices.some(({ deviceId }) => deviceId === report.deviceId);
    const { contextTokens, slots } = report;
    if (model === null || !hasDevice || slots < 1 || contextTokens < 1) return null;
    // No coordinator ever orders more: who claims it would be given every request there is.
    if (slots > SLOTS_MAX || contextTokens > model.manifest.contextTokensMax) return null;
    const stage = stageOf(report, model.manifest.layerCount);
    if (stage === "impossible") return null;
    const shape = { contextTokens, sequencesMax: slots };
    const known = ordered(
      {
        replicaId: asReplicaId(report.replicaId),
        nodeId: view.nodeId,
        modelId: asModelId(model.manifest.modelId),
        weightsSha256,
        deviceId: report.deviceId,
        slots,
        contextTokens,
        memoryBytes:
          report.deviceId === ATTACHED_DEVICE_ID
            ? 0
            : replicaBytes(stage === null ? model.manifest : shareOf(model.manifest, stage), shape),
        stage,
      },
      this.#ports.clock.monoMs(),
    );
    this.#add(known);
    const { nodeId, replicaId, modelId } = known;
    this.#ports.log.info({ nodeId, replicaId, modelId }, "replica adopted");
    return known;
  }

  #countFailure(known: KnownReplica, report: ReplicaReport): void {
    const key = backoffKey(known);
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    const isAttached = known.deviceId === ATTACHED_DEVICE_ID;
    const waitMs = backoffCeilingMs(count - 1, isAttached ? ATTACHED_BACKOFF : LOAD_BACKOFF);
    this.#failures.set(key, { count, notBeforeMs: this.#ports.clock.monoMs() + waitMs });
    const { nodeId, replicaId, modelId } = known;
    const { code, message } = report.failure ?? { code: "failed", message: "it gave no reason" };
    this.#saidOfFailed.set(replicaId, `${nodeId} could not load: ${code}: ${message}`);
    const [oldest] = this.#saidOfFailed.keys();
    if (this.#saidOfFailed.size > SAID_MAX && oldest !== undefined) this.#saidOfFailed.delete(oldest);
    this.#ports.log.warn({ nodeId, replicaId, modelId, failure: report.failure, waitMs }, "replica failed");
    this.#ports.roster.send(nodeId, { type: "replica.unload", replicaId, reason: "failed" });
  }

  /** Should the order be late rather than lost, what follows it on the same link takes it back. */
  #giveUp(known: KnownReplica): void {
    this.unload(known.nodeId, known.replicaId, "the order was not answered in time");
    this.#forget(known);
  }

  #add(known: KnownReplica): void {
    this.#known.set(known.replicaId, known);
    if (known.stage !== null) this.#stages.set(known.replicaId, known);
    if (known.deviceId === ATTACHED_DEVICE_ID) this.#attached.add(known);
    const here = this.#byNode.get(known.nodeId);
    if (here === undefined) this.#byNode.set(known.nodeId, new Set([known]));
    else here.add(known);
    this.#changed(known);
  }

  #forget(known: KnownReplica): void {
    this.#known.delete(known.replicaId);
    this.#stages.delete(known.replicaId);
    this.#attached.delete(known);
    const here = this.#byNode.get(known.nodeId);
    here?.delete(known);
    if (here?.size === 0) this.#byNode.delete(known.nodeId);
    this.#changed(known);
  }

  /** It exists, goes or is gone where it was not: a plan made before did not know. */
  #changed(known: KnownReplica): void {
    const { nodeId, modelId } = known;
    this.#changedAt.set(nodeId, this.#version + 1);
    this.#changedAt.set(modelId, this.#version + 1);
    this.#reported(known);
  }

  #reported({ nodeId }: KnownReplica): void {
    this.#version += 1;
    this.#ports.onNodeChange?.(nodeId);
  }

  #rememberWeights({ nodeId, weightsSha256 }: KnownReplica): void {
    const others = [...(this.#cached.get(nodeId) ?? [])].filter((digest) => digest !== weightsSha256);
    this.#cached.set(nodeId, new Set([...others.slice(1 - CACHED_WEIGHTS_MAX), weightsSha256]));
  }

  #fact(known: KnownReplica): ReplicaFact {
    const { replicaId, nodeId, modelId, weightsSha256, deviceId, memoryBytes, lastUsedAtMs, report, stage, seat } =
      known;
    const reported = report?.state ?? "planned";
    const isReady = report?.state === "ready";
    const waitsForOthers = seat?.isLast === true && !seat.isServing && isReady;
    const slots = Math.min(known.slots, isReady ? report.slots : known.slots);
    const contextTokens = Math.min(known.contextTokens, isReady ? report.contextTokens : known.contextTokens);
    return {
      replicaId,
      nodeId,
      modelId,
      weightsSha256,
      deviceId,
      memoryBytes,
      lastUsedAtMs,
      state: known.isUnloading ? "draining" : waitsForOthers ? "loading" : reported,
      slots: Math.min(slots, seat?.slots ?? slots),
      slotsLeased: this.#ports.leasedOn(replicaId),
      contextTokens: Math.min(contextTokens, seat?.contextTokens ?? contextTokens),
      ...(report?.holdsBack === true ? { holdsBack: true } : {}),
      ...(stage === null ? {} : { stage: stageFact(stage, seat) }),
    };
  }
}
