/** Small models of an architecture as files, and what chains of stages answer on them, with the raw logits of each draw. */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "vitest";
import { sequenceId } from "../../src/domain/chain.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import { architectureModel, specNamed } from "./architecture-model.ts";
import { LAYERS } from "./architecture-tensors.ts";
import { taskOf } from "./engine-fixture.ts";
import type { Quantisation } from "./quantise.ts";
import { type Drawn, generateRows } from "./stage-chain.ts";
import { type HeardStage, StageFolder } from "./stage-fixture.ts";

const QUANTISE = fileURLToPath(new URL("./quantise-process.ts", import.meta.url));
const SEQUENCE = sequenceId("00000000000a11ce");
const PROMPT = Array.from({ length: 24 }, (_, at) => 50 + ((at * 97) % 1900));
const ARGMAX = { ...DEFAULT_SAMPLING, temperature: 0 };
/** All layers of such a model. */
export const WHOLE = { first: 0, count: LAYERS, hasEmbedding: true, hasOutput: true };

export interface ModelFile {
  readonly path: string;
  /** Cuts stages of it. */
  readonly folder: StageFolder;
  remove(): Promise<void>;
}

export async function modelFile(name: string, quantisation: Quantisation): Promise<ModelFile> {
  const home = await StageFolder.of();
  const [f32, path] = [home.at("f32.gguf"), home.at("model.gguf")];
  await writeFile(quantisation === "F32" ? path : f32, await architectureModel(specNamed(name)));
  if (quantisation !== "F32") await promisify(execFile)(process.execPath, [QUANTISE, f32, path, quantisation]);
  const folder = await StageFolder.of(path, LAYERS);
  const remove = async (): Promise<void> => {
    await Promise.all([home.remove(), folder.remove()]);
  };
  return { path, folder, remove };
}

/** A prompt in pieces of 16, then token by token. */
export async function answer(stages: readonly HeardStage[], tokens: number): Promise<Drawn> {
  for (const { engine } of stages) expect(engine.open(SEQUENCE)).toBe(true);
  stages.at(-1)?.engine.setSampling(SEQUENCE, taskOf({ tokenIds: PROMPT, sampling: ARGMAX, ignoreStopTokens: true }));
  return generateRows(stages, { sequence: SEQUENCE, tokenIds: PROMPT, count: tokens, pieceTokens: 16 });
}

/** Over all rows; NaN where a number is none. */
export function maxDifference(a: Drawn, b: Drawn): number {
  expect(a.rows.map((row) => row.length)).toEqual(b.rows.map((row) => row.length));
  const apart = (row: Float32Array, at: number): number[] =>
    Array.from(row, (value, index) => Math.abs(value - (b.rows[at]?.[index] ?? Number.NaN)));
  return Math.max(...a.rows.flatMap(apart));
}
