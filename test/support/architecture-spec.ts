/** How a model of an architecture is described, and what several descriptions share: metadata, layers, heads. */
import {
  bias,
  CONTEXT_TOKENS,
  EXPERT_FORWARD,
  EXPERTS,
  experts,
  gated,
  HEAD,
  HEADS,
  headNorms,
  KV_RANK,
  LAYERS,
  matrix,
  norm,
  Q_RANK,
  ROPE,
  type SpecTensor,
  shared,
  standard,
  WIDTH,
} from "./architecture-tensors.ts";
import { float32, float32s, type SampleValue, uint32 } from "./gguf-bytes.ts";

export interface ArchitectureSpec {
  readonly name: string;
  /** Of a second model of the same architecture. */
  readonly variant?: string;
  /** Its own `output.weight`. */
  readonly hasHead: boolean;
  readonly metadata: Readonly<Record<string, SampleValue>>;
  readonly layer: (index: number) => readonly SpecTensor[];
  /** Outside of layers, beside embedding, output norm and head. */
  readonly ends: readonly SpecTensor[];
  readonly hasOutputNorm: boolean;
}

export const RMS = { "attention.layer_norm_rms_epsilon": float32(1e-5) };
export const LAYER_NORM = { "attention.layer_norm_epsilon": float32(1e-5) };
export const MIXTURE = { expert_count: uint32(EXPERTS), expert_used_count: uint32(2) };
export const EXPERT_SIZE = { expert_feed_forward_length: uint32(EXPERT_FORWARD) };
export const SHARED = { expert_shared_count: uint32(1), expert_shared_feed_forward_length: uint32(EXPERT_FORWARD) };
export const EXPERT_SCALE = { expert_weights_scale: float32(1) };
export const WINDOW = { "attention.sliding_window": uint32(8) };
export const OUTPUT_NORM_BIAS = bias("output_norm", WIDTH);

export interface Options {
  readonly tied?: boolean;
  readonly variant?: string;
  readonly metadata?: Readonly<Record<string, SampleValue>>;
  readonly ends?: readonly SpecTensor[];
  readonly hasOutputNorm?: boolean;
}
export function spec(name: string, layer: ArchitectureSpec["layer"], options: Options = {}): ArchitectureSpec {
  const { tied = false, metadata = RMS, ends = [], hasOutputNorm = true, variant } = options;
  const own = { name, hasHead: !tied, metadata, layer, ends, hasOutputNorm };
  return variant === undefined ? own : { ...own, variant };
}

export const llamaLike = (): SpecTensor[] => [...standard(), ...gated()];
export const LEADING = 2;
export const denseFirst =
  (head: () => SpecTensor[], more: SpecTensor[] = []) =>
  (index: number) =>
    index < LEADING ? [...head(), ...gated()] : [...head(), ...experts(), ...shared(), ...more];
export const LEADING_KEYS = {
  ...RMS,
  ...MIXTURE,
  ...EXPERT_SIZE,
  ...SHARED,
  ...EXPERT_SCALE,
  leading_dense_block_count: uint32(LEADING),
};
export const headed = (): SpecTensor[] => [...standard(), ...headNorms()];
export const LATENT_KEYS = {
  ...LEADING_KEYS,
  "attention.q_lora_rank": uint32(Q_RANK),
  "attention.kv_lora_rank": uint32(KV_RANK),
  "rope.dimension_count": uint32(ROPE),
};
export const oneForEach = (value: number): SampleValue =>
  float32s(Array.from({ length: LAYERS }, (_, i) => value + i / 16));
export const post = (): SpecTensor[] => [...norm("post_attention_norm"), ...norm("post_ffw_norm")];
export const POSITIONS = matrix("position_embd", WIDTH, CONTEXT_TOKENS);
export const LAYER_HEADS = [4, 4, 2, 4, 2, 4];
export const LAYER_FORWARD = [256, 512, 256, 512, 512, 256];

export const COMPRESSED = [matrix("attn_k_b", HEAD - ROPE, KV_RANK, HEADS), matrix("attn_v_b", KV_RANK, HEAD, HEADS)];
export const COMPRESSED_KEYS = {
  "attention.head_count_kv": uint32(1),
  "attention.key_length": uint32(KV_RANK + ROPE),
  "attention.value_length": uint32(KV_RANK),
  "attention.key_length_mla": uint32(HEAD),
  "attention.value_length_mla": uint32(HEAD),
};

export function latent(own: readonly SpecTensor[]): ArchitectureSpec["layer"] {
  return denseFirst(
    () => [
      ...norm("attn_norm"),
      ...norm("attn_q_a_norm", Q_RANK),
      ...norm("attn_kv_a_norm", KV_RANK),
      matrix("attn_q_a", WIDTH, Q_RANK),
      matrix("attn_q_b", Q_RANK, HEADS * HEAD),
      matrix("attn_kv_a_mqa", WIDTH, KV_RANK + ROPE),
      ...own,
      matrix("attn_output", HEADS * HEAD, WIDTH),
      ...norm("ffn_norm"),
    ],
    [bias("exp_probs_b", EXPERTS)],
  );
}

export function openelm(index: number): SpecTensor[] {
  const heads = LAYER_HEADS[index] ?? 0;
  const forward = LAYER_FORWARD[index] ?? 0;
  return [
    ...norm("attn_norm"),
    matrix("attn_qkv", WIDTH, 2 * heads * HEAD),
    ...headNorms(),
    matrix("attn_output", heads * HEAD, WIDTH),
    ...norm("ffn_norm"),
    matrix("ffn_gate", WIDTH, forward),
    matrix("ffn_down", forward, WIDTH),
    matrix("ffn_up", WIDTH, forward),
  ];
}

export function bool(value: boolean): SampleValue {
  return { type: 7, bytes: Uint8Array.of(value ? 1 : 0) };
}
