/**
 * What the coordinator expects of its nodes and its tenants. It listens to the roster (who comes, leaves, yields) and to requests,
 * keeps the models of the scheduler room up to date, and tells the planner whether a node stays and what demand is coming. With both it
 * stages weights ahead of need (`staging-desk.ts`). What was learned is kept in the store every few minutes and at the stop.
 *
 * Time is the wall clock's at the start and goes on with the monotonic one, so that a clock that jumps teaches nothing wrong.
 * A forecast is only ever a preference: without a store, or with one that fails, the grid works as if nothing was known.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { RequestTerms } from "../../domain/generation.ts";
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { MetaStore } from "../../ports/store.ts";
import { DemandModel } from "../../scheduler/forecast/demand-model.ts";
import { HOUR_MS } from "../../scheduler/forecast/life-table.ts";
import { ReuseForecast } from "../../scheduler/forecast/reuse-forecast.ts";
import { SurvivalModel } from "../../scheduler/forecast/survival-model.ts";
import { type Reliability, SurvivalScore } from "../../scheduler/forecast/survival-score.ts";
import type { DemandClass, PlacementPlan } from "../../scheduler/placement/plan-question.ts";
import type { ServedModel, ServedModels } from "../dispatch/served-models.ts";
import type { Roster } from "../roster.ts";
import { FORECAST_OPTIONS, type ForecastOptions } from "./forecast-options.ts";
import { readForecast, writeForecast } from "./forecast-records.ts";
import type { KeptForecast } from "./forecast-state.ts";
import { NodeWatch, RETURN_MS } from "./node-watch.ts";
import {
  type PlannedShare,
  StagingDesk,
  type StagingStats,
  type StagingUplink,
  type WantedModel,
} from "./staging-desk.ts";

export interface ForecastPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly meta: Pick<MetaStore, "get" | "set">;
  readonly roster: Roster;
  readonly models: Pick<ServedModels, "list">;
  /** What moves weights now; without it every load is taken to need the coordinator's uplink. */
  readonly uplink?: StagingUplink;
}

export interface ForecastStats extends StagingStats {
  /** By scored horizon; `brier` null before the first outcome. */
  readonly survival: readonly { readonly brier: number | null; readonly outcomes: number }[];
  readonly isSeasonal: boolean;
  readonly nodesKnown: number;
}

/** Of the conversation trace in docs/forecast.md; what was counted of a model lately takes their place. */
const PROMPT_TOKENS_MEAN = 750;
const OUTPUT_TOKENS_MEAN = 240;
/** A chance is told again for at least so long, and for this share of the node's age. */
const CHANCE_MS_MIN = 10_000;
const CHANCE_AGE_SHARE = 0.02;
/** The nodes that are asked about are asked in so many turns, so that none is held up for more than a millisecond. */
const ASK_PARTS = 8;
const ASK_PART_MS = 100;
/** As many as nodes are followed. */
const CHANCES_MAX = 100_000;
/** Less is no reason to load a model before it is asked for. */
const REQUESTS_PER_HOUR_MIN = 1;
/** A request's time on a replica, when nothing is measured: of a long answer. */
const SERVICE_MS = 20_000;
/** A request that comes next is as good as certain; the logarithm below must stay finite. */
const VALUE_MAX = 0.999;

export class Forecast {
  readonly #ports: ForecastPorts;
  readonly #options: ForecastOptions;
  readonly #survival: SurvivalModel;
  readonly #score: SurvivalScore;
  readonly #demand: DemandModel;
  readonly #reuse: ReuseForecast;
  readonly #watch: NodeWatch;
  readonly #staging: StagingDesk;
  readonly #originMs: number;
  #plan: () => PlacementPlan | null = () => null;
  readonly #timers = new Map<string, Timer>();
  /** The planner asks for all nodes after every change of the roster. */
  readonly #chances = new Map<NodeId, { sinceMs: number; untilMs: number; chance: number }>();
  #served: { readonly of: readonly ServedModel[]; readonly digests: ReadonlySet<Sha256Hex> } | null = null;
  #isStopped = false;
  #writing: Promise<void> | null = null;

