/**
 * A node's stages as its owner might watch them in the process list, and the hand that breaks them: what `ObservedEngines` is for whole models.
 */
import type { SequenceId } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import type { EngineExit, GenerateTask } from "../../ports/engine.ts";
import type {
  StageEngine,
  StageEngineHost,
  StageEvent,
  StageLoadOptions,
  StageLoadSpec,
  StagePass,
  StageState,
} from "../../ports/stage-engine.ts";
import type { EngineChange, Witness } from "../observation.ts";
import type { Host } from "../time/host.ts";
import { EXIT_MS, WATCHDOG_MS } from "./observed-engine.ts";
import type { ScriptedStage, StageSpoiling } from "./scripted-stage.ts";
import type { ScriptedStages } from "./scripted-stage-host.ts";

export interface ObservedStagesOptions {
  readonly host: Host;
  readonly inner: ScriptedStages;
  readonly witness: Witness;
  /** Bytes that a stage of this size takes. */
  readonly memoryBytes: (spec: StageLoadSpec) => number;
  /** Asked once per load: null loads well, else the code of the fault. */
  readonly loadFault: () => string | null;
}

/** Numbers of stages stay clear of those of whole engines. */
const NUMBERS_FROM = 1_000_000;

export class ObservedStages implements StageEngineHost {
  readonly #options: ObservedStagesOptions;
  readonly #stages = new Set<ObservedStage>();
  #count = NUMBERS_FROM;

  constructor(options: ObservedStagesOptions) {
    this.#options = options;
  }

