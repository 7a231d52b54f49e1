/**
 * A stage of a scripted model in virtual time, as src/ports/stage-engine.ts has it. What waits is carried out step by step: a step takes one pass
 * of each sequence, in the order of submission, and as long as its longest part. It can be slow, hang and crash, let through what is no number,
 * and give plausible garbage.
 */
import { createHash } from "node:crypto";
import { assert } from "../../domain/assert.ts";
import type { SequenceId } from "../../domain/chain.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import { pause } from "../../ports/clock.ts";
import type { EngineExit, GenerateTask } from "../../ports/engine.ts";
import type {
  StageEngine,
  StageEngineInfo,
  StageEvent,
  StageLoadSpec,
  StagePass,
  StageState,
  StageStats,
} from "../../ports/stage-engine.ts";
import { SCRIPTED_NUMERIC_CLASS, type ScriptedPace } from "./scripted-engine.ts";
import { brokenBytes, hiddenBytes, SCRIPTED_EMBEDDING_LENGTH, ScriptedKv, statesOf } from "./scripted-layers.ts";
import { SCRIPTED_VOCAB_SIZE } from "./scripted-model.ts";
import { ScriptedSlot, type SlotShape } from "./scripted-slot.ts";

export interface ScriptedStageOptions {
  readonly clock: Clock;
  readonly pace: ScriptedPace;
  readonly memoryBytes: number;
  readonly broken: StageBreak | null;
  readonly onEvents: (events: readonly StageEvent[]) => void;
}

/** Sabotage: a position that comes again is added to what is held; what a sequence held is lost when it goes on, and nobody is told. */
export type StageBreak = "keeps-stale" | "ignores-gaps";

/** How what it puts out is spoilt: numbers that are none, or numbers that another model gave. */
export type StageSpoiling = "nan" | "garbage";

/** A pace is that of a model with so many layers. */
const PACE_LAYERS = 8;
/** Of failures that no pass is to blame for. */
const NO_TAG = -1;
/** From disk or memory into a slot. */
const IMPORT_MS = 2;

export class ScriptedStage implements StageEngine {
  readonly info: StageEngineInfo;
  readonly exited: Promise<EngineExit>;
  readonly #options: ScriptedStageOptions;
  readonly #shape: SlotShape;
  /** The one that was released longest ago comes first among the released. */
  readonly #slots = new Map<SequenceId, ScriptedSlot>();
  readonly #exit = Promise.withResolvers<EngineExit>();
  #queue: StagePass[] = [];
  #timer: Timer | null = null;
  #isGone = false;
  #isHung = false;
  #slowdown = 1;
  #spoiling: StageSpoiling | null = null;
  #positionsDecoded = 0;
  #singleMs: number | null = null;
  #promptMsPerPosition: number | null = null;

  constructor(spec: StageLoadSpec, options: ScriptedStageOptions) {
    const { share, wire, contextTokens, sequencesMax } = spec;
    this.#options = options;
    this.exited = this.#exit.promise;
    this.#shape = { range: share, isLast: share.hasOutput, wire, keepsStale: options.broken === "keeps-stale" };
    this.info = {
      libraryVersion: "scripted",
      variant: "cpu",
      numericClass: wire === "f16" ? `${SCRIPTED_NUMERIC_CLASS}/f16-wire` : SCRIPTED_NUMERIC_CLASS,
      vocabSize: share.hasEmbedding || share.hasOutput ? SCRIPTED_VOCAB_SIZE : 0,
      embeddingLength: SCRIPTED_EMBEDDING_LENGTH,
      contextTokens,
      sequencesMax,
      layersOffloaded: 0,
      processId: 0,
      share,
      wire,
    };
  }

