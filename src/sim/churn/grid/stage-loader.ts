/**
 * Carries a plan out on one machine after the other: what is not on its disk is fetched over its line, one stage at a time; then the
 * stage waits until memory is free, and is loaded. While weights come in, what is there goes on serving; a stage that left the plan is
 * closed when its memory is needed or when nothing is to come, given `DRAIN_MS` to end what it does, and then cut off.
 */
import { assert } from "../../../domain/assert.ts";
import type { SimModel } from "../policies/served-mix.ts";
import { cancel, type EventQueue } from "./event-queue.ts";
import type { GridNode, Running, Stage, StagePlan } from "./grid-parts.ts";
import { keepFetched, makeDiskRoom, missingBytes } from "./node-disk.ts";
import { stageBytes, usableBytesOf } from "./stage-speed.ts";

/** Starting an engine, before it reads its weights. */
const ENGINE_START_MS = 3_000;
/** What a stage that has to go may still work on; longer answers move. */
export const DRAIN_MS = 60_000;

export interface LoaderHooks {
  readonly onReady: (stage: Stage) => void;
  /** A stage is cut off with requests on it. */
  readonly onCut: (stage: Stage, running: readonly Running[]) => void;
}

export class StageLoader {
  readonly #queue: EventQueue;
  readonly #models: readonly SimModel[];
  readonly #hooks: LoaderHooks;
  #numbers = 0;
  #loads = 0;
  #movedBytes = 0;

  constructor(options: { queue: EventQueue; models: readonly SimModel[]; hooks: LoaderHooks }) {
    this.#queue = options.queue;
    this.#models = options.models;
    this.#hooks = options.hooks;
  }

  get loads(): number {
    return this.#loads;
  }

  get movedBytes(): number {
    return this.#movedBytes;
  }

  /** Makes `wanted` what the machine shall hold. What it holds of it already is kept as it is. */
  want(node: GridNode, wanted: readonly StagePlan[]): void {
    if (!node.isUp) return;
    const bytes = wanted.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    assert(bytes <= usableBytesOf(node.draw.gpu), `${node.draw.name} has room for what is planned on it`);
    // A stage that was to go stays only if it takes no more memory than it would get today.
    const isWanted = (stage: Stage) =>
      wanted.some((plan) => isSame(plan, stage) && (!stage.isLeaving || stage.memoryBytes <= plan.memoryBytes));
    for (const stage of [...node.stages]) {
      if (isWanted(stage)) {
        // A stage that closed goes: it is cut soon, and comes anew.
        if (!stage.isClosed) stage.isLeaving = false;
      } else if (stage.state === "ready") stage.isLeaving = true;
      else this.#drop(stage);
    }
    for (const plan of wanted) {
      if (!node.stages.some((stage) => isSame(plan, stage) && !stage.isLeaving))
        node.stages.push(this.#make(node, plan));
    }
    this.#go(node);
  }

  /** The machine is lost, with what it held. */
  lose(node: GridNode): readonly Running[] {
    const lost = new Set(node.stages.flatMap((stage) => [...stage.sequences]));
    this.#endFetch(node);
    for (const stage of node.stages) stage.state = "gone";
    node.stages.length = 0;
    node.loading = null;
    if (!node.draw.availability.keepsDisk) node.disk.clear();
    return [...lost].sort((a, b) => a.number - b.number);
  }

  /** A request left this stage. */
  released(stage: Stage): void {
    if (stage.isLeaving) this.#go(stage.node);
  }

  #spec(model: number): SimModel {
    const spec = this.#models[model];
    assert(spec !== undefined, `${model} is a model of the grid`);
    return spec;
  }

