/**
 * Has the placement planned and carries it out. Two ways to the same rules:
 *
 *   the cheap rule, in the turn of the event: what has to be there and is not is ordered at once
 *   the whole plan, elsewhere (ports/planner.ts): every `replanMs`, and soon after a twentieth of the capacity came or went, models
 *   changed, or something fits nowhere
 *
 * A plan was made from a snapshot that is old when it arrives. An order is carried out only when no replica came to or went from its
 * node since, its model still lacks what the plan wanted, and the laws hold for what is so now (scheduler/placement/verify-order.ts);
 * what no longer stands is dropped, and the next plan knows better. Repairs, orders and questions each get a turn of their own.
 */

import { ATTACHED_DEVICE_ID } from "../../domain/attached-engine.ts";
import { describeFault } from "../../domain/fault.ts";
import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { Planner } from "../../ports/planner.ts";
import { estimatedEnds } from "../../scheduler/chains/stage-bytes.ts";
import { packGrid } from "../../scheduler/placement/grid-columns.ts";
import { OBJECTIVE, TIER_RULES } from "../../scheduler/placement/objective.ts";
import { planPlacement, wantedReplicas } from "../../scheduler/placement/plan-placement.ts";
import type {
  ChainOrder,
  Demand,
  DemandClass,
  EndBytes,
  PlacementPlan,
  PlannedModel,
  PlanQuestion,
  ReplicaOrder,
} from "../../scheduler/placement/plan-question.ts";
import { missingKey, repairPlacement, servingCounts } from "../../scheduler/placement/repair-placement.ts";
import { type NodeFact, nodeObstacle } from "../../scheduler/placement/snapshot.ts";
import { type GridNow, orderObstacle } from "../../scheduler/placement/verify-order.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";
import { stageCountsRefused } from "../../weights/stage-architectures.ts";
import { canSplit } from "./can-split.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import type { ReplicaBook } from "./replica-book.ts";
import type { ServedModel } from "./served-models.ts";

export type ReplicaPlanner = Planner<PlanQuestion, PlacementPlan>;

export interface ReplicaPlanningPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly planner: ReplicaPlanner;
  readonly book: ReplicaBook;
  nodes(): ReadonlyMap<NodeId, NodeFact>;
  version(): number;
  /** Requests that wait for a replica of each model. */
  waiting(): ReadonlyMap<ModelId, Demand>;
  /** What is asked for, as counted and foreseen. */
  demand(): readonly DemandClass[];
  /** What a chain's ends hold of these weights; null while nobody knows: it is estimated. */
  ends?(weightsSha256: Sha256Hex): EndBytes | null;
  /** Carries out what is ordered of chains; absent: nobody does. */
  readonly chains?: {
    /** False when some of its nodes have no link, or the model is gone. */
    load(order: ChainOrder): boolean;
    /** Of a stage: false when it belongs to no chain. */
    unload(replicaId: ReplicaId, why: string): boolean;
  };
}

export interface MadePlan {
  readonly plan: PlacementPlan;
  readonly madeAtMonoMs: number;
  readonly madeAtWallMs: number;
  /** From question to answer. */
  readonly tookMs: number;
}

/** Counted since the start. */
export interface PlanningStats {
  readonly plans: number;
  readonly movedBytes: number;
  readonly coldStarts: number;
  /** Orders that no longer stood when their plan arrived. */
  readonly dropped: number;
}

/** A twentieth of the bytes that may be planned on came or went: worth a new plan at once (scheduling.md section 7.1). */
const CAPACITY_CHANGE = 0.05;
/** What fits nowhere is planned for again this often: room comes with time, when replicas have been idle for long enough. */
const SHORT_REPLAN_MS = 5_000;
/** A plan that could not be made is asked for again after 5, 10, 20 … seconds: what broke the planner may still be there. */
const FAILED_REPLAN = { baseMs: 5_000, capMs: 300_000 };
/** A repair in vain is tried again after this, whatever the grid says: demand changes what a rule keeps out. */
const VAIN_MS_MAX = 500;
/** Orders in one turn; each is a frame, a line of the log and some checks, together some tens of microseconds. */
const ORDERS_PER_TURN = 8;
const NEXT_TURN_MS = 1;

const NOTHING_WANTED: ReadonlyMap<ModelId, number> = new Map();

