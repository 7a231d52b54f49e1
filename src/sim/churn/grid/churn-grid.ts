/**
 * One grid under one policy in virtual time: machines come and go as the scenario says, the policy says what they hold and which way
 * requests take, and this room counts. A machine that is lost takes with it the state of what ran through it; the stream goes on
 * elsewhere once the loss is noticed, with its prompt and its tokens so far computed again.
 *
 * Not modelled: the coordinator's own work and losses, verification, prices, prefix reuse, a line shared by several transfers.
 */
import { assert } from "../../../domain/assert.ts";
import { LIVENESS } from "../../../domain/node.ts";
import { DEMAND_FADE_MS, DemandMeter } from "../policies/demand-meter.ts";
import type { ChurnPolicy, GridFacts, PlanCause } from "../policies/policy.ts";
import { Fates } from "../scenario/fates.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { TAIL_MS } from "../scenario/tier-bounds.ts";
import { EventQueue } from "./event-queue.ts";
import type { GridNode, Running, Stage } from "./grid-parts.ts";
import { RequestFlow } from "./request-flow.ts";
import { StageLoader } from "./stage-loader.ts";

/** The grid comes up and loads before requests come and anything is counted. */
export const WARM_UP_MS = 2 * 3_600_000;
/** What is asked in the first hour was asked before it. */
const WARM_DEMAND_MS = 3_600_000;
/** A machine that vanishes says nothing: silence is noticed on average half a look after the bound. */
const VANISHED_NOTICE_MS = LIVENESS.suspectMs + LIVENESS.checkMs / 2;

export class ChurnGrid {
  readonly #scenario: Scenario;
  readonly #policy: ChurnPolicy;
  readonly #queue = new EventQueue(-WARM_UP_MS);
  readonly #loader: StageLoader;
  readonly #nodes: readonly GridNode[];
  readonly #flow: RequestFlow;
  readonly #meter: DemandMeter;
  readonly fates = new Fates();
  #planAtMs: number | null = null;
  #losses = 0;
  #planCpuMs = 0;
  readonly #cpuMs: () => number;
  readonly #facts: GridFacts;
  /** What the warm-up moved and loaded is not counted. */
  #before = { movedBytes: 0, loads: 0 };

