/**
 * A placement in the making: what is free on each device, and for each model its replicas, the demand that they leave unserved
 * and the chance that all of them go. Replicas are added one by one; what one more would be worth is `spotOn`.
 *
 * A model's demand is filled replica by replica, dearest class first. Replicas that share a device share its speed equally.
 * Not handled: that a later, better replica could take over what an earlier one serves; moves look at that.
 */
import { assert } from "../../domain/assert.ts";
import type { ModelId } from "../../domain/ids.ts";
import { speedOfChain } from "./chain-speed.ts";
import { type GridColumns, isReplica, modelNameOf, stateOf, UNKNOWN } from "./grid-columns.ts";
import { tokenWorth, valuePerTokPerSecond } from "./objective.ts";
import type { DemandClass, ModelVariant, PlannedModel, PlanQuestion } from "./plan-question.ts";
import type { ReplicaSize } from "./slots.ts";
import { type Observation, type RequestMix, replicaTokPerSecond, type SpeedOn, tokenSeconds } from "./speed-model.ts";

/** Classes of one model that rules tell apart: 3 tiers in some regions; the dearest count. */
export const CLASSES_PER_MODEL_MAX = 32;
/** What a request is like when nobody asked yet (mean of the Azure conversation trace). */
const DEFAULT_MIX: RequestMix = { promptTokensMean: 750, outputTokensMean: 240 };
/** A round trip that nobody measured, as for the matcher: neither near nor far. */
const UNKNOWN_RTT_MS = 50;
/** A region that no node names. */
const NOWHERE = -2;

export interface ClassState {
  readonly demand: DemandClass;
  /** Micro-USD per hour for each token a second. */
  readonly value: number;
  readonly trustMin: number;
  readonly priceMax: number;
  /** Name of the region that it must be served in; UNKNOWN: any. */
  readonly region: number;
  unserved: number;
}

export interface ReplicaState {
  /** Row of the snapshot; UNKNOWN for one that this plan adds. */
  readonly row: number;
  readonly node: number;
  readonly device: number;
  readonly variant: ModelVariant;
  readonly size: ReplicaSize;
  readonly tokPerSecond: number;
  readonly worth: number;
  readonly isReady: boolean;
  readonly slotsLeased: number;
  served: number;
  /** Of what it serves, with its worth; micro-USD per hour. */
  servedValue: number;
  /** Absent: the whole model is on the node. Of a chain `node`, `device` and `size` are its last stage's. */
  readonly chain?: HeldChain | undefined;
}

export interface HeldChain {
  /** In order. */
  readonly stages: readonly {
    readonly node: number;
    readonly device: number;
    readonly first: number;
    readonly count: number;
  }[];
  readonly loopSeconds: number;
  /** The loop is what its stages measured. */
  readonly isMeasured: boolean;
}

export interface ModelState {
  readonly model: PlannedModel;
  readonly classes: readonly ClassState[];
  readonly mix: RequestMix;
  /** Of all classes, micro-USD per hour. */
  readonly demandValue: number;
  /** Of one token a second at list price. */
  readonly value: number;
  /** Those that serve or will. */
  readonly replicas: ReplicaState[];
  /** Rows of nodes that hold this model in any way. */
  readonly taken: Set<number>;
  readonly domains: Domains;
  /** Chance that every replica is gone by the horizon. */
  goneChance: number;
}

export interface Domains {
  readonly owners: Set<number>;
  readonly networks: Set<number>;
  readonly regions: Set<number>;
}

export class PlacementState {
  readonly question: PlanQuestion;
  readonly freeBytes: Float64Array;
  readonly onDevice: Int32Array;
  readonly onNode: Int32Array;
  /** Sorted by model id. */
  readonly models: readonly ModelState[];
  readonly #byId: ReadonlyMap<ModelId, ModelState>;
  readonly #observed: ReadonlyMap<string, Observation>;
  /** Rows of each chain's stages. */
  readonly #chains: ReadonlyMap<number, readonly number[]>;

