/**
 * Stage files, written as a node writes them and run by the real stage engine, one process each: chains of two and three give the logits of the unsplit
 * model, bit by bit. The whole table of architectures and quantisations is bench/golden-stages.bench.ts; here stand the ways in which they are cut.
 */
import { readFile, writeFile } from "node:fs/promises";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { answer, type ModelFile, maxDifference, modelFile, WHOLE } from "./support/golden-answers.ts";
import type { Quantisation } from "./support/quantise.ts";
import { type HeardStage, loadStage, type StageFile, type StageFolder, stageHost } from "./support/stage-fixture.ts";

const TOKENS = 8;
const host = stageHost();
const opened: HeardStage[] = [];
const files: ModelFile[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ engine }) => engine.close()));
});
afterAll(async () => {
  await Promise.all(files.map((file) => file.remove()));
});

async function made(name: string, quantisation: Quantisation): Promise<ModelFile> {
  const file = await modelFile(name, quantisation);
  files.push(file);
  return file;
}

async function start(file: StageFile): Promise<HeardStage> {
  const stage = await loadStage(host, file, { contextTokens: 256, sequencesMax: 1 });
  opened.push(stage);
  return stage;
}

async function chainOf(folder: StageFolder, ends: readonly number[]): Promise<readonly HeardStage[]> {
  const stages: HeardStage[] = [];
  for (const [at, end] of ends.entries()) {
    const first = ends[at - 1] ?? 0;
    stages.push(await start(await folder.cut(first, end - first)));
  }
  return stages;
}

describe("a chain gives the unsplit model's logits", () => {
  test.each<[string, Quantisation, string]>([
    ["llama", "Q4_K_M", "a head of its own, told as embedding"],
    ["llama/tied", "Q4_0", "the embedding as head"],
    ["llama/experts", "Q8_0", "experts"],
    ["mistral3", "Q5_K_M", "scaled positions"],
    ["qwen2/headed", "BF16", "biases"],
    ["qwen3moe", "Q6_K", "norms of heads and experts"],
    ["phi3", "Q4_K_M", "one matrix for queries, keys and values"],
    ["gpt2", "F16", "embedded positions"],
    ["phi2", "Q8_0", "a head that the loader demands"],
    ["gemma", "Q8_0", "states put in behind the engine's own scale"],
    ["gemma2", "Q4_K_M", "every second layer with a window, and soft caps"],
    ["gemma3", "Q2_K", "windows in five of six layers"],
    ["granite", "F32", "embeddings scaled in the first stage alone"],
    ["minicpm", "Q8_0", "a scale from the number of layers"],
    ["deepseek", "Q8_0", "dense layers before those of experts"],
    ["deepseek2", "Q8_0", "compressed queries, keys and values"],
    ["openelm", "F16", "heads of each layer's own"],
  ])("%s in %s: %s", async (name, quantisation) => {
    const { path, folder } = await made(name, quantisation);
    const unsplit = await answer([await start({ path, share: WHOLE })], TOKENS);
    expect(unsplit.rows).toHaveLength(TOKENS);
    expect(Math.max(...(unsplit.rows[0] ?? [])) - Math.min(...(unsplit.rows[0] ?? []))).toBeGreaterThan(1);
    for (const ends of [
      [2, 6],
      [1, 4, 6],
    ]) {
      const drawn = await answer(await chainOf(folder, ends), TOKENS);
      expect(drawn.tokenIds).toEqual(unsplit.tokenIds);
      expect(maxDifference(drawn, unsplit)).toBe(0);
    }
  });
});

test("a stage whose windows were not told gives other logits: the comparison sees what a wrong cut does", async () => {
  const { path, folder } = await made("gemma3", "F32");
  const unsplit = await answer([await start({ path, share: WHOLE })], TOKENS);
  const cuts = await Promise.all([folder.cut(0, 2), folder.cut(2, 4)]);
  // The key by another name: the engine counts the pattern from the stage's own first layer.
  const stage = await readFile(cuts[1].path);
  stage.write("xliding", stage.indexOf("sliding_window_pattern"));
  const wrong = folder.at("wrong.gguf");
  await writeFile(wrong, stage);
  const stages = [await start(cuts[0]), await start({ path: wrong, share: cuts[1].share })];
  expect(maxDifference(await answer(stages, TOKENS), unsplit)).toBeGreaterThan(0.01);
});

test("a stage file that was cut short is not served", async () => {
  const { folder } = await made("llama", "F32");
  const { path, share } = await folder.cut(2, 2);
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, bytes.length - 100_000));
  await expect(loadStage(host, { path, share }, { contextTokens: 256 })).rejects.toMatchObject({
    code: "engine-load-failed",
  });
});
