/** Stages of a model as files, and the real engine over them, for suites that need some. */
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import type { LlamaEngineHostOptions } from "../../src/adapters/engine-llama/engine-host-options.ts";
import { LlamaStageEngineHost } from "../../src/adapters/engine-llama/stage-host.ts";
import { shareOfStage } from "../../src/domain/chain.ts";
import { modelId, sha256Hex } from "../../src/domain/ids.ts";
import type { LayerShare } from "../../src/domain/weights.ts";
import type { StageEngine, StageEvent, StageLoadSpec } from "../../src/ports/stage-engine.ts";
import { byteSourceOf } from "../../src/weights/byte-source.ts";
import { stageBytes } from "../../src/weights/stage-plan.ts";
import { readStagePlan } from "../../src/weights/stage-slice.ts";
import { TINY_PATH } from "./engine-fixture.ts";

export const TINY_LAYERS = 4;

export interface StageFile {
  readonly path: string;
  readonly share: LayerShare;
}

export function stageHost(options: Partial<LlamaEngineHostOptions> = {}): LlamaStageEngineHost {
  return new LlamaStageEngineHost({
    variant: "cpu",
    libraryDirectory: null,
    selfTestModelPath: TINY_PATH,
    environment: engineEnvironment(process.env),
    ...options,
  });
}

/** Files of stages in a folder of their own. */
export class StageFolder {
  readonly #directory: string;
  readonly #source: Uint8Array;
  readonly #layerCount: number;

  private constructor(directory: string, source: Uint8Array, layerCount: number) {
    this.#directory = directory;
    this.#source = source;
    this.#layerCount = layerCount;
  }

  static async of(modelPath = TINY_PATH, layerCount = TINY_LAYERS): Promise<StageFolder> {
    const directory = await mkdtemp(join(tmpdir(), "fallow-stages-"));
    return new StageFolder(directory, await readFile(modelPath), layerCount);
  }

  at(name: string): string {
    return join(this.#directory, name);
  }

  async cut(first: number, count: number): Promise<StageFile> {
    const share = shareOfStage({ first, count }, this.#layerCount);
    const source = byteSourceOf(this.#source);
    const plan = await readStagePlan([source], share);
    if (!plan.ok) throw new Error(`${plan.reason.code}: ${plan.reason.message}`);
    const path = this.at(`layers-${first}-${first + count}.gguf`);
    const file = await open(path, "w");
    try {
      for await (const bytes of stageBytes(plan.value, [source])) await file.write(bytes);
    } finally {
      await file.close();
    }
    return { path, share };
  }

  remove(): Promise<void> {
    return rm(this.#directory, { recursive: true, force: true });
  }
}

export interface HeardStage {
  readonly engine: StageEngine;
  /** All that it reported, in order. */
  readonly events: StageEvent[];
  /** The reports, as they came. */
  readonly reports: (readonly StageEvent[])[];
}

export async function loadStage(
  host: LlamaStageEngineHost,
  file: StageFile,
  spec: Partial<StageLoadSpec> = {},
): Promise<HeardStage> {
  const events: StageEvent[] = [];
  const reports: (readonly StageEvent[])[] = [];
  const whole: StageLoadSpec = {
    modelId: modelId("tiny"),
    stagePath: file.path,
    weightsSha256: sha256Hex("0".repeat(64)),
    share: file.share,
    contextTokens: 1024,
    sequencesMax: 4,
    threads: 1,
    gpuLayers: 0,
    wire: "f32",
    ...spec,
  };
  const engine = await host.loadStage(whole, {
    signal: new AbortController().signal,
    onEvents: (told) => {
      reports.push(told);
      events.push(...told);
    },
  });
  return { engine, events, reports };
}