  /** `leaving`: rows of replicas that this plan unloads; their memory is not free yet. */
  constructor(question: PlanQuestion, leaving: ReadonlySet<number>) {
    this.question = question;
    const { devices, nodes } = question.grid;
    this.freeBytes = Float64Array.from(devices.usableBytes);
    this.onDevice = new Int32Array(devices.usableBytes.length);
    this.onNode = new Int32Array(nodes.ids.length);
    const models = [...question.models].sort((a, b) => (a.modelId < b.modelId ? -1 : 1));
    const classes = classesByModel(question);
    this.models = models.map((model) => modelState(model, classes.get(model.modelId) ?? [], question));
    this.#observed = observationsOf(question.grid);
    this.#chains = chainRows(question.grid);
    this.#byId = new Map(this.models.map((state) => [state.model.modelId, state]));
    this.#addHeld(leaving);
  }

  of(modelId: ModelId): ModelState | undefined {
    return this.#byId.get(modelId);
  }

  /** Adds a replica and gives it what demand is left for it. */
  add(state: ModelState, replica: ReplicaState): void {
    const { nodes } = this.question.grid;
    state.replicas.push(replica);
    state.goneChance *= 1 - this.stayChance(replica);
    const on = nodesOf(replica);
    for (const node of on) {
      state.taken.add(node);
      state.domains.owners.add(nodes.owner[node] ?? UNKNOWN);
      state.domains.networks.add(nodes.network[node] ?? UNKNOWN);
      state.domains.regions.add(nodes.region[node] ?? UNKNOWN);
    }
    let left = replica.tokPerSecond;
    for (const asked of state.classes) {
      const isLongEnough = replica.size.contextTokens >= asked.demand.contextTokensNeeded;
      if (!isLongEnough || !on.every((node) => this.serves(asked, node))) continue;
      const taken = Math.min(left, asked.unserved);
      asked.unserved -= taken;
      replica.served += taken;
      replica.servedValue += taken * asked.value * replica.worth;
      left -= taken;
    }
  }

  /** Chance that it stays for the horizon; a chain stays when all its nodes do. */
  stayChance(replica: Pick<ReplicaState, "node" | "chain">): number {
    const { stayChance } = this.question.grid.nodes;
    return nodesOf(replica).reduce((product, node) => product * (stayChance[node] ?? 1), 1);
  }

  /** The replica's memory and its part of the device. */
  occupy(spot: { node: number; device: number; memoryBytes: number }): void {
    this.onNode[spot.node] = (this.onNode[spot.node] ?? 0) + 1;
    if (spot.device === UNKNOWN) return;
    this.onDevice[spot.device] = (this.onDevice[spot.device] ?? 0) + 1;
    this.freeBytes[spot.device] = (this.freeBytes[spot.device] ?? 0) - spot.memoryBytes;
  }

  serves(asked: ClassState, node: number): boolean {
    const { nodes } = this.question.grid;
    return (
      (asked.region === UNKNOWN || asked.region === nodes.region[node]) &&
      (nodes.trust[node] ?? 0) >= asked.trustMin &&
      (nodes.priceMicroUsdPerHour[node] ?? 0) <= asked.priceMax
    );
  }

  /** Speed of a replica that shares the device with `others`. */
  tokPerSecond(
    state: ModelState,
    on: { node: number; device: number; variant: ModelVariant; slots: number; others: number },
  ): { readonly tokPerSecond: number; readonly worth: number } {
    const { grid, weights } = this.question;
    const speed = this.speedOn(on);
    const { verificationOverhead } = weights;
    const rttMs = grid.nodes.rttMs[on.node] ?? Number.NaN;
    const rttSeconds = (Number.isNaN(rttMs) ? UNKNOWN_RTT_MS : rttMs) / 1_000;
    const load = { size: { sequencesMax: on.slots }, mix: state.mix, verificationOverhead, rttSeconds };
    const { qualityPenalty } = on.variant;
    return {
      tokPerSecond: replicaTokPerSecond(speed, load) / (1 + on.others),
      // The reader waits for the way once.
      worth: tokenWorth({
        seconds: tokenSeconds(speed) + rttSeconds / state.mix.outputTokensMean,
        qualityPenalty,
      }),
    };
  }

