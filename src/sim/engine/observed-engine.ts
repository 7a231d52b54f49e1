/**
 * A node's engines as its owner might watch them in the process list, and the hand that breaks them. It stands between the
 * agent and the scripted engine: tells when an engine takes memory and when that is free, and can crash, hang or refuse to
 * load, in the words that the Engine port has for it.
 */
import { FallowError } from "../../domain/fault.ts";
import type {
  Engine,
  EngineExit,
  EngineFailure,
  EngineHost,
  EngineLoadOptions,
  EngineLoadSpec,
  EngineSequence,
  GenerateEvent,
  GenerateTask,
} from "../../ports/engine.ts";
import type { EngineChange, Witness } from "../observation.ts";
import type { Host } from "../time/host.ts";

/** The engine adapter's watchdog ends an engine that made no progress for this long. */
export const WATCHDOG_MS = 2_000;
/** From the end of an engine's process to its memory being free. */
export const EXIT_MS = 20;

export interface ObservedEngineOptions {
  readonly host: Host;
  readonly inner: EngineHost;
  readonly witness: Witness;
  /** Bytes that an engine of this size takes. */
  readonly memoryBytes: (spec: EngineLoadSpec) => number;
  /** Asked once per load: null loads well, else the code of the fault. */
  readonly loadFault: () => string | null;
}

export class ObservedEngines implements EngineHost {
  readonly #options: ObservedEngineOptions;
  readonly #engines = new Set<ObservedEngine>();
  #count = 0;

  constructor(options: ObservedEngineOptions) {
    this.#options = options;
  }

  async load(spec: EngineLoadSpec, options: EngineLoadOptions): Promise<Engine> {
    const { inner, loadFault, memoryBytes, sequencesMax } = { ...this.#options, sequencesMax: spec.sequencesMax };
    const engine = ++this.#count;
    const fault = loadFault();
    this.#tell(engine, { to: "loading", memoryBytes: memoryBytes(spec), sequencesMax });
    try {
      const loaded = await inner.load(spec, options);
      if (fault !== null) {
        await loaded.close();
        throw new FallowError(fault, `planted: ${fault}`);
      }
      const observed = new ObservedEngine(loaded, this.#options.host, (change) => this.#tell(engine, change));
      this.#engines.add(observed);
      void observed.exited.then(() => this.#engines.delete(observed));
      this.#tell(engine, { to: "ready" });
      return observed;
    } catch (fault) {
      this.#tell(engine, { to: "gone" });
      throw fault;
    }
  }

  crashAll(): void {
    for (const engine of this.#engines) engine.end("crashed", "engine-crashed");
  }

  /** Nothing comes out any more until the watchdog ends them. */
  hangAll(): void {
    for (const engine of this.#engines) engine.hang();
  }

  /** The process died and its engines with it. */
  abandon(): void {
    for (const engine of this.#engines) engine.abandon();
    this.#engines.clear();
  }

  #tell(engine: number, change: EngineChange): void {
    this.#options.witness({ kind: "engine", node: this.#options.host.name, engine, change });
  }
}

class ObservedEngine implements Engine {
  readonly info: Engine["info"];
  readonly exited: Promise<EngineExit>;
  readonly #inner: Engine;
  readonly #host: Host;
  readonly #tell: (change: EngineChange) => void;
  readonly #running = new Map<EngineSequence, (event: GenerateEvent) => void>();
  #exit: (exit: EngineExit) => void = () => undefined;
  #state: "alive" | "hung" | "ended" = "alive";
  #isGone = false;

  constructor(inner: Engine, host: Host, tell: (change: EngineChange) => void) {
    this.#inner = inner;
    this.#host = host;
    this.#tell = tell;
    this.info = inner.info;
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
    void inner.exited.then((exit) => this.#gone(exit));
  }

  generate(task: GenerateTask, onEvent: (event: GenerateEvent) => void): EngineSequence {
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      this.#running.delete(sequence);
      this.#tell({ to: "idler" });
    };
    this.#tell({ to: "busier" });
    const inner = this.#inner.generate(task, (event) => {
      if (isOver || this.#state !== "alive") return;
      if (event.kind !== "tokens") over();
      onEvent(event);
    });
    const sequence: EngineSequence = {
      abort: () => {
        inner.abort();
        over();
      },
    };
    const fail = (event: GenerateEvent) => {
      inner.abort();
      over();
      onEvent(event);
    };
    if (!isOver) this.#running.set(sequence, fail);
    return sequence;
  }

  async embed(inputs: readonly (readonly number[])[], signal: AbortSignal): Promise<readonly Float32Array[]> {
    this.#tell({ to: "busier" });
    try {
      const vectors = await this.#inner.embed(inputs, signal);
      if (this.#state === "alive") return vectors;
      const { cause, detail } = await this.exited;
      throw new FallowError(`engine-${cause}`, detail);
    } finally {
      this.#tell({ to: "idler" });
    }
  }

  exportState(tokenIds: readonly number[]): ReturnType<Engine["exportState"]> {
    return this.#inner.exportState(tokenIds);
  }

  importState(state: Parameters<Engine["importState"]>[0]): Promise<boolean> {
    return this.#inner.importState(state);
  }

  stats(): ReturnType<Engine["stats"]> {
    return this.#inner.stats();
  }

  async close(): Promise<void> {
    await this.#inner.close();
    await this.exited;
  }

  hang(): void {
    if (this.#state !== "alive") return;
    this.#state = "hung";
    this.#host.after(WATCHDOG_MS, () => this.end("hung", "engine-hung"));
  }

  end(cause: "crashed" | "hung", code: EngineFailure): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    for (const fail of [...this.#running.values()]) fail({ kind: "failed", code, message: `planted: ${code}` });
    void this.#inner.close();
    this.#gone({ cause, detail: `planted: ${code}` });
  }

  abandon(): void {
    this.#state = "ended";
    this.#isGone = true;
    this.#tell({ to: "gone" });
  }

  #gone(exit: EngineExit): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#state = "ended";
    this.#host.after(EXIT_MS, () => {
      this.#tell({ to: "gone" });
      this.#exit(exit);
    });
  }
}
