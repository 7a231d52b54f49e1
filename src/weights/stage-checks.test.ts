/** Headers that lie about layers, and models that cannot be cut: each is refused by name, before a byte is copied. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { architectureModel, type ModelOptions, specNamed } from "../../test/support/architecture-model.ts";
import { LAYERS, type SpecTensor } from "../../test/support/architecture-tensors.ts";
import { type SampleValue, string, uint32, uint32s } from "../../test/support/gguf-bytes.ts";
import type { LayerShare } from "../domain/weights.ts";
import { ARCHITECTURES } from "./architectures.ts";
import { byteSourceOf } from "./byte-source.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { GGUF_REFUSAL_CODES } from "./gguf-refusal.ts";
import { canBeCut, STAGE_ARCHITECTURES } from "./stage-architectures.ts";
import { copiedRanges } from "./stage-plan.ts";
import { readStagePlan, stageRefusalOf } from "./stage-slice.ts";

const SHARE: LayerShare = { first: 2, count: 3, hasEmbedding: false, hasOutput: false };

async function refusalOf(name: string, options: ModelOptions, share = SHARE): Promise<string> {
  const model = await architectureModel(specNamed(name), { ...options, isEmpty: true });
  const plan = await readStagePlan([byteSourceOf(model)], share);
  return plan.ok ? "planned" : `${plan.reason.code}: ${plan.reason.message}`;
}

const renamed = (from: string, to: string) => (all: SpecTensor[]) =>
  all.map((tensor) => (tensor.name === from ? { ...tensor, name: to } : tensor));
const reshaped =
  (name: string, ...dimensions: number[]) =>
  (all: SpecTensor[]) =>
    all.map((tensor) => (tensor.name === name ? { name, dimensions } : tensor));
const without = (pattern: RegExp) => (all: SpecTensor[]) => all.filter(({ name }) => !pattern.test(name));
const withOne =
  (name: string, ...dimensions: number[]) =>
  (all: SpecTensor[]) => [...all, { name, dimensions }];

describe("a header that lies about layers is refused", () => {
  test.each<[string, ModelOptions, RegExp]>([
    ["more layers than there are", { changes: { block_count: uint32(7) } }, /block_count is 7.*blk\.6/],
    ["fewer layers than there are", { changes: { block_count: uint32(5) } }, /block_count is 5.*blk\.5\.attn_norm/],
    ["no layers", { changes: { block_count: uint32(0) } }, /block_count/],
    ["4 billion layers", { changes: { block_count: uint32(4_000_000_000) } }, /block_count/],
    ["a layer that is missing", { tensors: without(/^blk\.3\./) }, /no tensor blk\.3/],
    ["a tensor that is missing", { tensors: without(/^blk\.3\.ffn_up/) }, /blk\.0\.ffn_up\.weight, but no blk\.3/],
    ["a tensor too many", { tensors: withOne("blk.3.ffn_bonus.weight", 256) }, /blk\.3\.ffn_bonus.*no blk\.0/],
    ["a layer by another name", { tensors: renamed("blk.3.ffn_up.weight", "blk.03.ffn_up.weight") }, /blk\.03/],
    ["a layer of minus one", { tensors: renamed("blk.3.ffn_up.weight", "blk.-1.ffn_up.weight") }, /blk\.-1/],
    ["a layer far away", { tensors: withOne("blk.99999999.x", 256) }, /block_count is 6.*99999999/],
    ["a layer beyond numbers", { tensors: withOne("blk.99999999999999999999.x", 256) }, /of no layer/],
    ["tensors without a layer", { tensors: withOne("blk.attn_q.weight", 256, 256) }, /of no layer/],
    ["a layer of another shape", { tensors: reshaped("blk.4.ffn_up.weight", 256, 768) }, /256 × 768.*256 × 512/],
    ["queries of another width", { tensors: reshaped("blk.4.attn_q.weight", 256, 128) }, /blk\.4\.attn_q.*256 × 128/],
    ["a norm of another width", { tensors: reshaped("output_norm.weight", 512) }, /output_norm\.weight is 512/],
    ["a head of another vocabulary", { tensors: reshaped("output.weight", 256, 2047) }, /output\.weight.*2047/],
    ["an embedding of another width", { changes: { embedding_length: uint32(512) } }, /rows of 256|256/],
    ["other heads than its tensors", { changes: { "attention.head_count": uint32(8) } }, /attn_/],
    ["heads of five layers", { changes: { "attention.head_count": uint32s([4, 4, 4, 4, 4]) } }, /6 integers/],
    ["no embedding", { tensors: without(/^token_embd/) }, /token_embd/],
  ])("with %s", async (_, options, message) => {
    const refusal = await refusalOf("llama", options);
    expect(refusal).toMatch(/^(bad-tensor|bad-metadata|bad-vocabulary): /);
    expect(refusal).toMatch(message);
  });

  test("with a tensor that stands twice", async () => {
    const tensors = withOne("blk.3.attn_norm.weight", 256);
    expect(await refusalOf("llama", { tensors })).toMatch(/^duplicate: .*blk\.3\.attn_norm/);
  });

  test("with dense layers that are none", async () => {
    const changes = { leading_dense_block_count: uint32(4) };
    expect(await refusalOf("deepseek", { changes })).toMatch(/^bad-tensor: .*blk\./);
  });
});

describe("a model that cannot be cut is refused by name", () => {
  const refused: [string, string, Record<string, SampleValue>, RegExp][] = [
    ["layers that predict further", "llama", { nextn_predict_layers: uint32(1) }, /nextn_predict_layers is 1/],
    ["experts in every second layer", "ernie4_5-moe", { interleave_moe_layer_step: uint32(2) }, /one of 2 layers/],
  ];
  test.each(refused)("for %s", async (_, name, changes, message) => {
    const refusal = await refusalOf(name, { changes });
    expect(refusal).toMatch(/^stage-refused: /);
    expect(refusal).toMatch(message);
  });

  test.each([
    ["gemma2", 46],
    ["gemma3", 62],
    ["exaone4", 64],
    ["command-r", 64],
  ] as const)("%s of %i layers, which the engine takes for another model", async (name, layers) => {
    const tensors = (all: SpecTensor[]): SpecTensor[] => [
      ...all,
      ...Array.from({ length: layers - LAYERS }, (_, at) =>
        all
          .filter((tensor) => tensor.name.startsWith("blk.0."))
          .map((tensor) => ({ ...tensor, name: tensor.name.replace("blk.0.", `blk.${LAYERS + at}.`) })),
      ).flat(),
    ];
    const refusal = await refusalOf(name, { changes: { block_count: uint32(layers) }, tensors });
    expect(refusal).toMatch(new RegExp(`^stage-refused: a ${name} of ${layers} layers`));
  });

  test("deepseek2 in a stage of 26 layers, which the engine takes for a small model", async () => {
    const tensors = (all: SpecTensor[]): SpecTensor[] => [
      ...all,
      ...Array.from({ length: 34 }, (_, at) =>
        all
          .filter((tensor) => tensor.name.startsWith("blk.5."))
          .map((tensor) => ({ ...tensor, name: tensor.name.replace("blk.5.", `blk.${LAYERS + at}.`) })),
      ).flat(),
    ];
    const options = { changes: { block_count: uint32(40) }, tensors };
    const of = (count: number): LayerShare => ({ first: 3, count, hasEmbedding: false, hasOutput: false });
    expect(await refusalOf("deepseek2", options, of(26))).toMatch(
      /^stage-refused: a stage of 26 layers of a deepseek2/,
    );
    expect(await refusalOf("deepseek2", options, of(25))).toBe("planned");
  });

  test("is known before its file is read, by architecture and number of layers", () => {
    expect(canBeCut({ architecture: "llama", layerCount: 126 })).toBe(true);
    expect(canBeCut({ architecture: "gemma2", layerCount: 42 })).toBe(true);
    expect(canBeCut({ architecture: "gemma2", layerCount: 46 })).toBe(false);
    expect(canBeCut({ architecture: "deepseek2", layerCount: 27 })).toBe(false);
    expect(canBeCut({ architecture: "baichuan", layerCount: 4 })).toBe(false);
  });

  test.each([...ARCHITECTURES].filter((name) => !STAGE_ARCHITECTURES.has(name)))("%s", async (name) => {
    const refusal = await refusalOf("llama", { changes: { "/general.architecture": string(name) } });
    expect(refusal).toMatch(new RegExp(`^stage-refused: models of ${name} cannot be cut`));
  });

  test("when a tensor stands outside of its layers that no stage knows", async () => {
    const refusal = await refusalOf("llama", { tensors: withOne("altup_proj.weight", 256, 256) });
    expect(refusal).toMatch(/^stage-refused: .*altup_proj/);
  });

  test("when it is taken in already", async () => {
    const model = await architectureModel(specNamed("llama"), {
      changes: { nextn_predict_layers: uint32(2) },
      isEmpty: true,
    });
    const header = await readGgufHeader(byteSourceOf(model));
    if (!header.ok) throw new Error(header.reason.message);
    expect(stageRefusalOf([header.value])).toMatchObject({ code: "stage-refused" });
  });
});

test("any header is planned or refused, and a plan reads nothing behind the file's end", async () => {
  const models = await Promise.all(
    ["llama", "gemma2", "openelm", "deepseek2"].map((name) => architectureModel(specNamed(name), { isEmpty: true })),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...models),
      fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 1, max: 255 })), {
        maxLength: 6,
      }),
      async (model, flips) => {
        const read = await readGgufHeader(byteSourceOf(model));
        if (!read.ok) throw new Error(read.reason.message);
        // Metadata of the model and names of tensors lie at the ends of the header, the vocabulary between them.
        const end = read.value.dataOffset;
        const broken = model.slice(0, end);
        for (const [place, mask] of flips) {
          const at = Math.floor(place < 0.5 ? place * 2 * 1_200 : end - (1 - place) * 2 * 6_000);
          broken[at] = (broken[at] ?? 0) ^ mask;
        }
        const source = {
          sizeBytes: model.length,
          read: (offset: number, length: number) => Promise.resolve(broken.subarray(offset, offset + length)),
        };
        const plan = await readStagePlan([source], SHARE);
        if (!plan.ok) expect(GGUF_REFUSAL_CODES).toContain(plan.reason.code);
        else
          for (const { offset, bytes } of copiedRanges(plan.value))
            expect(offset + bytes).toBeLessThanOrEqual(model.length);
      },
    ),
    { numRuns: 300 },
  );
});

describe("a share that is none is refused", () => {
  test.each<[string, LayerShare]>([
    ["beyond the layers", { first: 4, count: 3, hasEmbedding: false, hasOutput: true }],
    ["of no layers", { first: 2, count: 0, hasEmbedding: false, hasOutput: false }],
    ["of half a layer", { first: 1.5, count: 1, hasEmbedding: false, hasOutput: false }],
    ["before the first layer", { first: -1, count: 2, hasEmbedding: true, hasOutput: false }],
    ["with an end that it does not reach", { first: 2, count: 2, hasEmbedding: false, hasOutput: true }],
    ["without the embedding of its first layer", { first: 0, count: 2, hasEmbedding: false, hasOutput: false }],
  ])("%s", async (_, share) => {
    expect(await refusalOf("llama", {}, share)).toMatch(/^stage-refused: layers /);
  });
});
