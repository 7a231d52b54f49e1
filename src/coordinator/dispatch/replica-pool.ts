/**
 * The replicas of the grid as the rest of the coordinator sees them, and when they are looked at: after every change of the roster
 * (changes of one turn, and those within `planGapMs` of a look, share the next one) and every `planMs`. replica-book.ts follows
 * what exists, replica-planning.ts decides and orders what should.
 */
import type { EngineAbility } from "../../domain/attached-engine.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { wholeTokenSeconds } from "../../scheduler/chains/stage-speed.ts";
import { Arrivals } from "../../scheduler/placement/arrivals.ts";
import { loneTokenSeconds, ObservedSpeeds } from "../../scheduler/placement/observed-speed.ts";
import type { Demand, DemandClass, EndBytes } from "../../scheduler/placement/plan-question.ts";
import { isReplicaFact, type NodeFact, nodeObstacle, type ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import { ChainDesk } from "../chains/chain-desk.ts";
import type { ChainDeskPorts } from "../chains/chain-desk-ports.ts";
import { attachedLoads } from "./attached-servers.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import { NodeFacts, type NodeKnowledge } from "./node-facts.ts";
import { ReplicaBook, type ReplicaBookPorts } from "./replica-book.ts";
import {
  INLINE_PLANNER,
  type MadePlan,
  type PlanningStats,
  type ReplicaPlanner,
  ReplicaPlanning,
} from "./replica-planning.ts";
import type { RunningAttempt } from "./work.ts";

/** What is foreseen of nodes and demand. */
export interface Outlook extends NodeKnowledge {
  /** Demand that is expected; what was counted is there besides, and the larger of the two is planned for. */
  expectedDemand?(): readonly DemandClass[];
  /** Bytes of some layers, and how many of them lie on the node; null while nobody knows. */
  shareOn?: ChainDeskPorts["shareOn"];
  /** What a chain's ends hold of these weights; null while nobody knows. */
  endsOf?(weightsSha256: Sha256Hex): EndBytes | null;
}

export interface ReplicaPoolPorts extends ReplicaBookPorts {
  /** Without one, placements are planned in the turn that asks. */
  readonly planner?: ReplicaPlanner;
  readonly outlook?: Outlook;
  /** Durable count of coordinator starts. */
  readonly boot: number;
  readonly crypto: Pick<Crypto, "sha256">;
  /** What runs on the chain that this stage stood for is over, and goes on when it serves again. */
  onChainBreak(tail: ReplicaId, detail: string): void;
  /** Requests that wait for a replica of each model. */
  demand(): ReadonlyMap<ModelId, Demand>;
  /** A replica may have become ready. */
  onChange(): void;
}

/** What a request is planned as, of its tier, with what it asks for at most. */
export interface Arriving {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  promptTokens(): number;
  tokensNeeded(): number;
}

/** Callers ask for room far beyond what is generated; this is the mean answer of the conversation traces. */
const OUTPUT_TOKENS_EXPECTED = 240;

export class ReplicaPool {
  readonly #ports: ReplicaPoolPorts;
  readonly #options: DispatchOptions;
  readonly #clock: Clock;
  readonly chains: ChainDesk;
  readonly #book: ReplicaBook;
  readonly #facts: NodeFacts;
  readonly #planning: ReplicaPlanning;
  readonly #arrivals = new Arrivals();
  readonly #speeds = new ObservedSpeeds();
  readonly #servingWaiters = new Set<() => void>();
  #plannedVersion = -1;
  #chainedVersion = -1;
  #isPlanQueued = false;
  #isStopped = false;
  #timer: Timer | null = null;
  #gapTimer: Timer | null = null;
  #lastPlanMs = Number.NEGATIVE_INFINITY;
  #nodeCache: { version: number; nodes: ReadonlyMap<NodeId, NodeFact> } | null = null;

  constructor(ports: ReplicaPoolPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#clock = ports.clock;
    this.#book = new ReplicaBook(ports, options);
    this.#facts = new NodeFacts({
      // What the node says of its disk, or what was seen to be loaded there.
      cachedWeights: (nodeId) => ports.outlook?.cachedWeights(nodeId) ?? this.#book.cachedWeights(nodeId),
      stayChance: (nodeId) => ports.outlook?.stayChance(nodeId) ?? null,
      links: (nodeId) => ports.outlook?.links?.(nodeId) ?? [],
      observedSpeeds: (nodeId) => this.#speeds.of(nodeId),
    });
    this.chains = new ChainDesk(
      {
        ...ports,
        book: this.#book,
        nodes: () => this.nodes(),
        shareOn: (nodeId, weightsSha256, share) => ports.outlook?.shareOn?.(nodeId, weightsSha256, share) ?? null,
        isShort: () => this.#planning.isShort,
        onBreak: (tail, detail) => ports.onChainBreak(tail, detail),
        onServing: () => this.#changed(),
      },
      options,
    );
    this.#planning = new ReplicaPlanning(
      {
        chains: this.chains,
        ends: (weightsSha256) => ports.outlook?.endsOf?.(weightsSha256) ?? null,
        clock: ports.clock,
        log: ports.log,
        planner: ports.planner ?? INLINE_PLANNER,
        book: this.#book,
        nodes: () => this.nodes(),
        version: () => this.version,
        waiting: () => ports.demand(),
        demand: () => largerOf(this.#arrivals.classes(ports.clock.monoMs()), ports.outlook?.expectedDemand?.() ?? []),
      },
      options,
    );
  }

  start(): void {
    this.#timer = this.#clock.setTimer(this.#options.planMs, () => this.#planAndRepeat());
    this.planSoon();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#gapTimer?.cancel();
    this.#planning.stop();
    this.chains.stop();
  }

  /** Grows with every change that could alter a plan. */
  get version(): number {
    return this.#ports.roster.version + this.#book.version;
  }

  /** The newest plan of the whole placement; null before the first. */
  plan(): MadePlan | null {
    return this.#planning.newest;
  }

  planningStats(): PlanningStats {
    return this.#planning.stats();
  }

  /** In the order of node ids; made once for each version. */
  nodes(): ReadonlyMap<NodeId, NodeFact> {
    const { version } = this;
    if (this.#nodeCache?.version !== version) {
      const nowMs = this.#clock.monoMs();
      const facts = this.#ports.roster.nodes().map((view) => this.#facts.of(view, nowMs));
      this.#nodeCache = { version, nodes: new Map(facts.map((fact) => [fact.nodeId, fact])) };
    }
    return this.#nodeCache.nodes;
  }

  /** As it is at this moment, without a look at the others; null when the grid has no such node. */
  node(nodeId: NodeId): NodeFact | null {
    const view = this.#ports.roster.node(nodeId);
    return view === null ? null : this.#facts.of(view, this.#clock.monoMs());
  }

  /** Replicas of one node. */
  onNode(nodeId: NodeId): readonly ReplicaFact[] {
    return this.#book.onNode(nodeId);
  }

  /** Nodes on which no replica of the model can do all this. */
  lacking(modelId: ModelId, needs: readonly EngineAbility[]): ReadonlySet<NodeId> {
    return this.#book.lacking(modelId, needs);
  }

  /** Sorted by replica id. */
  replicas(): readonly ReplicaFact[] {
    return this.#book.facts();
  }

  replica(replicaId: ReplicaId): ReplicaFact | null {
    return this.#book.fact(replicaId);
  }

  /** Which model a node's replica runs; null when the pool does not know it. */
  modelOf(replicaId: ReplicaId): ModelId | null {
    return this.#book.fact(replicaId)?.modelId ?? null;
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
    return this.#book.factsOf(modelId).filter((replica) => {
      const node = nodes.get(replica.nodeId);
      const isTaking = node !== undefined && nodeObstacle(node) === null;
      return isTaking && replica.state === "ready" && isReplicaFact(replica);
    });
  }

  /** Within which a seed repeats exactly; null when no replica is ready or they differ. */
  numericClass(modelId: ModelId): string | null {
    const classes = new Set(this.ready(modelId).map(({ replicaId }) => this.#book.numericClassOf(replicaId)));
    const [only = null] = classes;
    return classes.size === 1 ? only : null;
  }

  /** Slots of all ready replicas of a model. */
  slotsOf(modelId: ModelId): number {
    return this.ready(modelId).reduce((sum, replica) => sum + replica.slots, 0);
  }

  /** A lease on it ended. */
  touch(replicaId: ReplicaId): void {
    this.#book.touch(replicaId);
  }

  /** An attempt is over and settled, its lease still live: what it says of its node's speed is planned with. */
  noteEffort({ lease, effort, promptTokens }: Pick<RunningAttempt, "lease" | "effort" | "promptTokens">): void {
    const { nodeId, replicaId } = lease;
    const replica = this.#book.fact(replicaId);
    const view = this.#ports.roster.node(nodeId);
    const device = view?.capabilities.devices.find(({ deviceId }) => deviceId === replica?.deviceId);
    // What a chain does says nothing of one of its devices; its stages measure themselves.
    if (replica?.stage !== undefined) return;
    if (view === null || replica?.weightsSha256 === undefined || device === undefined) return;
    const { deviceId, weightsSha256 } = replica;
    const busyReplicas = this.#book
      .onNode(nodeId)
      .filter((other) => other.deviceId === deviceId && other.slotsLeased > 0).length;
    const isGpu = device.kind === "gpu";
    const tokenSeconds = loneTokenSeconds(effort, { isGpu, promptTokens, busyReplicas, rttMs: view.rttMs });
    if (tokenSeconds !== null) this.#speeds.record({ nodeId, deviceId, weightsSha256, tokenSeconds });
  }

  /** What stages of chains measure of themselves is planned with as attempts on whole replicas are. */
  #noteStages(): void {
    for (const { state, weightsSha256, layerCount, stages } of this.chains.chains()) {
      for (const { holder, count: layers, times } of stages) {
        if (state !== "serving" || holder === null || times === null) continue;
        const { nodeId, deviceId } = holder;
        const { singleMs, singlesMean } = times;
        const device = this.#ports.roster.node(nodeId)?.capabilities.devices.find((one) => one.deviceId === deviceId);
        if (device === undefined || singleMs === null || singlesMean === null) continue;
        const isGpu = device.kind === "gpu";
        const tokenSeconds = wholeTokenSeconds({ singleMs, singlesMean, layers, layerCount, isGpu });
        if (tokenSeconds !== null) this.#speeds.record({ nodeId, deviceId, weightsSha256, tokenSeconds });
      }
    }
  }

  /** A request was accepted: what is asked for is planned for. */
  noteArrival(work: Arriving): void {
    const { modelId, tier } = work;
    const promptTokens = work.promptTokens();
    const outputTokens = Math.min(OUTPUT_TOKENS_EXPECTED, Math.max(1, work.tokensNeeded() - promptTokens));
    // Requests name no region yet.
    this.#arrivals.add({ modelId, tier, region: null, promptTokens, outputTokens, nowMs: this.#clock.monoMs() });
  }

  /** A node reported, or its state changed: compare with what was ordered. */
  observe(nodeId: NodeId): void {
    const view = this.#ports.roster.node(nodeId);
    if (view === null) return;
    const versionBefore = this.version;
    this.#book.observe(view);
    if (this.version !== this.#chainedVersion) this.#lookAtChains();
    if (this.version === versionBefore && this.version === this.#plannedVersion) return;
    this.#changed();
  }

  #lookAtChains(): void {
    this.chains.look();
    this.#chainedVersion = this.version;
  }

  /** A replica may have become ready. */
  #changed(): void {
    this.#ports.onChange();
    for (const look of [...this.#servingWaiters]) look();
    this.planSoon();
  }

  /** In this very turn, but no sooner than `planGapMs` after the look before. */
  planSoon(): void {
    if (this.#isPlanQueued || this.#isStopped) return;
    this.#isPlanQueued = true;
    const waitMs = this.#lastPlanMs + this.#options.planGapMs - this.#clock.monoMs();
    if (waitMs > 0) this.#gapTimer = this.#clock.setTimer(waitMs, () => this.#planQueued());
    else queueMicrotask(() => this.#planQueued());
  }

  #planQueued(): void {
    this.#isPlanQueued = false;
    if (!this.#isStopped) this.#plan();
  }

  #planAndRepeat(): void {
    this.#noteStages();
    if (this.#isStopped) return;
    this.#timer = this.#clock.setTimer(this.#options.planMs, () => this.#planAndRepeat());
    this.planSoon();
  }

  #orderAttached(): void {
    const { roster, models } = this.#ports;
    const notBeforeMs = this.#book.notBeforeMs();
    const onNode = (nodeId: NodeId) => this.#book.onNode(nodeId);
    const nowMs = this.#clock.monoMs();
    for (const order of attachedLoads({ views: roster.nodes(), models, onNode, notBeforeMs, nowMs })) {
      this.#book.load(order);
    }
  }

  #plan(): void {
    this.#lastPlanMs = this.#clock.monoMs();
    this.#book.sweep();
    this.#orderAttached();
    this.#lookAtChains();
    this.#planning.look(this.#ports.models.list());
    this.#plannedVersion = this.version;
  }
}

/** One entry for each class, with the larger rate of the two. */
function largerOf(counted: readonly DemandClass[], foreseen: readonly DemandClass[]): readonly DemandClass[] {
  if (foreseen.length === 0) return counted;
  const key = ({ modelId, tier, region }: DemandClass) => `${modelId} ${tier} ${region ?? ""}`;
  const larger = new Map(counted.map((asked) => [key(asked), asked]));
  for (const asked of foreseen) {
    const known = larger.get(key(asked));
    if (known === undefined) larger.set(key(asked), asked);
    else if (asked.tokPerSecond > known.tokPerSecond) {
      larger.set(key(asked), { ...known, tokPerSecond: asked.tokPerSecond });
    }
  }
  return [...larger.values()];
}