  constructor(scenario: Scenario, policy: ChurnPolicy, cpuMs: () => number) {
    this.#scenario = scenario;
    this.#policy = policy;
    this.#cpuMs = cpuMs;
    this.#nodes = scenario.nodes.map(nodeOf);
    this.#meter = new DemandMeter(scenario.models.length, 0);
    this.#loader = new StageLoader({
      queue: this.#queue,
      models: scenario.models,
      hooks: {
        onReady: ({ model }) => this.#flow.offer(model),
        onCut: (stage, running) => this.#cut(stage, running),
      },
    });
    const queue = this.#queue;
    this.#facts = {
      get nowMs() {
        return queue.nowMs;
      },
      scenario,
      nodes: this.#nodes,
      demand: () => this.#meter.demands(queue.nowMs, this.#flow.waiting()),
    };
    this.#flow = new RequestFlow({
      scenario,
      queue: this.#queue,
      fates: this.fates,
      replaysLostStagesOnly: policy.replaysLostStagesOnly,
      route: (running) => policy.route(running, this.#facts),
      onReleased: (stage) => this.#loader.released(stage),
      hasReadyChain: (model) => this.#hasReadyChain(model),
    });
  }

  get losses(): number {
    return this.#losses;
  }

  get planCpuMs(): number {
    return this.#planCpuMs;
  }

  /** Weights fetched in the time of the run. */
  get movedBytes(): number {
    return this.#loader.movedBytes - this.#before.movedBytes;
  }

  get loads(): number {
    return this.#loader.loads - this.#before.loads;
  }

  run(): void {
    const { requests, endMs } = this.#scenario;
    this.#rememberHistory();
    this.#warmDemand();
    for (const node of this.#nodes) this.#scheduleComings(node);
    this.#tick();
    this.#queue.at(0, () => {
      this.#before = { movedBytes: this.#loader.movedBytes, loads: this.#loader.loads };
      this.#arriveFrom(0);
    });
    for (let atMs = Fates.windowMs; atMs <= endMs; atMs += Fates.windowMs) {
      this.#queue.at(atMs, () => this.fates.window(atMs, this.#load()));
    }
    this.#queue.run(endMs + TAIL_MS);
    assert(requests.length === 0 || this.#load().waiting === 0, "nobody waits past the last patience");
  }

  /** Comings and goings from before the warm-up, for who learns from them, in order of time. */
  #rememberHistory(): void {
    const seen = this.#nodes.flatMap((node) =>
      node.draw.availability.intervals.flatMap(({ fromMs, toMs }) => [
        { node, transition: "up" as const, atMs: fromMs },
        { node, transition: "left" as const, atMs: toMs },
      ]),
    );
    const past = seen.filter(({ atMs }) => atMs < -WARM_UP_MS);
    past.sort((a, b) => a.atMs - b.atMs || a.node.index - b.node.index);
    for (const { node, transition, atMs } of past) this.#policy.observe(node, transition, atMs);
  }

  /** A grid that has been running knows what is asked of it: the requests of the first hour stand for those before it. */
  #warmDemand(): void {
    const spanMs = Math.min(WARM_DEMAND_MS, this.#scenario.endMs);
    const weight = DEMAND_FADE_MS / spanMs;
    for (const request of this.#scenario.requests) {
      if (request.atMs >= spanMs) break;
      this.#meter.asked(request, -WARM_UP_MS, weight);
    }
  }

  #load(): { nodesUp: number; waiting: number } {
    return {
      nodesUp: this.#nodes.filter(({ isUp }) => isUp).length,
      waiting: this.#flow.waiting().reduce((sum, waiting) => sum + waiting, 0),
    };
  }

  #scheduleComings(node: GridNode): void {
    const { endMs } = this.#scenario;
    for (const { fromMs, toMs, end } of node.draw.availability.intervals) {
      if (toMs <= -WARM_UP_MS) continue;
      this.#queue.at(fromMs, () => this.#join(node, fromMs));
      // An interval that goes on to the end of the record has no known end.
      if (toMs < endMs + TAIL_MS - 1) this.#queue.at(toMs, () => this.#lose(node, end));
    }
  }

  #join(node: GridNode, sinceMs: number): void {
    node.isUp = true;
    node.life += 1;
    node.upSinceMs = sinceMs;
    if (sinceMs >= -WARM_UP_MS) this.#policy.observe(node, "up", sinceMs);
    this.#planSoon({ kind: "joined", node });
  }

  #lose(node: GridNode, how: "owner" | "vanished"): void {
    const { nowMs } = this.#queue;
    node.isUp = false;
    node.life += 1;
    if (nowMs >= 0 && nowMs < this.#scenario.endMs) this.#losses += 1;
    this.#policy.observe(node, "left", nowMs);
    const noticedAtMs = how === "owner" ? nowMs : nowMs + VANISHED_NOTICE_MS;
    const kind = how === "owner" ? "node-yielded" : "node-gone";
    const running = this.#loader.lose(node);
    node.prefillFreeAtMs = nowMs;
    node.busyStages = 0;
    this.#flow.loseWay(running, { isLost: (hop) => hop.stage.node === node, trouble: { kind, noticedAtMs } });
    this.#queue.at(noticedAtMs, () => this.#planSoon({ kind: "lost", node }));
  }

  #cut(stage: Stage, running: readonly Running[]): void {
    const { nowMs } = this.#queue;
    const trouble = { kind: "node-yielded", noticedAtMs: nowMs } as const;
    this.#flow.loseWay(running, { isLost: (hop) => hop.stage === stage, trouble });
  }

  #planSoon(cause: PlanCause): void {
    const atMs = this.#queue.nowMs + this.#policy.planDelayMs;
    if (this.#planAtMs !== null && this.#planAtMs <= atMs && this.#policy.planDelayMs > 0) return;
    this.#planAtMs = atMs;
    this.#queue.at(atMs, () => {
      this.#planAtMs = null;
      this.#plan(cause);
    });
  }

  #tick(): void {
    this.#plan({ kind: "tick" });
    this.#queue.after(this.#policy.planEveryMs, () => this.#tick());
  }

  #plan(cause: PlanCause): void {
    const startMs = this.#cpuMs();
    const wanted = this.#policy.plan(this.#facts, cause);
    this.#planCpuMs += this.#cpuMs() - startMs;
    for (const node of this.#nodes) {
      const plans = wanted.get(node.index);
      if (plans !== undefined && node.isUp) this.#loader.want(node, plans);
    }
  }

  /** Requests come one after the other, so that the queue never holds all of them. */
  #arriveFrom(index: number): void {
    const draw = this.#scenario.requests[index];
    if (draw === undefined) return;
    this.#queue.at(draw.atMs, () => {
      this.#arriveFrom(index + 1);
      this.#meter.asked(draw, this.#queue.nowMs);
      this.#flow.arrive(draw, index);
    });
  }

  #hasReadyChain(model: number): boolean {
    const layers = this.#scenario.models[model]?.layerCount ?? 0;
    let reached = 0;
    for (let isFurther = true; isFurther && reached < layers; ) {
      isFurther = false;
      for (const node of this.#nodes) {
        for (const stage of node.stages) {
          if (stage.model !== model || stage.state !== "ready" || stage.first > reached || stage.end <= reached)
            continue;
          reached = stage.end;
          isFurther = true;
        }
      }
    }
    return reached >= layers;
  }
}

function nodeOf(draw: GridNode["draw"], index: number): GridNode {
  return {
    index,
    draw,
    isUp: false,
    upSinceMs: 0,
    life: 0,
    stages: [],
    disk: new Map(),
    diskUsedAtMs: new Map(),
    prefillFreeAtMs: 0,
    fetch: null,
    loading: null,
    busyStages: 0,
  };
}