  /** What is known of how fast a device runs a file. */
  speedOn(on: { readonly node: number; readonly device: number; readonly variant: ModelVariant }): SpeedOn {
    const { nodes, devices } = this.question.grid;
    const { weightsSha256, fileBytes } = on.variant;
    return {
      isGpu: devices.isGpu[on.device] === 1,
      decodeTokPerSecond: nodes.decodeTokPerSecond[on.node] ?? Number.NaN,
      gpuBytesPerSecond: devices.gpuBytesPerSecond[on.device] ?? Number.NaN,
      fileBytes,
      observed: this.#observed.size === 0 ? null : (this.#observed.get(observedKey(on.device, weightsSha256)) ?? null),
    };
  }

  #addHeld(leaving: ReadonlySet<number>): void {
    const { replicas, nodes } = this.question.grid;
    const serving: { state: ModelState; replica: ReplicaState }[] = [];
    for (let row = 0; row < replicas.ids.length; row++) {
      const held = stateOf(replicas, row);
      const node = replicas.node[row] ?? UNKNOWN;
      if (held === "failed" || held === "gone" || node === UNKNOWN) continue;
      const device = replicas.device[row] ?? UNKNOWN;
      this.occupy({ node, device, memoryBytes: replicas.memoryBytes[row] ?? 0 });
      const modelId = modelNameOf(this.question.grid, row);
      const state = modelId === undefined ? undefined : this.of(modelId);
      if (state === undefined) continue;
      state.taken.add(node);
      if (!isReplica(replicas, row)) continue;
      if (held === "draining" || leaving.has(row) || nodes.obstacle[node] !== 0) continue;
      serving.push({ state, replica: this.heldReplica(state, row) });
    }
    serving.sort((a, b) => b.replica.worth - a.replica.worth || a.replica.row - b.replica.row);
    for (const { state, replica } of serving) this.add(state, replica);
  }

  /** One of the snapshot, as it would be added. */
  heldReplica(state: ModelState, row: number): ReplicaState {
    const { replicas, names } = this.question.grid;
    const node = replicas.node[row] ?? UNKNOWN;
    const device = replicas.device[row] ?? UNKNOWN;
    const slots = replicas.slots[row] ?? 0;
    const digest = names[replicas.weights[row] ?? UNKNOWN];
    const [first] = state.model.variants;
    const variant = state.model.variants.find(({ weightsSha256 }) => weightsSha256 === digest) ?? first;
    assert(variant !== undefined, `${state.model.modelId} has at least one file`);
    const size = {
      contextTokens: replicas.contextTokens[row] ?? 0,
      sequencesMax: slots,
      memoryBytes: replicas.memoryBytes[row] ?? 0,
    };
    const slotsLeased = replicas.slotsLeased[row] ?? 0;
    const isReady = stateOf(replicas, row) === "ready";
    const held = { row, node, device, variant, size, isReady, slotsLeased, served: 0, servedValue: 0 };
    const stages = this.#stagesOf(row);
    if (stages.length === 0)
      return { ...held, ...this.tokPerSecond(state, { node, device, variant, slots, others: 0 }) };
    return {
      ...held,
      ...speedOfChain(this, state, { stages, slots, variant, loopMs: replicas.loopMs[row] ?? Number.NaN }),
    };
  }

  /** Of the chain that this row stands for, in order; none of a whole model. */
  #stagesOf(row: number): HeldChain["stages"] {
    const { replicas } = this.question.grid;
    const chain = replicas.chain[row] ?? UNKNOWN;
    return (this.#chains.get(chain) ?? [])
      .filter((one) => stateOf(replicas, one) !== "gone" && replicas.node[one] !== UNKNOWN)
      .map((one) => ({
        node: replicas.node[one] ?? UNKNOWN,
        device: replicas.device[one] ?? UNKNOWN,
        first: replicas.stageFirst[one] ?? 0,
        count: replicas.stageCount[one] ?? 0,
      }))
      .sort((a, b) => a.first - b.first);
  }
}