  private constructor(ports: ForecastPorts, options: ForecastOptions, kept: KeptForecast | null) {
    this.#ports = ports;
    this.#options = options;
    const wallMs = Math.max(ports.clock.wallMs(), kept?.savedAtMs ?? 0);
    this.#originMs = wallMs - ports.clock.monoMs();
    this.#survival = new SurvivalModel(kept?.survival ?? null);
    this.#score = new SurvivalScore(this.#survival);
    this.#demand = new DemandModel(kept?.demand ?? null);
    this.#reuse = new ReuseForecast(kept?.reuse ?? null);
    const nowMs = () => this.#nowMs();
    this.#watch = new NodeWatch({ roster: ports.roster, model: this.#survival, nowMs });
    this.#staging = new StagingDesk(
      {
        roster: ports.roster,
        log: ports.log,
        nowMs,
        models: () => this.#wanted(),
        servedWeights: () => this.#servedWeights(),
        shares: () => plannedShares(this.#plan()),
        stayChance: (nodeId, horizonMs) => this.#survival.stayChance(nodeId, nowMs(), horizonMs),
        ...(ports.uplink === undefined ? {} : { uplink: ports.uplink }),
      },
      options,
    );
    if (kept === null) return;
    const { savedAtMs, survival } = kept;
    this.#watch.resume(survival.nodes, wallMs - savedAtMs, savedAtMs);
    this.#after("return", RETURN_MS, () => this.#watch.giveUpWaiting(savedAtMs));
  }

  /**
   * Reads what was learned in earlier lives, and begins to listen: call it before anybody else subscribes to the roster, so that nobody
   * asks about a node that the forecast has not heard of. A record that cannot be read, or is not ours, is warned about and left.
   */
  static async open(ports: ForecastPorts, options: Partial<ForecastOptions> = {}): Promise<Forecast> {
    const forecast = new Forecast(ports, { ...FORECAST_OPTIONS, ...options }, await keptState(ports));
    forecast.#begin();
    return forecast;
  }

  /** Chance that a node stays for the planner's horizon; null when nobody knows. */
  stayChance(nodeId: NodeId): number | null {
    const sinceMs = this.#survival.upSinceMs(nodeId);
    if (sinceMs === null) return null;
    const nowMs = this.#nowMs();
    const known = this.#chances.get(nodeId);
    if (known !== undefined && known.sinceMs === sinceMs && nowMs < known.untilMs) return known.chance;
    const chance = this.#survival.stayChance(nodeId, nowMs, this.#options.horizonMs);
    if (this.#chances.size >= CHANCES_MAX) this.#chances.clear();
    // The share of its age keeps what is told of an old node for longer: its chance hardly moves.
    const untilMs = nowMs + CHANCE_MS_MIN + (nowMs - sinceMs) * CHANCE_AGE_SHARE;
    this.#chances.set(nodeId, { sinceMs, untilMs, chance });
    return chance;
  }

  /** Within which the node leaves with this chance; null when nobody knows. */
  remainingLifeMs(nodeId: NodeId, quantile: number): number | null {
    if (this.#survival.upSinceMs(nodeId) === null) return null;
    return this.#survival.remainingLifeMs(nodeId, this.#nowMs(), quantile);
  }

  /** What lies on a node's disk, as it says; null when it has not said. */
  cachedWeights(nodeId: NodeId): ReadonlySet<Sha256Hex> | null {
    return this.#staging.cached(nodeId);
  }

  /** Demand of the next hour, of models that were asked for long enough to tell. For all tiers together: tiers come and go alike. */
  expectedDemand(): readonly DemandClass[] {
    const nowMs = this.#nowMs();
    const expected: DemandClass[] = [];
    for (const { manifest } of this.#ports.models.list()) {
      const pair = { modelId: manifest.modelId, region: "" };
      const requests = this.#demand.isSettled(pair) ? this.#demand.expected(pair, nowMs, HOUR_MS) : 0;
      if (requests < REQUESTS_PER_HOUR_MIN) continue;
      expected.push({
        modelId: manifest.modelId,
        tier: "default",
        region: null,
        tokPerSecond: (requests * OUTPUT_TOKENS_MEAN * 1_000) / HOUR_MS,
        promptTokensMean: PROMPT_TOKENS_MEAN,
        outputTokensMean: OUTPUT_TOKENS_MEAN,
        contextTokensNeeded: Math.min(manifest.contextTokensMax, PROMPT_TOKENS_MEAN + OUTPUT_TOKENS_MEAN),
      });
    }
    return expected;
  }

  /** Where the newest plan is: the layers of its chains are brought to their nodes ahead of need. */
  followPlan(newest: () => PlacementPlan | null): void {
    this.#plan = newest;
  }

  /** A request came in. */
  noteRequest({ modelId, tenantId }: Pick<RequestTerms, "modelId" | "tenantId">): void {
    const atMs = this.#nowMs();
    this.#demand.take({ modelId, region: "" }, atMs);
    this.#reuse.take({ modelId, tenant: tenantId ?? null, atMs });
  }

  stats(): ForecastStats {
    const survival = this.#score.reliability.map((scored: Reliability) => ({
      brier: scored.brier(),
      outcomes: scored.count,
    }));
    const { isSeasonal, size: nodesKnown } = this.#survival;
    return { ...this.#staging.stats(), survival, isSeasonal, nodesKnown };
  }

