/**
 * What small models of each architecture look like: tensors of a layer, and metadata beside the common. Read from libllama 0.5.0's loaders
 * (src/models/). Widths are multiples of 256, so that K-quants are real; layers are six, so that windows and leading dense layers show.
 */

import {
  type ArchitectureSpec,
  bool,
  COMPRESSED,
  COMPRESSED_KEYS,
  denseFirst,
  EXPERT_SCALE,
  EXPERT_SIZE,
  headed,
  LATENT_KEYS,
  LAYER_FORWARD,
  LAYER_HEADS,
  LAYER_NORM,
  LEADING_KEYS,
  latent,
  llamaLike,
  MIXTURE,
  OUTPUT_NORM_BIAS,
  oneForEach,
  openelm,
  POSITIONS,
  post,
  RMS,
  SHARED,
  spec,
  WINDOW,
} from "./architecture-spec.ts";
import {
  attention,
  bias,
  EXPERT_FORWARD,
  EXPERTS,
  experts,
  FORWARD,
  fused,
  gated,
  HEAD,
  HEADS,
  headNorms,
  KV_HEADS,
  KV_RANK,
  matrix,
  norm,
  normBias,
  plain,
  plainBias,
  qkvBias,
  ROPE,
  shared,
  standard,
  standardBias,
  WIDTH,
} from "./architecture-tensors.ts";
import { float32, string, uint32, uint32s } from "./gguf-bytes.ts";