/** Plans at once, in the turn that asks: for simulations, tests and small grids. */
export const INLINE_PLANNER: ReplicaPlanner = {
  plan: (question) => Promise.resolve(planPlacement(question)),
  stop: () => Promise.resolve(),
};

export class ReplicaPlanning {
  readonly #ports: ReplicaPlanningPorts;
  readonly #options: DispatchOptions;
  #newest: MadePlan | null = null;
  #wanted: ReadonlyMap<ModelId, number> = new Map();
  #asked: { readonly atMs: number; readonly capacityBytes: number; readonly models: string } | null = null;
  #isAsking = false;
  /** Plans in a row that could not be made. */
  #failedPlans = 0;
  #isShort = false;
  /** The models that fit nowhere, and those of them that the newest plan was asked for. */
  #short = "";
  #plannedShort = "";
  /** Some of the newest plan no longer stood. */
  #hasDropped = false;
  #isStopped = false;
  #stepTimer: Timer | null = null;
  #wakeTimer: Timer | null = null;
  #models: readonly ServedModel[] = [];
  /** Something changed since it was looked whether anything is missing. */
  #isUnchecked = false;
  /** What the last look missed, and the last repair that found no room for what was missing. */
  #missing = "";
  #vain: { readonly missing: string; readonly version: number; readonly untilMs: number } | null = null;
  /** Of the newest plan, still to be carried out. */
  #orders: readonly ReplicaOrder[] = [];
  #counts = { plans: 0, movedBytes: 0, coldStarts: 0, dropped: 0 };

  constructor(ports: ReplicaPlanningPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Null before the first plan arrived. */
  get newest(): MadePlan | null {
    return this.#newest;
  }

  /** A model wants a replica that no node can take. */
  get isShort(): boolean {
    return this.#isShort;
  }

  stats(): PlanningStats {
    return this.#counts;
  }

  stop(): void {
    this.#isStopped = true;
    this.#stepTimer?.cancel();
    this.#wakeTimer?.cancel();
  }

  /** Orders what is missing, and asks for a plan when one is due: the first piece of that in this turn, the others in later ones. */
  look(models: readonly ServedModel[]): void {
    this.#models = models;
    this.#isUnchecked = true;
    if (this.#stepTimer === null) this.#step();
  }

  /** One piece of work in a turn of its own, the most urgent first, so that no stream waits for more than one. */
  #step(): void {
    this.#stepTimer = null;
    if (this.#isStopped) return;
    if (this.#isUnchecked && this.#mayMiss()) this.#repair();
    else if (this.#orders.length > 0) this.#carryOutSome();
    else if (this.#isDue()) void this.#ask();
    else {
      if (this.#isNewlyShort()) this.#wakeForPlan();
      return;
    }
    this.#stepTimer = this.#ports.clock.setTimer(NEXT_TURN_MS, () => this.#step());
  }

  /** What fits nowhere is planned for as soon as another plan may be asked for, whether or not anything happens until then. */
  #wakeForPlan(): void {
    this.#wakeTimer ??= this.#ports.clock.setTimer(this.#options.replanGapMs, () => {
      this.#wakeTimer = null;
      if (this.#stepTimer === null) this.#step();
    });
  }

  /** A model fits nowhere, and no plan has looked for a chain of nodes for it yet. */
  #isNewlyShort(): boolean {
    return this.#isShort && this.#short !== this.#plannedShort;
  }

  #mayMiss(): boolean {
    const { nodes, book, waiting } = this.#ports;
    const models = this.#models.map(({ manifest }) => manifest);
    this.#missing = missingKey({
      nodes: nodes(),
      replicas: book.facts(),
      models,
      waiting: waiting(),
      wanted: this.#wantedNow(),
    });
    this.#isUnchecked = this.#missing !== "" && !this.#isKnownVain();
    if (this.#missing === "") {
      this.#isShort = false;
      this.#plannedShort = "";
    }
    return this.#isUnchecked;
  }

