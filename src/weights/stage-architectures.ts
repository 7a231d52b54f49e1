/**
 * Architectures that can be cut into stages, and how. Layers are numbered from 0 again in a stage, and the engine (libllama 0.5.0, src/models/) knows
 * nothing of those before: whatever it derives from a layer's number, or from how many there are, is told to it in metadata or the model is refused.
 * Every entry here has passed the golden test (test/stages.test.ts, bench/golden-stages.bench.ts): chains of 2 and 3 give the unsplit model's
 * logits bit by bit.
 *
 * What the engine derives from numbers of layers, and what is done about it:
 *
 * | what                                          | where                                   | here                                        |
 * | --------------------------------------------- | --------------------------------------- | ------------------------------------------- |
 * | sliding windows every n layers                | cohere2, gemma2/3, gpt-oss, olmo2       | the pattern is written out, layer by layer  |
 * | leading dense layers of a mixture             | deepseek, dots1, bailingmoe2, ernie4_5  | their number is counted from the stage      |
 * | embeddings scaled at the input                | granite, minicpm, grok                  | no scale but in the first stage             |
 * | the same without a key for it, or normed      | gemma, gemma2, bloom                    | states go in behind it: `inputTensor`       |
 * | residual scale of the number of layers        | minicpm                                 | the whole model's is written                |
 * | attention by the number of layers             | gemma2 27B, gemma3 27B, command-r+, exaone4 32B | refused                             |
 * | the same in all sizes                         | baichuan, llama4, minicpm3, smollm3, smallthinker | refused                           |
 * | how a layer is read, by the number of layers  | deepseek2, mistral4                     | 26, 27, 47 and 48 of them are refused       |
 * | no layer with a window among those loaded     | cohere2, gemma2/3, gpt-oss, olmo2       | such a stage is refused, one layer unplanned |
 * | embeddings of each layer, shared keys, values | gemma4                                  | refused                                     |
 * | no hidden states taken in at all              | glm4, glm4moe                           | refused                                     |
 */
import type { LayerShare } from "../domain/weights.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import type { Metadata } from "./metadata.ts";
import type { StageValue } from "./stage-metadata.ts";

export interface StageRules {
  /**
   * What the loader makes of `output.weight`: demands it, takes the embedding in its place when there is none, or knows none at all and takes the
   * embedding always.
   */
  readonly head: "own" | "own-or-tied" | "tied";
  /** Tensor of the compute graph with the hidden states after the last of so many layers. */
  readonly outputTensor: (layers: number) => string;
  /**
   * Tensor that has to be overwritten with the hidden states when it was computed, because the engine changes what it is given before its first
   * layer; null when what is given to it goes there as it is.
   */
  readonly inputTensor: string | null;
  /** Keys of the architecture, without its name, that a stage of these layers has in place of the model's. */
  readonly metadata: (model: Metadata, stage: StageOf) => readonly (readonly [key: string, value: StageValue])[];
  /** Layers before this number may have other tensors than those after it. */
  readonly leadingDense: (model: Metadata) => number;
  /** Models of as many layers are cut; above, the engine takes a stage of just so many for a whole of another kind. */
  readonly layersMax: number;
  /** Whether heads and their lengths tell the widths of queries, keys and values. */
  readonly hasPlainHeads: boolean;
  /** Why this model of the architecture cannot be cut, or null. */
  readonly refusal: (model: Metadata) => string | null;
  /** Numbers of layers that neither the model nor a stage of it may have. */
  readonly countsRefused: readonly number[];
  /** Numbers of layers with which some stages of it are refused, by where they stand: none is planned. */
  readonly countsUnplanned: readonly number[];
}

export type StageOf = LayerShare & { readonly of: number };

/** llama.cpp's LLAMA_MAX_LAYERS. */
const LAYERS = { least: 0, most: 512 };
/** `LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX`. */
const SOFTMAX = 1;
const SPLITTABLE: ReadonlyMap<string, StageRules> = new Map([
  ...["apertus", "bailingmoe", "codeshell", "dbrx", "gptneox", "internlm2", "minimax-m2", "nemotron", "olmoe"].map(own),
  ...["orion", "phi2", "phimoe", "qwen", "qwen2moe", "stablelm", "xverse"].map(own),
  ...["arcee", "chatglm", "ernie4_5", "exaone", "falcon", "gpt2", "hunyuan-dense", "hunyuan-moe"].map(tied),
  ...["llama", "maincoder", "mistral3", "mpt", "olmo", "phi3", "qwen2", "qwen3", "qwen3moe"].map(tied),
  ...["seed_oss", "starcoder", "starcoder2"].map(tied),
  ...["bitnet", "openelm"].map((name) => entry(name, { head: "tied" })),
  entry("bailingmoe2", { head: "own", ...denseFirst("bailingmoe2") }),
  entry("bloom", { inputTensor: "inp_norm-0" }),
  // From 64 on the engine looks for norms of queries and keys.
  entry("command-r", { head: "tied", layersMax: 63 }),
  entry("cohere2", { head: "tied", ...windowed("cohere2", 4) }),
  entry("deepseek", denseFirst("deepseek")),
  entry("deepseek2", latentHeads("deepseek2")),
  entry("mistral4", latentHeads("mistral4")),
  entry("dots1", { head: "own", ...denseFirst("dots1") }),
  entry("ernie4_5-moe", { ...denseFirst("ernie4_5-moe"), refusal: refuseSteps }),
  // 64 have sliding windows, others none.
  entry("exaone4", { layersMax: 63 }),
  entry("gemma", { head: "tied", inputTensor: "inp_scaled" }),
  entry("gemma2", {
    head: "tied",
    inputTensor: "inp_scaled",
    ...windowed("gemma2", 2),
    // 46 have another scale of attention.
    layersMax: 45,
  }),
  // 62 have another scale of attention.
  entry("gemma3", { ...windowed("gemma3", 6), layersMax: 61 }),
  entry("gpt-oss", { head: "own", ...windowed("gpt-oss", 2) }),
  ...["granite", "granitemoe", "grok"].map((name) => entry(name, { metadata: unscaledInput })),
  entry("minicpm", { metadata: minicpm }),
  entry("olmo2", { head: "own", ...windowed("olmo2", 4) }),
]);

