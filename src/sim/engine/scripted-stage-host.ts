/** Starts scripted stages: what `ScriptedEngines` is for whole models. Each takes its time to load, and may be told to fail. */
import { FallowError } from "../../domain/fault.ts";
import type { Clock } from "../../ports/clock.ts";
import { pause } from "../../ports/clock.ts";
import type { StageEngineHost, StageLoadOptions, StageLoadSpec } from "../../ports/stage-engine.ts";
import { SCRIPTED_PACE, type ScriptedPace } from "./scripted-engine.ts";
import { ScriptedStage, type StageBreak } from "./scripted-stage.ts";

export interface ScriptedStagesOptions {
  readonly clock: Clock;
  /** Of eight layers. */
  readonly pace?: ScriptedPace;
  readonly memoryBytes?: (spec: StageLoadSpec) => number;
  /** Null in every honest run. */
  readonly broken?: StageBreak | null;
}

export class ScriptedStages implements StageEngineHost {
  /** Those that are not closed or crashed, in the order in which they were loaded. */
  readonly alive = new Set<ScriptedStage>();
  readonly #options: ScriptedStagesOptions;

  constructor(options: ScriptedStagesOptions) {
    this.#options = options;
  }

  async loadStage(spec: StageLoadSpec, options: StageLoadOptions): Promise<ScriptedStage> {
    const { clock, pace = SCRIPTED_PACE, memoryBytes, broken = null } = this.#options;
    await pause(clock, pace.loadMs / 2, options.signal);
    options.onProgress?.(0.5);
    await pause(clock, pace.loadMs / 2, options.signal);
    if (options.signal.aborted) throw new FallowError("engine-load-failed", "the load was given up");
    options.onProgress?.(1);
    const stage = new ScriptedStage(spec, {
      clock,
      pace,
      memoryBytes: memoryBytes?.(spec) ?? 0,
      broken,
      onEvents: options.onEvents,
    });
    this.alive.add(stage);
    void stage.exited.then(() => this.alive.delete(stage));
    return stage;
  }
}