  /** The last repair found no room for just what is missing, and nothing has changed since: a full grid is not packed at every look. */
  #isKnownVain(): boolean {
    const { version, clock } = this.#ports;
    const vain = this.#vain;
    return vain?.missing === this.#missing && vain.version === version() && clock.monoMs() < vain.untilMs;
  }

  #repair(): void {
    const nowMs = this.#ports.clock.monoMs();
    const question = this.#question();
    const { orders, short, isPartial } = repairPlacement(question, this.#wantedNow());
    const now = this.#gridNow();
    for (const order of orders) this.#carryOut(order, now);
    this.#isShort = short.length > 0;
    this.#short = short.join();
    this.#isUnchecked = isPartial;
    const isVain = orders.length === 0 && !isPartial;
    const untilMs = Math.min(nowMs + VAIN_MS_MAX, nextTryMs(question));
    this.#vain = isVain ? { missing: this.#missing, version: question.grid.version, untilMs } : null;
  }

  /** What the newest plan wants counts as lost only when its orders are out. */
  #wantedNow(): ReadonlyMap<ModelId, number> {
    return this.#orders.length > 0 ? NOTHING_WANTED : this.#wanted;
  }

  #question(): PlanQuestion {
    const { clock, book, nodes, version, waiting, demand } = this.#ports;
    return {
      grid: packGrid({ version: version(), nodes: nodes(), replicas: book.facts() }),
      models: this.#models.map((model) => plannedModel(model, this.#endsOf(model))),
      classes: demand(),
      waiting: waiting(),
      tiers: TIER_RULES,
      weights: OBJECTIVE,
      notBeforeMs: book.notBeforeMs(),
      nowMs: clock.monoMs(),
      idleUnloadMs: this.#options.idleUnloadMs,
      horizonMs: this.#options.horizonMs,
    };
  }

  /** Asked for what fits nowhere alone: a manifest is read for it. */
  #endsOf({ manifest }: ServedModel): EndBytes | null {
    const { modelId, weightsSha256 } = manifest;
    return this.#missing.includes(modelId) ? (this.#ports.ends?.(weightsSha256) ?? null) : null;
  }

  #isDue(): boolean {
    if (this.#isAsking) return false;
    const asked = this.#asked;
    if (asked === null) return true;
    const sinceMs = this.#ports.clock.monoMs() - asked.atMs;
    if (this.#failedPlans > 0) return sinceMs >= backoffCeilingMs(this.#failedPlans - 1, FAILED_REPLAN);
    if (sinceMs >= this.#options.replanMs) return true;
    if (sinceMs < this.#options.replanGapMs) return false;
    if (this.#hasDropped || this.#isNewlyShort() || (this.#isShort && sinceMs >= SHORT_REPLAN_MS)) return true;
    const changed = Math.abs(this.#capacityBytes() - asked.capacityBytes);
    return changed > CAPACITY_CHANGE * asked.capacityBytes || modelsKey(this.#models) !== asked.models;
  }

  async #ask(): Promise<void> {
    this.#isAsking = true;
    const { clock, planner, book, log } = this.#ports;
    const askedAtMs = clock.monoMs();
    const versionSeen = book.version;
    this.#plannedShort = this.#isShort ? this.#short : "";
    this.#asked = { atMs: askedAtMs, capacityBytes: this.#capacityBytes(), models: modelsKey(this.#models) };
    try {
      const plan = await planner.plan(this.#question());
      if (this.#isStopped) return;
      this.#failedPlans = 0;
      const madeAtMonoMs = clock.monoMs();
      const tookMs = madeAtMonoMs - askedAtMs;
      this.#newest = { plan, madeAtMonoMs, madeAtWallMs: clock.wallMs(), tookMs };
      this.#wanted = wantedReplicas(plan);
      this.#counts.plans += 1;
      log.debug({ orders: plan.orders.length, gap: plan.gap, tookMs }, "placement planned");
      const standing = this.#standing(plan, versionSeen);
      this.#hasDropped = standing.length < plan.orders.length;
      this.#counts.dropped += plan.orders.length - standing.length;
      this.#orders = standing;
      this.#stepTimer ??= clock.setTimer(NEXT_TURN_MS, () => this.#step());
    } catch (thrown) {
      // The cheap rule goes on without a plan, and a later look asks again.
      this.#failedPlans += 1;
      if (!this.#isStopped) log.error({ cause: describeFault(thrown) }, "placement not planned");
    } finally {
      this.#isAsking = false;
    }
  }

  /** Orders whose node nothing came to or went from since the question, and of each model no more loads than it still lacks. */
  #standing(plan: PlacementPlan, versionSeen: number): readonly ReplicaOrder[] {
    const { book, nodes } = this.#ports;
    const serving = servingCounts({ nodes: nodes(), replicas: book.facts() });
    return plan.orders.filter((order) => {
      if (!nodesOf(order).every((nodeId) => book.isUntouched(nodeId, versionSeen))) return false;
      const { modelId } = order;
      if (order.kind === "unload" || order.why === "move") return book.isUntouched(modelId, versionSeen);
      const count = serving.get(modelId) ?? 0;
      serving.set(modelId, count + 1);
      return count < (this.#wanted.get(modelId) ?? 0);
    });
  }

  #carryOutSome(): void {
    const now = this.#gridNow();
    for (const order of this.#orders.slice(0, ORDERS_PER_TURN)) this.#carryOut(order, now);
    this.#orders = this.#orders.slice(ORDERS_PER_TURN);
  }

  #carryOut(order: ReplicaOrder, now: GridNow): void {
    const { book, chains, log } = this.#ports;
    const obstacle = orderObstacle(order, now);
    if (obstacle !== null) {
      const { kind, modelId } = order;
      log.debug({ kind, nodeIds: nodesOf(order), modelId, obstacle }, "order dropped");
      this.#counts.dropped += 1;
      return;
    }
    if (order.kind === "unload") {
      // What a server holds costs the grid nothing, and nobody gains room by letting go of it.
      const isAttached = book.fact(order.replicaId)?.deviceId === ATTACHED_DEVICE_ID;
      if (isAttached && order.why !== "model-removed") return;
      if (chains?.unload(order.replicaId, order.why) !== true) book.unload(order.nodeId, order.replicaId, order.why);
      return;
    }
    const isSent = order.kind === "load" ? book.load(order) : chains?.load(order) === true;
    if (!isSent) return;
    this.#counts.movedBytes += order.movedBytes;
    if (order.why === "waiting") this.#counts.coldStarts += 1;
  }

  #gridNow(): GridNow {
    const { book, clock, nodes } = this.#ports;
    const facts = nodes();
    return {
      node: (nodeId) => facts.get(nodeId),
      replicasOn: (nodeId) => book.onNode(nodeId),
      notBeforeMs: book.notBeforeMs(),
      nowMs: clock.monoMs(),
    };
  }

  #capacityBytes(): number {
    let sum = 0;
    for (const node of this.#ports.nodes().values()) {
      if (nodeObstacle(node) === null) for (const device of node.devices) sum += usableBytes(device);
    }
    return sum;
  }
}

function nodesOf(order: ReplicaOrder): readonly NodeId[] {
  return order.kind === "load-chain" ? order.stages.map(({ nodeId }) => nodeId) : [order.nodeId];
}

/** When the first load that waits out a back-off may be tried again. */
function nextTryMs({ notBeforeMs, nowMs }: PlanQuestion): number {
  let nextMs = Number.POSITIVE_INFINITY;
  for (const atMs of notBeforeMs.values()) if (atMs > nowMs && atMs < nextMs) nextMs = atMs;
  return nextMs;
}

function plannedModel({ manifest }: ServedModel, ends: EndBytes | null): PlannedModel {
  const { modelId, contextTokensMax, layerCount, embeddingLength, warmReplicas, price } = manifest;
  const { quantisation, weightsSha256, fileBytes, kvBytesPerToken } = manifest;
  return {
    modelId,
    contextTokensMax,
    layerCount,
    embeddingLength,
    canSplit: canSplit(manifest),
    stageCountsRefused: stageCountsRefused(manifest.architecture),
    warmReplicas,
    valueMicroUsdPerMtok: price.outputMicroUsdPerMtok,
    // A registered model is one file; a second quantisation is a second model until models have variants.
    variants: [
      {
        quantisation,
        weightsSha256,
        fileBytes,
        kvBytesPerToken,
        ends: ends ?? estimatedEnds(manifest),
        qualityPenalty: 0,
      },
    ],
  };
}

function modelsKey(models: readonly ServedModel[]): string {
  return models.map(({ manifest }) => `${manifest.modelId} ${manifest.warmReplicas} ${manifest.weightsSha256}`).join();
}