export const STAGE_ARCHITECTURES: ReadonlySet<string> = new Set(SPLITTABLE.keys());

/** What can be told without the file: `stageRefusalOf` looks into its header. */
export function canBeCut(model: { readonly architecture: string; readonly layerCount: number }): boolean {
  const rules = SPLITTABLE.get(model.architecture);
  if (rules === undefined || model.layerCount > rules.layersMax) return false;
  return !rules.countsRefused.includes(model.layerCount);
}

/** Numbers of layers that no stage of such a model is planned with. */
export function stageCountsRefused(architecture: string): readonly number[] {
  const rules = SPLITTABLE.get(architecture);
  return rules === undefined ? [] : [...rules.countsRefused, ...rules.countsUnplanned];
}

/** Throws the refusal when it is not listed. */
export function stageRulesOf(architecture: string): StageRules {
  const rules = SPLITTABLE.get(architecture);
  if (rules !== undefined) return rules;
  const listed = [...SPLITTABLE.keys()].sort().join(", ");
  throw new GgufProblem("stage-refused", `models of ${architecture} cannot be cut into stages; those of ${listed} can`);
}

function entry(name: string, rules: Partial<StageRules>): [string, StageRules] {
  const plain: StageRules = {
    head: "own-or-tied",
    outputTensor: (layers) => `l_out-${layers - 1}`,
    inputTensor: null,
    metadata: () => [],
    leadingDense: () => 0,
    layersMax: LAYERS.most,
    hasPlainHeads: true,
    refusal: () => null,
    countsRefused: [],
    countsUnplanned: [],
  };
  return [name, { ...plain, ...rules }];
}

function own(name: string): [string, StageRules] {
  return entry(name, { head: "own" });
}

function tied(name: string): [string, StageRules] {
  return entry(name, {});
}

function windowed(name: string, periodDefault: number): Pick<StageRules, "metadata" | "countsUnplanned"> {
  const key = "attention.sliding_window_pattern";
  return {
    // Of two neighbours one has a window.
    countsUnplanned: [1],
    metadata: (model, stage) => {
      if (model.isArray(`${name}.${key}`)) return [];
      const period = model.integerOrNull(`${name}.${key}`, LAYERS) ?? periodDefault;
      // As the engine's `set_swa_pattern`: the last layer of each period sees everything.
      const values = Array.from(
        { length: stage.count },
        (_, layer) => period === 0 || (stage.first + layer) % period < period - 1,
      );
      if (!values.includes(true)) {
        const layers = `layers ${stage.first} + ${stage.count} of a ${name}`;
        throw new GgufProblem(
          "stage-refused",
          `${layers} have no window: the engine aborts when none of its layers has`,
        );
      }
      return [[key, { kind: "bools", values }]];
    },
  };
}

function denseFirst(name: string): Pick<StageRules, "metadata" | "leadingDense"> {
  const key = "leading_dense_block_count";
  const leadingDense = (model: Metadata): number => model.integerOrNull(`${name}.${key}`, LAYERS) ?? 0;
  return {
    leadingDense,
    metadata: (model, { first, count }) => [
      [key, { kind: "uint32", value: Math.min(count, Math.max(0, leadingDense(model) - first)) }],
    ],
  };
}

/**
 * The engine takes 26, 27 and some of 47 and 48 layers for small models, which have no compressed queries or another gate: such a whole is refused,
 * and so is such a stage. The gate is the one that it takes for all others, when the file tells none.
 */
function latentHeads(name: string): Partial<StageRules> {
  const { leadingDense, metadata } = denseFirst(name);
  return {
    leadingDense,
    hasPlainHeads: false,
    countsRefused: [26, 27, 47, 48],
    metadata: (model, stage) => {
      const gate = model.integerOrNull(`${name}.expert_gating_func`, { least: 0, most: 0xff }) ?? 0;
      return [
        ...metadata(model, stage),
        ["expert_gating_func", { kind: "uint32", value: gate === 0 ? SOFTMAX : gate }],
      ];
    },
  };
}

/** 0 stands for no scale at all. */
function unscaledInput(_: Metadata, stage: StageOf): ReturnType<StageRules["metadata"]> {
  return stage.hasEmbedding ? [] : [["embedding_scale", { kind: "float32", value: 0 }]];
}

function minicpm(model: Metadata, stage: StageOf): ReturnType<StageRules["metadata"]> {
  const scaled = unscaledInput(model, stage);
  if (model.has("minicpm.residual_scale")) return scaled;
  // 1.4f / sqrtf(layers), each step rounded to a float as there.
  const value = Math.fround(Math.fround(1.4) / Math.fround(Math.sqrt(stage.of)));
  return [...scaled, ["residual_scale", { kind: "float32", value }]];
}

function refuseSteps(model: Metadata): string | null {
  const step = model.integerOrNull("ernie4_5-moe.interleave_moe_layer_step", LAYERS) ?? 1;
  return step === 1 ? null : `with experts in one of ${step} layers: the engine counts them from the first`;
}