  async loadStage(spec: StageLoadSpec, options: StageLoadOptions): Promise<StageEngine> {
    const { inner, loadFault, memoryBytes, host } = this.#options;
    const stage = ++this.#count;
    const fault = loadFault();
    this.#tell(stage, { to: "loading", memoryBytes: memoryBytes(spec), sequencesMax: spec.sequencesMax });
    const gate = new EventGate(options.onEvents);
    try {
      const loaded = await inner.loadStage(spec, { ...options, onEvents: (events) => gate.pass(events) });
      if (fault !== null) {
        await loaded.close();
        throw new FallowError(fault, `planted: ${fault}`);
      }
      const observed = new ObservedStage(loaded, { host, gate, tell: (change) => this.#tell(stage, change) });
      this.#stages.add(observed);
      void observed.exited.then(() => this.#stages.delete(observed));
      this.#tell(stage, { to: "ready" });
      return observed;
    } catch (fault) {
      this.#tell(stage, { to: "gone" });
      throw fault;
    }
  }

  crashAll(): void {
    for (const stage of this.#stages) stage.end("crashed");
  }

  /** Nothing comes out any more until the watchdog ends them. */
  hangAll(): void {
    for (const stage of this.#stages) stage.hang();
  }

  /** Of those that run now. */
  slowDownAll(factor: number): void {
    for (const stage of this.#stages) stage.slowDown(factor);
  }

  /** Passes are taken and not done, and nobody is told; the engine's process lives. */
  stallAll(isStalled: boolean): void {
    for (const stage of this.#stages) stage.stall(isStalled);
  }

  spoilAll(how: StageSpoiling | null): void {
    for (const stage of this.#stages) stage.spoil(how);
  }

  /** The process died and its stages with it. */
  abandon(): void {
    for (const stage of this.#stages) stage.abandon();
    this.#stages.clear();
  }

  #tell(engine: number, change: EngineChange): void {
    this.#options.witness({ kind: "engine", node: this.#options.host.name, engine, change });
  }
}

/** What a hung or dead process reports is nothing. */
class EventGate {
  isShut = false;
  onFailed: (sequence: SequenceId) => void = () => undefined;
  readonly #pass: (events: readonly StageEvent[]) => void;

  constructor(pass: (events: readonly StageEvent[]) => void) {
    this.#pass = pass;
  }

  pass(events: readonly StageEvent[]): void {
    if (this.isShut) return;
    for (const event of events) if (event.kind === "failed") this.onFailed(event.sequence);
    this.#pass(events);
  }
}

class ObservedStage implements StageEngine {
  readonly info: StageEngine["info"];
  readonly exited: Promise<EngineExit>;
  readonly #inner: ScriptedStage;
  readonly #host: Host;
  readonly #gate: EventGate;
  readonly #tell: (change: EngineChange) => void;
  readonly #running = new Set<SequenceId>();
  readonly #exit = Promise.withResolvers<EngineExit>();
  /** Behind the last pass of each sequence that came while it stalled. */
  readonly #swallowed = new Map<SequenceId, number>();
  #isStalled = false;
  #state: "alive" | "hung" | "ended" = "alive";
  #isGone = false;

  constructor(inner: ScriptedStage, of: { host: Host; gate: EventGate; tell: (change: EngineChange) => void }) {
    this.#inner = inner;
    this.#host = of.host;
    this.#gate = of.gate;
    this.#tell = of.tell;
    this.info = inner.info;
    this.exited = this.#exit.promise;
    of.gate.onFailed = (sequence) => this.#rest(sequence);
    void inner.exited.then((exit) => this.#gone(exit));
  }

  open(sequence: SequenceId): boolean {
    const isOpen = this.#inner.open(sequence);
    if (isOpen && !this.#running.has(sequence)) {
      this.#running.add(sequence);
      this.#tell({ to: "busier" });
    }
    return isOpen;
  }

  setSampling(sequence: SequenceId, task: GenerateTask): void {
    this.#inner.setSampling(sequence, task);
  }

  submit(pass: StagePass): void {
    if (this.#isStalled) this.#swallowed.set(pass.sequence, pass.start + pass.count);
    else this.#inner.submit(pass);
  }

  held(sequence: SequenceId): number {
    return this.#swallowed.get(sequence) ?? this.#inner.held(sequence);
  }

  holdings(): ReturnType<StageEngine["holdings"]> {
    return this.#inner.holdings();
  }

  release(sequence: SequenceId): void {
    this.#inner.release(sequence);
    this.#rest(sequence);
  }

  forget(sequence: SequenceId): void {
    this.#inner.forget(sequence);
    this.#rest(sequence);
  }

  exportState(sequence: SequenceId, positions: number): Promise<StageState | null> {
    return this.#state === "alive" ? this.#inner.exportState(sequence, positions) : Promise.resolve(null);
  }

  importState(state: StageState): Promise<boolean> {
    return this.#state === "alive" ? this.#inner.importState(state) : Promise.resolve(false);
  }

  stats(): ReturnType<StageEngine["stats"]> {
    return this.#inner.stats();
  }

  async close(): Promise<void> {
    await this.#inner.close();
    await this.exited;
  }

  slowDown(factor: number): void {
    this.#inner.slowDown(factor);
  }

  spoil(how: StageSpoiling | null): void {
    this.#inner.spoil(how);
  }

  stall(isStalled: boolean): void {
    this.#isStalled = isStalled;
    if (!isStalled) this.#swallowed.clear();
  }

  hang(): void {
    if (this.#state !== "alive") return;
    this.#state = "hung";
    this.#gate.isShut = true;
    this.#host.after(WATCHDOG_MS, () => this.end("hung"));
  }

  end(cause: "crashed" | "hung"): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#gate.isShut = false;
    this.#inner.crash(cause);
    this.#gone({ cause, detail: `planted: ${cause}` });
  }

  abandon(): void {
    this.#state = "ended";
    this.#isGone = true;
    this.#gate.isShut = true;
    this.#tell({ to: "gone" });
  }

  #rest(sequence: SequenceId): void {
    if (this.#running.delete(sequence)) this.#tell({ to: "idler" });
  }

  #gone(exit: EngineExit): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#state = "ended";
    this.#host.after(EXIT_MS, () => {
      this.#tell({ to: "gone" });
      this.#exit.resolve(exit);
    });
  }
}