export const ARCHITECTURE_SPECS: readonly ArchitectureSpec[] = [
  spec("apertus", () => [...standard(), ...headNorms(), ...plain()], {
    metadata: {
      ...RMS,
      "/xielu.alpha_n": oneForEach(0.5),
      "/xielu.alpha_p": oneForEach(0.75),
      "/xielu.beta": oneForEach(0.5),
      "/xielu.eps": oneForEach(-1e-6),
    },
  }),
  spec("arcee", () => [...standard(), ...plain()]),
  spec("bailingmoe", () => [...standard(), ...experts(), ...shared()], {
    metadata: { ...RMS, ...MIXTURE, ...EXPERT_SIZE, ...SHARED, ...EXPERT_SCALE },
  }),
  spec(
    "bailingmoe2",
    denseFirst(() => [...norm("attn_norm"), ...fused(), ...headNorms(), ...norm("ffn_norm")]),
    { metadata: { ...LEADING_KEYS, expert_gating_func: uint32(2) } },
  ),
  spec("bitnet", () => [...standard(), ...norm("attn_sub_norm"), ...norm("ffn_sub_norm", FORWARD), ...gated()], {
    tied: true,
  }),
  spec("bloom", () => [...standardBias(), ...plainBias()], {
    metadata: LAYER_NORM,
    ends: [matrix("token_embd_norm", WIDTH), bias("token_embd_norm", WIDTH), OUTPUT_NORM_BIAS],
  }),
  spec(
    "chatglm",
    () => [...standard(), ...qkvBias(), matrix("ffn_up", WIDTH, 2 * FORWARD), matrix("ffn_down", FORWARD, WIDTH)],
    {
      metadata: { ...RMS, "rope.dimension_count": uint32(ROPE) },
    },
  ),
  spec(
    "codeshell",
    () => [
      ...normBias("attn_norm"),
      ...attention(),
      ...qkvBias(),
      bias("attn_output", WIDTH),
      ...normBias("ffn_norm"),
      ...plainBias(),
    ],
    { metadata: LAYER_NORM, ends: [OUTPUT_NORM_BIAS] },
  ),
  spec("cohere2", () => [...norm("attn_norm"), ...attention(), ...gated()], {
    tied: true,
    metadata: { ...LAYER_NORM, ...WINDOW, logit_scale: float32(0.25) },
  }),
  spec("command-r", () => [...norm("attn_norm"), ...attention(), ...gated()], {
    tied: true,
    metadata: { ...LAYER_NORM, logit_scale: float32(0.0625) },
  }),
  spec("dbrx", () => [...norm("attn_norm"), ...fused(), ...norm("attn_output_norm"), ...experts(FORWARD)], {
    metadata: { ...LAYER_NORM, ...MIXTURE, "attention.clamp_kqv": float32(8) },
  }),
  spec("deepseek", denseFirst(standard), { metadata: LEADING_KEYS }),
  spec("deepseek2", latent(COMPRESSED), {
    metadata: {
      ...LATENT_KEYS,
      "attention.head_count_kv": uint32(1),
      "attention.key_length": uint32(KV_RANK + ROPE),
      "attention.value_length": uint32(KV_RANK),
      "attention.key_length_mla": uint32(HEAD),
      "attention.value_length_mla": uint32(HEAD),
    },
  }),
  spec("deepseek2", latent([matrix("attn_kv_b", KV_RANK, HEADS * (2 * HEAD - ROPE))]), {
    variant: "legacy",
    metadata: { ...LATENT_KEYS, "attention.head_count_kv": uint32(HEADS) },
  }),
  spec(
    "dots1",
    denseFirst(
      () => [...norm("attn_norm"), ...attention(HEADS), ...headNorms(), ...norm("ffn_norm")],
      [bias("exp_probs_b", EXPERTS)],
    ),
    { metadata: { ...LEADING_KEYS, expert_gating_func: uint32(2), "attention.head_count_kv": uint32(HEADS) } },
  ),
  spec("ernie4_5", llamaLike),
  spec("ernie4_5-moe", denseFirst(standard), { metadata: { ...LEADING_KEYS, interleave_moe_layer_step: uint32(1) } }),
  spec("exaone", llamaLike),
  spec("exaone4", () => [...attention(), ...post(), ...headNorms(), ...gated()]),
  spec("falcon", () => [...normBias("attn_norm"), ...fused(), ...plain()], {
    metadata: LAYER_NORM,
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec("gemma", llamaLike, { tied: true }),
  spec("gemma2", () => [...llamaLike(), ...post()], {
    tied: true,
    metadata: { ...RMS, ...WINDOW, attn_logit_softcapping: float32(50), final_logit_softcapping: float32(30) },
  }),
  spec("gemma3", () => [...headed(), ...gated(), ...post()], { tied: true, metadata: { ...RMS, ...WINDOW } }),
  spec(
    "gpt-oss",
    () => [
      ...norm("attn_norm"),
      ...norm("post_attention_norm"),
      ...attention(),
      ...qkvBias(),
      bias("attn_output", WIDTH),
      matrix("attn_sinks", HEADS),
      ...experts(),
      bias("ffn_gate_inp", EXPERTS),
      bias("ffn_gate_exps", EXPERT_FORWARD, EXPERTS),
      bias("ffn_down_exps", WIDTH, EXPERTS),
      bias("ffn_up_exps", EXPERT_FORWARD, EXPERTS),
    ],
    { metadata: { ...RMS, ...MIXTURE, ...EXPERT_SIZE, ...WINDOW } },
  ),
  spec("gpt2", () => [...standardBias(), ...plainBias()], {
    metadata: LAYER_NORM,
    ends: [POSITIONS, OUTPUT_NORM_BIAS],
  }),
  spec("gptneox", () => [...standardBias(), ...plainBias()], {
    metadata: { ...LAYER_NORM, use_parallel_residual: bool(true) },
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec("gptneox", () => [...standardBias(), ...plainBias()], {
    variant: "sequential",
    metadata: { ...LAYER_NORM, use_parallel_residual: bool(false) },
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec("granite", llamaLike, {
    tied: true,
    metadata: {
      ...RMS,
      logit_scale: float32(8),
      residual_scale: float32(0.22),
      embedding_scale: float32(12),
      "attention.scale": float32(0.0078125),
    },
  }),
  spec("granitemoe", () => [...standard(), ...experts(FORWARD)], {
    metadata: {
      ...RMS,
      ...MIXTURE,
      logit_scale: float32(6),
      residual_scale: float32(0.22),
      embedding_scale: float32(12),
    },
  }),
  spec("grok", () => [...standard(), ...norm("attn_output_norm"), ...norm("layer_output_norm"), ...experts(FORWARD)], {
    metadata: { ...RMS, ...MIXTURE },
  }),
  spec("hunyuan-dense", () => [...headed(), ...gated()]),
  spec("hunyuan-moe", () => [...headed(), ...experts(FORWARD), ...shared()], {
    metadata: { ...RMS, ...MIXTURE, ...SHARED, expert_feed_forward_length: uint32(FORWARD) },
  }),
  spec("internlm2", llamaLike),
  spec("llama", llamaLike),
  spec("llama", llamaLike, { variant: "tied", tied: true, ends: [matrix("rope_freqs", HEAD / 2)] }),
  spec("llama", () => [...standard(), ...experts(FORWARD)], { variant: "experts", metadata: { ...RMS, ...MIXTURE } }),
  spec("maincoder", () => [...headed(), ...gated()]),
  spec("minicpm", llamaLike, { tied: true }),
  spec(
    "minimax-m2",
    () => [
      ...standard(),
      ...headNorms(HEADS * HEAD, KV_HEADS * HEAD),
      ...experts(FORWARD),
      bias("exp_probs_b", EXPERTS),
    ],
    { metadata: { ...RMS, ...MIXTURE, expert_feed_forward_length: uint32(FORWARD), expert_gating_func: uint32(2) } },
  ),
  spec("mistral3", llamaLike, {
    metadata: {
      ...RMS,
      "rope.scaling.type": string("yarn"),
      "rope.scaling.factor": float32(4),
      "rope.scaling.original_context_length": uint32(128),
      "rope.scaling.yarn_log_multiplier": float32(1),
      "attention.temperature_scale": float32(0.1),
    },
  }),
  spec("mistral4", latent(COMPRESSED), {
    metadata: {
      ...LATENT_KEYS,
      ...COMPRESSED_KEYS,
      "rope.scaling.type": string("yarn"),
      "rope.scaling.factor": float32(4),
      "rope.scaling.original_context_length": uint32(128),
      "rope.scaling.yarn_log_multiplier": float32(1),
    },
  }),
  spec("mpt", () => [...norm("attn_norm"), ...fused(), ...norm("ffn_norm"), ...plain()], {
    tied: true,
    metadata: { ...LAYER_NORM, "attention.max_alibi_bias": float32(8) },
  }),
  spec("nemotron", () => [...normBias("attn_norm"), ...attention(), ...normBias("ffn_norm"), ...plain()], {
    metadata: LAYER_NORM,
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec("olmo", () => [...attention(), ...gated()], { metadata: LAYER_NORM, hasOutputNorm: false }),
  spec("olmo2", () => [...attention(), ...headNorms(WIDTH, KV_HEADS * HEAD), ...post(), ...gated()]),
  spec("olmo2", () => [...attention(), ...headNorms(WIDTH, KV_HEADS * HEAD), ...post(), ...gated()], {
    variant: "windows",
    metadata: { ...RMS, ...WINDOW },
  }),
  spec(
    "olmoe",
    () => [...norm("attn_norm"), ...attention(HEADS), ...headNorms(WIDTH), ...norm("ffn_norm"), ...experts(FORWARD)],
    {
      metadata: { ...RMS, ...MIXTURE, "attention.head_count_kv": uint32(HEADS) },
    },
  ),
  spec("openelm", openelm, {
    tied: true,
    metadata: {
      ...RMS,
      "attention.head_count": uint32s(LAYER_HEADS),
      "attention.head_count_kv": uint32s(LAYER_HEADS.map((heads) => heads / 2)),
      feed_forward_length: uint32s(LAYER_FORWARD),
      "attention.key_length": uint32(HEAD),
      "attention.value_length": uint32(HEAD),
    },
  }),
  spec("orion", () => [...normBias("attn_norm"), ...attention(), ...normBias("ffn_norm"), ...gated()], {
    metadata: LAYER_NORM,
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec(
    "phi2",
    () => [...normBias("attn_norm"), ...attention(), ...qkvBias(), bias("attn_output", WIDTH), ...plainBias()],
    {
      metadata: { ...LAYER_NORM, "rope.dimension_count": uint32(ROPE) },
      ends: [OUTPUT_NORM_BIAS, bias("output", -1)],
    },
  ),
  spec(
    "phi3",
    () => [
      ...norm("attn_norm"),
      ...fused(),
      ...norm("ffn_norm"),
      matrix("ffn_up", WIDTH, 2 * FORWARD),
      matrix("ffn_down", FORWARD, WIDTH),
    ],
    {
      metadata: { ...RMS, ...WINDOW, "rope.scaling.attn_factor": float32(1.19) },
      ends: [matrix("rope_factors_long", HEAD / 2), matrix("rope_factors_short", HEAD / 2)],
    },
  ),
  spec(
    "phimoe",
    () => [
      ...normBias("attn_norm"),
      ...attention(),
      ...qkvBias(),
      bias("attn_output", WIDTH),
      ...normBias("ffn_norm"),
      ...experts(FORWARD),
    ],
    {
      metadata: { ...RMS, ...MIXTURE },
      ends: [
        OUTPUT_NORM_BIAS,
        bias("output", -1),
        matrix("rope_factors_long", HEAD / 2),
        matrix("rope_factors_short", HEAD / 2),
      ],
    },
  ),
  spec(
    "qwen",
    () => [
      ...norm("attn_norm"),
      matrix("attn_qkv", WIDTH, 3 * WIDTH),
      bias("attn_qkv", 3 * WIDTH),
      matrix("attn_output", WIDTH, WIDTH),
      ...norm("ffn_norm"),
      ...gated(),
    ],
    { metadata: { ...RMS, feed_forward_length: uint32(2 * FORWARD), "attention.head_count_kv": uint32(HEADS) } },
  ),
  spec("qwen2", () => [...llamaLike(), ...qkvBias()], { tied: true }),
  spec("qwen2", () => [...llamaLike(), ...qkvBias()], { variant: "headed" }),
  spec(
    "qwen2moe",
    () => [...standard(), ...qkvBias(), ...experts(), ...shared(), matrix("ffn_gate_inp_shexp", WIDTH)],
    {
      metadata: { ...RMS, ...MIXTURE, ...EXPERT_SIZE, expert_shared_feed_forward_length: uint32(EXPERT_FORWARD) },
    },
  ),
  spec("qwen3", () => [...headed(), ...gated()], { tied: true }),
  spec("qwen3moe", () => [...headed(), ...experts()], { metadata: { ...RMS, ...MIXTURE, ...EXPERT_SIZE } }),
  spec("seed_oss", () => [
    ...norm("attn_norm"),
    ...attention(),
    ...qkvBias(),
    ...norm("post_attention_norm"),
    ...gated(),
  ]),
  spec("stablelm", () => [...normBias("attn_norm"), ...attention(), ...normBias("ffn_norm"), ...gated()], {
    metadata: { ...LAYER_NORM, "rope.dimension_count": uint32(ROPE), use_parallel_residual: bool(false) },
    ends: [OUTPUT_NORM_BIAS],
  }),
  spec("starcoder", () => [...standardBias(), ...plainBias()], {
    metadata: LAYER_NORM,
    ends: [POSITIONS, OUTPUT_NORM_BIAS],
  }),
  spec(
    "starcoder2",
    () => [
      ...normBias("attn_norm"),
      ...attention(),
      ...qkvBias(),
      bias("attn_output", WIDTH),
      ...normBias("ffn_norm"),
      ...plainBias(),
    ],
    { tied: true, metadata: LAYER_NORM, ends: [OUTPUT_NORM_BIAS] },
  ),
  spec("xverse", llamaLike),
];