  /** Keeps what was learned, and ends. Call it before the registry stops. May be called twice; never rejects. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#watch.stop();
    for (const timer of this.#timers.values()) timer.cancel();
    await this.#writing;
    await this.#keep();
  }

  #begin(): void {
    const { countTurnMs, askMs, keepMs, stageMs } = this.#options;
    this.#every("count", countTurnMs, () => this.#count());
    this.#every("ask", askMs, () => this.#ask(0));
    this.#every("stage", stageMs, () => this.#staging.plan());
    this.#every("keep", keepMs, () => void this.#keep());
  }

  #ask(part: number): void {
    this.#score.ask(this.#nowMs(), { part, parts: ASK_PARTS });
    if (part + 1 < ASK_PARTS) this.#after("ask-part", ASK_PART_MS, () => this.#ask(part + 1));
  }

  #count(): void {
    const nowMs = this.#nowMs();
    const { countTurnMs, countMs } = this.#options;
    this.#survival.advance(nowMs, Math.ceil((this.#survival.size * countTurnMs) / countMs));
    this.#demand.advance(nowMs);
  }

  /** What staging has to know of each model, by model id. */
  #wanted(): readonly WantedModel[] {
    const nowMs = this.#nowMs();
    const values = this.#reuse.values(nowMs);
    const slots = this.#slots();
    return this.#ports.models
      .list()
      .map(({ manifest: { modelId, weightsSha256, fileBytes } }) => {
        const soon = -Math.log1p(-Math.min(VALUE_MAX, values.get(modelId) ?? 0));
        const expected = this.#demand.expectedOfModel(modelId, nowMs, this.#options.horizonMs);
        const inService = slots.get(weightsSha256) ?? 0;
        const growthChance = this.#demand.crowdChance(modelId, nowMs, { inService, serviceMs: SERVICE_MS });
        return { modelId, weightsSha256, fileBytes, expectedRequests: Math.max(soon, expected), growthChance };
      })
      .sort((a, b) => (a.modelId < b.modelId ? -1 : 1));
  }

  #servedWeights(): ReadonlySet<Sha256Hex> {
    const of = this.#ports.models.list();
    if (this.#served?.of !== of)
      this.#served = { of, digests: new Set(of.map(({ manifest }) => manifest.weightsSha256)) };
    return this.#served.digests;
  }

  /** By digest: slots of replicas that are ready. */
  #slots(): ReadonlyMap<string, number> {
    const slots = new Map<string, number>();
    for (const view of this.#ports.roster.nodes()) {
      for (const { weightsSha256, state, slots: more } of view.replicas) {
        if (weightsSha256 !== undefined && state === "ready")
          slots.set(weightsSha256, (slots.get(weightsSha256) ?? 0) + more);
      }
    }
    return slots;
  }

  /** One write at a time; never rejects for a fault of the store. */
  #keep(): Promise<void> {
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    try {
      await writeForecast(this.#ports.meta, {
        savedAtMs: this.#nowMs(),
        survival: { core: this.#survival.core(), rows: this.#survival.rows(), size: this.#survival.size },
        demand: this.#demand.snapshot(),
        reuse: this.#reuse.snapshot(),
      });
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      this.#ports.log.warn({ cause: describeFault(thrown) }, "forecast not kept");
    }
  }

  #nowMs(): number {
    return this.#originMs + this.#ports.clock.monoMs();
  }

  #every(name: string, periodMs: number, run: () => void): void {
    this.#after(name, periodMs, () => {
      run();
      if (!this.#isStopped) this.#every(name, periodMs, run);
    });
  }

  #after(name: string, delayMs: number, run: () => void): void {
    this.#timers.set(name, this.#ports.clock.setTimer(delayMs, run));
  }
}

/** Stages of chains that were planned for models which no node can hold. */
function plannedShares(plan: PlacementPlan | null): readonly PlannedShare[] {
  return (plan?.models ?? []).flatMap(({ modelId, replicas }) =>
    replicas.flatMap(({ stages = [] }) => {
      const layerCount = Math.max(0, ...stages.map(({ first, count }) => first + count));
      const chain = stages.map(({ nodeId }) => nodeId);
      return stages.map(({ nodeId, first, count }) => {
        const share = { first, count, hasEmbedding: first === 0, hasOutput: first + count === layerCount };
        return { modelId, nodeId, share, chain };
      });
    }),
  );
}

async function keptState({ meta, log }: ForecastPorts): Promise<KeptForecast | null> {
  try {
    const { state, problem } = await readForecast(meta);
    if (problem !== null) log.warn({ problem }, "forecast begins anew: what was kept cannot be used");
    return state;
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    log.warn({ cause: describeFault(thrown) }, "forecast begins anew: what was kept cannot be read");
    return null;
  }
}