  #make(node: GridNode, plan: StagePlan): Stage {
    const spec = this.#spec(plan.model);
    assert(plan.first >= 0 && plan.first < plan.end && plan.end <= spec.layerCount, "a stage is a run of layers");
    const weightsBytes = stageBytes(spec, plan);
    const tokenBytes = spec.kvBytesPerTokenLayer * (plan.end - plan.first);
    assert(plan.memoryBytes >= weightsBytes, "a stage has room for its weights");
    return {
      ...plan,
      number: this.#numbers++,
      node,
      spec,
      weightsBytes,
      state: "fetching",
      isLeaving: false,
      isClosed: false,
      sequences: new Set(),
      kvTokensMax: Math.floor((plan.memoryBytes - weightsBytes) / tokenBytes),
      kvTokens: 0,
      bucket: 0,
      lastUsedAtMs: this.#queue.nowMs,
      readyAtMs: 0,
    };
  }

  /** Takes the next step that a machine can take. */
  #go(node: GridNode): void {
    this.#startFetch(node);
    const isToCome = node.stages.some((stage) => stage.state === "fetching");
    const next = node.stages.find((stage) => stage.state === "waiting");
    const isShort = next !== undefined && next.memoryBytes > this.#freeBytes(node);
    for (const stage of [...node.stages]) {
      if (!stage.isLeaving) continue;
      if (isShort || !isToCome) this.#close(stage);
    }
    const waiting = node.stages.find((stage) => stage.state === "waiting");
    if (waiting !== undefined && node.loading === null && waiting.memoryBytes <= this.#freeBytes(node))
      this.#load(waiting);
  }

  #freeBytes(node: GridNode): number {
    const held = node.stages.filter(({ state }) => state === "ready" || state === "loading");
    return usableBytesOf(node.draw.gpu) - held.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
  }

  #startFetch(node: GridNode): void {
    if (node.fetch !== null) return;
    const stage = node.stages.find((one) => one.state === "fetching");
    if (stage === undefined) return;
    const bytes = missingBytes(node, stage, stage.spec);
    if (!makeDiskRoom(node, { bytes, models: this.#models })) {
      this.#drop(stage);
      return;
    }
    const event = this.#queue.after(bytes / node.draw.downBytesPerMs, () => {
      this.#endFetch(node);
      stage.state = "waiting";
      this.#go(node);
    });
    node.fetch = { stage, startMs: this.#queue.nowMs, bytes, event };
  }

  /** Counts what came in so far and keeps it. */
  #endFetch(node: GridNode): void {
    const { fetch } = node;
    if (fetch === null) return;
    cancel(fetch.event);
    const { nowMs } = this.#queue;
    const bytes = Math.min(fetch.bytes, (nowMs - fetch.startMs) * node.draw.downBytesPerMs);
    this.#movedBytes += bytes;
    keepFetched(node, fetch.stage, { spec: fetch.stage.spec, bytes, nowMs });
    node.fetch = null;
  }

  #load(stage: Stage): void {
    const { node } = stage;
    const { life } = node;
    stage.state = "loading";
    node.loading = stage;
    node.diskUsedAtMs.set(stage.model, this.#queue.nowMs);
    this.#loads += 1;
    this.#queue.after(ENGINE_START_MS + stage.weightsBytes / node.draw.diskReadBytesPerMs, () => {
      if (node.life !== life || stage.state !== "loading") return;
      stage.state = "ready";
      stage.readyAtMs = this.#queue.nowMs;
      stage.lastUsedAtMs = stage.readyAtMs;
      node.loading = null;
      this.#go(node);
      this.#hooks.onReady(stage);
    });
  }

  #close(stage: Stage): void {
    if (stage.sequences.size === 0) {
      this.#remove(stage);
      return;
    }
    if (stage.isClosed) return;
    stage.isClosed = true;
    const { life } = stage.node;
    this.#queue.after(DRAIN_MS, () => {
      if (stage.node.life !== life || stage.state === "gone") return;
      const running = [...stage.sequences].sort((a, b) => a.number - b.number);
      this.#hooks.onCut(stage, running);
      this.#remove(stage);
      this.#go(stage.node);
    });
  }

  #drop(stage: Stage): void {
    const { node } = stage;
    if (node.fetch?.stage === stage) this.#endFetch(node);
    if (node.loading === stage) node.loading = null;
    this.#remove(stage);
  }

  #remove(stage: Stage): void {
    stage.state = "gone";
    const at = stage.node.stages.indexOf(stage);
    if (at >= 0) stage.node.stages.splice(at, 1);
  }
}

function isSame(a: StagePlan, b: StagePlan): boolean {
  return a.model === b.model && a.first === b.first && a.end === b.end;
}