function nodesOf({ node, chain }: Pick<ReplicaState, "node" | "chain">): readonly number[] {
  return chain === undefined ? [node] : chain.stages.map((stage) => stage.node);
}

function chainRows({ replicas }: GridColumns): ReadonlyMap<number, readonly number[]> {
  const found = new Map<number, number[]>();
  for (let row = 0; row < replicas.ids.length; row++) {
    const chain = replicas.chain[row] ?? UNKNOWN;
    if (chain === UNKNOWN) continue;
    const rows = found.get(chain);
    if (rows === undefined) found.set(chain, [row]);
    else rows.push(row);
  }
  return found;
}

function observationsOf({ observed, names }: GridColumns): ReadonlyMap<string, Observation> {
  const found = new Map<string, Observation>();
  for (let at = 0; at < observed.device.length; at++) {
    const device = observed.device[at] ?? UNKNOWN;
    const weights = names[observed.weights[at] ?? UNKNOWN];
    if (device === UNKNOWN || weights === undefined) continue;
    const seen = { tokenSeconds: observed.tokenSeconds[at] ?? 0, count: observed.count[at] ?? 0 };
    found.set(observedKey(device, weights), seen);
  }
  return found;
}

function observedKey(device: number, weightsSha256: string): string {
  return `${device} ${weightsSha256}`;
}

function classesByModel(question: PlanQuestion): ReadonlyMap<ModelId, readonly DemandClass[]> {
  const found = new Map<ModelId, DemandClass[]>();
  for (const asked of question.classes) {
    if (!(asked.tokPerSecond > 0)) continue;
    const list = found.get(asked.modelId);
    if (list === undefined) found.set(asked.modelId, [asked]);
    else list.push(asked);
  }
  return found;
}

function modelState(model: PlannedModel, asked: readonly DemandClass[], question: PlanQuestion): ModelState {
  const { names } = question.grid;
  const classes = asked
    .map((demand): ClassState => {
      const rule = question.tiers[demand.tier];
      const regionName = demand.region === null ? UNKNOWN : names.indexOf(demand.region);
      return {
        demand,
        value: valuePerTokPerSecond(model.valueMicroUsdPerMtok, rule),
        trustMin: rule.trustMin,
        priceMax: rule.priceMicroUsdPerHourMax ?? Number.POSITIVE_INFINITY,
        region: demand.region !== null && regionName === UNKNOWN ? NOWHERE : regionName,
        unserved: demand.tokPerSecond,
      };
    })
    .sort((a, b) => b.value - a.value || (classKey(a.demand) < classKey(b.demand) ? -1 : 1))
    .slice(0, CLASSES_PER_MODEL_MAX);
  return {
    model,
    classes,
    mix: mixOf(classes.map(({ demand }) => demand)),
    demandValue: classes.reduce((sum, { value, demand }) => sum + value * demand.tokPerSecond, 0),
    value: valuePerTokPerSecond(model.valueMicroUsdPerMtok, question.tiers.default),
    replicas: [],
    taken: new Set(),
    domains: { owners: new Set(), networks: new Set(), regions: new Set() },
    goneChance: 1,
  };
}

function classKey({ tier, region }: DemandClass): string {
  return `${tier} ${region ?? ""}`;
}

function mixOf(classes: readonly DemandClass[]): RequestMix {
  const total = classes.reduce((sum, { tokPerSecond }) => sum + tokPerSecond, 0);
  if (total === 0) return DEFAULT_MIX;
  const mean = (of: (asked: DemandClass) => number) =>
    classes.reduce((sum, asked) => sum + of(asked) * asked.tokPerSecond, 0) / total;
  return {
    promptTokensMean: mean(({ promptTokensMean }) => promptTokensMean),
    outputTokensMean: Math.max(
      1,
      mean(({ outputTokensMean }) => outputTokensMean),
    ),
  };
}
