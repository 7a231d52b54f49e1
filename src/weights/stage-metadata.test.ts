/** What the engine derives from layers' numbers is told to a stage: each row here is a key that it reads. */
import { describe, expect, test } from "vitest";
import { architectureModel, type Changes, specNamed } from "../../test/support/architecture-model.ts";
import { LAYERS } from "../../test/support/architecture-tensors.ts";
import { float32, string, uint32, uint32s } from "../../test/support/gguf-bytes.ts";
import type { LayerShare } from "../domain/weights.ts";
import { byteSourceOf } from "./byte-source.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { numbersOf } from "./gguf-values.ts";
import { STAGE_INPUT_KEY } from "./stage-plan.ts";
import { readStagePlan } from "./stage-slice.ts";

const FIRST = { first: 0, count: 2, hasEmbedding: true, hasOutput: false };
const MIDDLE = { first: 1, count: 4, hasEmbedding: false, hasOutput: false };
const LAST = { first: 3, count: 3, hasEmbedding: false, hasOutput: true };

/** The header alone: what stands behind it is not written. */
async function stage(name: string, share: LayerShare, changes: Changes = {}): Promise<GgufHeader> {
  const model = await architectureModel(specNamed(name), { changes, isEmpty: true });
  const plan = await readStagePlan([byteSourceOf(model)], share);
  if (!plan.ok) throw new Error(`${plan.reason.code}: ${plan.reason.message}`);
  const [header] = plan.value.pieces;
  if (header?.kind !== "bytes") throw new Error("a plan begins with the header");
  const file = new Uint8Array(plan.value.fileBytes);
  file.set(header.bytes);
  const read = await readGgufHeader(byteSourceOf(file));
  if (!read.ok) throw new Error(read.reason.message);
  return read.value;
}

function told(header: GgufHeader, key: string): unknown {
  const value = header.entries.get(key)?.value;
  if (value?.type !== "array") return value?.value;
  return value.elementType === "bool" ? [...value.bytes].map(Boolean) : numbersOf(value);
}

describe("arrays with one element for each layer", () => {
  test("are cut to the stage's layers", async () => {
    const header = await stage("openelm", MIDDLE);
    expect(told(header, "openelm.attention.head_count")).toEqual([4, 2, 4, 2]);
    expect(told(header, "openelm.attention.head_count_kv")).toEqual([2, 1, 2, 1]);
    expect(told(header, "openelm.feed_forward_length")).toEqual([512, 256, 512, 512]);
  });

  test("outside of the architecture's own keys are cut too", async () => {
    const cut = told(await stage("apertus", LAST), "xielu.beta");
    expect(cut).toEqual([3, 4, 5].map((layer) => 0.5 + layer / 16));
  });

  test("of heads that differ leave the head's length what it was in the whole", async () => {
    const changes = { "attention.key_length": null, "attention.value_length": null };
    const header = await stage("openelm", { ...MIDDLE, first: 2, count: 3 }, changes);
    expect(told(header, "openelm.attention.head_count")).toEqual([2, 4, 2]);
    expect(told(header, "openelm.attention.key_length")).toBe(64);
  });
});

describe("sliding windows", () => {
  test.each([
    ["gemma2", MIDDLE, [false, true, false, true]],
    ["gpt-oss", LAST, [false, true, false]],
    ["cohere2", MIDDLE, [true, true, false, true]],
    ["gemma3", LAST, [true, true, false]],
    ["olmo2/windows", LAST, [false, true, true]],
  ] as const)("of %s are written out from the layer on at which the stage begins", async (name, share, pattern) => {
    const key = `${specNamed(name).name}.attention.sliding_window_pattern`;
    expect(told(await stage(name, share), key)).toEqual(pattern);
  });

  test("of a period of its own are counted by it", async () => {
    const changes = { "attention.sliding_window_pattern": uint32(3) };
    const header = await stage("gemma3", LAST, changes);
    expect(told(header, "gemma3.attention.sliding_window_pattern")).toEqual([true, true, false]);
  });

  test("told layer by layer are cut", async () => {
    const changes = { "attention.sliding_window_pattern": uint32s([1, 0, 0, 1, 1, 0]) };
    const header = await stage("gemma3", MIDDLE, changes);
    expect(told(header, "gemma3.attention.sliding_window_pattern")).toEqual([0, 0, 1, 1]);
  });
});

test("leading dense layers are counted from the stage's first", async () => {
  const key = "deepseek.leading_dense_block_count";
  for (const [share, dense] of [
    [{ ...FIRST, count: 1 }, 1],
    [FIRST, 2],
    [MIDDLE, 1],
    [LAST, 0],
  ] as const) {
    expect(told(await stage("deepseek", share), key)).toBe(dense);
  }
});

describe("scales", () => {
  test("of embeddings are the first stage's alone", async () => {
    expect(told(await stage("granite", FIRST), "granite.embedding_scale")).toBe(12);
    expect(told(await stage("granite", LAST), "granite.embedding_scale")).toBe(0);
    expect(told(await stage("grok", FIRST), "grok.embedding_scale")).toBe(undefined);
    expect(told(await stage("grok", MIDDLE), "grok.embedding_scale")).toBe(0);
  });

  test("of the number of layers are those of the whole model", async () => {
    const whole = Math.fround(1.4) / Math.fround(Math.sqrt(LAYERS));
    for (const share of [FIRST, MIDDLE, LAST]) {
      expect(told(await stage("minicpm", share), "minicpm.residual_scale")).toBe(Math.fround(whole));
    }
    const own = await stage("minicpm", LAST, { residual_scale: float32(0.5) });
    expect(told(own, "minicpm.residual_scale")).toBe(0.5);
  });

  test("that the engine applies by itself are passed by", async () => {
    expect(told(await stage("gemma", LAST), STAGE_INPUT_KEY)).toBe("inp_scaled");
    expect(told(await stage("bloom", MIDDLE), STAGE_INPUT_KEY)).toBe("inp_norm-0");
    expect(told(await stage("gemma", FIRST), STAGE_INPUT_KEY)).toBe(undefined);
    expect(told(await stage("gemma3", LAST), STAGE_INPUT_KEY)).toBe(undefined);
  });
});

test("an array that nobody knows is refused, because it may tell of layers", async () => {
  const model = await architectureModel(specNamed("llama"), {
    changes: { "attention.odd_layers": uint32s([1, 2, 3]) },
    isEmpty: true,
  });
  const plan = await readStagePlan([byteSourceOf(model)], LAST);
  expect(plan).toMatchObject({
    ok: false,
    reason: { code: "stage-refused", message: expect.stringMatching(/odd_layers/) },
  });
});

test("what a split file tells of itself is left out, what others wrote is kept", async () => {
  const changes = { "/split.count": uint32(1), "/split.no": uint32(0), "/general.author": string("someone") };
  const keys = [...(await stage("llama", FIRST, changes)).entries.keys()];
  expect(keys.filter((key) => key.startsWith("split."))).toEqual([]);
  expect(keys).toContain("general.author");
});