  open(sequence: SequenceId): boolean {
    if (this.#isGone) return false;
    const known = this.#slots.get(sequence);
    if (known === undefined && !this.#makeRoom()) return false;
    const slot = known ?? new ScriptedSlot(sequence, this.#shape);
    if (!slot.isRunning && this.#options.broken === "ignores-gaps") slot.lose();
    slot.isRunning = true;
    this.#slots.set(sequence, slot);
    return true;
  }

  setSampling(sequence: SequenceId, task: GenerateTask): void {
    const slot = this.#running(sequence, NO_TAG);
    if (slot === null) return;
    assert(this.#shape.isLast, "only a last stage samples");
    slot.setSampling(task);
  }

  submit(pass: StagePass): void {
    const { sequence, tag, start, count, input } = pass;
    const slot = this.#running(sequence, tag);
    if (slot === null) return;
    const isFirst = this.#shape.range.first === 0;
    assert(isFirst === (input.kind === "tokens"), `a ${isFirst ? "first" : "later"} stage got ${input.kind}`);
    if (start > slot.planned || start + count > this.info.contextTokens) {
      const message = `positions ${start} to ${start + count - 1}: held are ${slot.planned} of ${this.info.contextTokens}`;
      this.forget(sequence);
      this.#tell({ kind: "failed", sequence, tag, code: "position-wrong", message });
      return;
    }
    slot.pending.push(start + count);
    this.#queue.push(pass);
    this.#keepStepping();
  }

  held(sequence: SequenceId): number {
    return this.#slots.get(sequence)?.planned ?? 0;
  }

  holdings(): readonly { readonly sequence: SequenceId; readonly held: number }[] {
    return [...this.#slots.values()]
      .filter(({ planned }) => planned > 0)
      .map(({ sequence, planned }) => ({ sequence, held: planned }));
  }

  release(sequence: SequenceId): void {
    const slot = this.#slots.get(sequence);
    if (slot === undefined || !slot.isRunning) return;
    this.#drop(sequence);
    slot.release();
    this.#slots.delete(sequence);
    this.#slots.set(sequence, slot);
  }

  forget(sequence: SequenceId): void {
    this.#drop(sequence);
    this.#slots.delete(sequence);
  }

  exportState(sequence: SequenceId, positions: number): Promise<StageState | null> {
    const data = this.#isGone ? null : (this.#slots.get(sequence)?.kv.export(positions) ?? null);
    if (data === null) return Promise.resolve(null);
    const sha256 = sha256Hex(createHash("sha256").update(data).digest("hex"));
    return Promise.resolve({ sequence, positions, data, sha256 });
  }

  async importState({ sequence, positions, data }: StageState): Promise<boolean> {
    const kv = ScriptedKv.read(this.#shape.range, data);
    if (kv === null || kv.held !== positions) return false;
    await pause(this.#options.clock, IMPORT_MS);
    const known = this.#slots.get(sequence);
    if (this.#isGone || known?.isRunning === true || (known === undefined && !this.#makeRoom())) return false;
    const slot = new ScriptedSlot(sequence, this.#shape);
    slot.kv = kv;
    slot.release();
    this.#slots.delete(sequence);
    this.#slots.set(sequence, slot);
    return true;
  }

  stats(): StageStats {
    return {
      sequencesOpen: [...this.#slots.values()].filter(({ isRunning }) => isRunning).length,
      passesQueued: this.#queue.length,
      positionsDecoded: this.#positionsDecoded,
      singleMs: this.#singleMs,
      promptMsPerPosition: this.#promptMsPerPosition,
      cpuMs: 0,
      memoryBytes: this.#isGone ? 0 : this.#options.memoryBytes,
    };
  }

  close(): Promise<void> {
    this.#end({ cause: "closed", detail: "closed" });
    return Promise.resolve();
  }

  crash(cause: "crashed" | "hung" = "crashed"): void {
    this.#end({ cause, detail: `planted: ${cause}` });
  }

  /** Gives nothing more and says nothing. */
  hang(): void {
    this.#isHung = true;
  }

  slowDown(factor: number): void {
    this.#slowdown = factor;
  }

  /** What it puts out from here on; null: what it should. */
  spoil(how: StageSpoiling | null): void {
    this.#spoiling = how;
  }

  #end(exit: EngineExit): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#timer?.cancel();
    this.#queue = [];
    const open = [...this.#slots.values()].filter(({ isRunning }) => isRunning);
    this.#slots.clear();
    if (exit.cause !== "closed") {
      const code = exit.cause === "hung" ? "engine-hung" : "engine-crashed";
      for (const { sequence } of open)
        this.#tell({ kind: "failed", sequence, tag: NO_TAG, code, message: exit.detail });
    }
    this.#exit.resolve(exit);
  }

  /** The slot that was released longest ago is emptied when none is free. */
  #makeRoom(): boolean {
    if (this.#slots.size < this.info.sequencesMax) return true;
    const released = [...this.#slots.values()].find(({ isRunning }) => !isRunning);
    return released !== undefined && this.#slots.delete(released.sequence);
  }

  #running(sequence: SequenceId, tag: number): ScriptedSlot | null {
    const slot = this.#slots.get(sequence);
    if (slot?.isRunning === true) return slot;
    const [code, message] = this.#isGone
      ? (["engine-closed", "the engine is closed"] as const)
      : (["position-wrong", `sequence ${sequence} is not open`] as const);
    this.#tell({ kind: "failed", sequence, tag, code, message });
    return null;
  }

  /** Never before the call that caused it has returned. */
  #tell(event: StageEvent): void {
    queueMicrotask(() => this.#options.onEvents([event]));
  }

  #drop(sequence: SequenceId): void {
    this.#queue = this.#queue.filter((pass) => pass.sequence !== sequence);
  }

  #keepStepping(): void {
    if (this.#timer !== null || this.#isGone || this.#queue.length === 0) return;
    const passes = this.#nextPasses();
    this.#timer = this.#options.clock.setTimer(this.#stepMs(passes), () => {
      this.#timer = null;
      if (this.#isHung) return;
      this.#step(passes);
      this.#keepStepping();
    });
  }

  /** The oldest of each sequence. */
  #nextPasses(): readonly StagePass[] {
    const taken = new Map<SequenceId, StagePass>();
    for (const pass of this.#queue) if (!taken.has(pass.sequence)) taken.set(pass.sequence, pass);
    return [...taken.values()];
  }

  #stepMs(passes: readonly StagePass[]): number {
    const { prefillMsPerToken, stepMs } = this.#options.pace;
    const share = this.#shape.range.count / PACE_LAYERS;
    const isTogether = (pass: StagePass) => pass.how === "together";
    const singles = Math.max(0, ...passes.map((pass) => (isTogether(pass) ? 0 : pass.count)));
    const prompts = passes.reduce((sum, pass) => sum + (isTogether(pass) ? pass.count : 0), 0);
    if (singles > 0) this.#singleMs = stepMs * share * this.#slowdown;
    if (prompts > 0) this.#promptMsPerPosition = prefillMsPerToken * share * this.#slowdown;
    return (singles * stepMs + prompts * prefillMsPerToken) * share * this.#slowdown;
  }

  #step(passes: readonly StagePass[]): void {
    const events: StageEvent[] = [];
    for (const pass of passes) {
      const slot = this.#slots.get(pass.sequence);
      // Released or forgotten while it ran: nobody waits for it.
      if (slot === undefined || !this.#queue.includes(pass)) continue;
      this.#queue = this.#queue.filter((other) => other !== pass);
      const event = slot.carryOut(pass);
      this.#positionsDecoded += pass.count;
      if (event.kind === "failed") this.forget(pass.sequence);
      events.push(this.#spoilt(event));
    }
    if (events.length > 0) this.#options.onEvents(events);
  }

  #spoilt(event: StageEvent): StageEvent {
    if (event.kind !== "output" || this.#spoiling === null) return event;
    const { count, format, data } = event;
    if (this.#spoiling === "nan") return { ...event, data: brokenBytes(count, format) };
    const states = statesOf(data, format) ?? [];
    return {
      ...event,
      data: hiddenBytes(
        states.map((state) => ~state >>> 0),
        format,
      ),
    };
  }
}
