/** Tensors that layers of many architectures have in common, at the sizes of the models that tests make (architecture-specs.ts). */
export const WIDTH = 256;
export const LAYERS = 6;
export const HEADS = 4;
export const KV_HEADS = 2;
export const HEAD = 64;
export const FORWARD = 512;
export const EXPERTS = 4;
export const EXPERT_FORWARD = 256;
export const CONTEXT_TOKENS = 512;
export const ROPE = 32;
export const Q_RANK = 256;
export const KV_RANK = 256;

export interface SpecTensor {
  readonly name: string;
  readonly dimensions: readonly number[];
}

export const tensor = (name: string, ...dimensions: number[]): SpecTensor => ({ name, dimensions });
export const norm = (name: string, size = WIDTH): SpecTensor[] => [tensor(`${name}.weight`, size)];
export const normBias = (name: string, size = WIDTH): SpecTensor[] => [
  ...norm(name, size),
  tensor(`${name}.bias`, size),
];
export const matrix = (name: string, ...dimensions: number[]): SpecTensor => tensor(`${name}.weight`, ...dimensions);
export const bias = (name: string, ...dimensions: number[]): SpecTensor => tensor(`${name}.bias`, ...dimensions);

export function attention(kv = KV_HEADS): SpecTensor[] {
  return [
    matrix("attn_q", WIDTH, HEADS * HEAD),
    matrix("attn_k", WIDTH, kv * HEAD),
    matrix("attn_v", WIDTH, kv * HEAD),
    matrix("attn_output", HEADS * HEAD, WIDTH),
  ];
}
export function fused(kv = KV_HEADS): SpecTensor[] {
  return [matrix("attn_qkv", WIDTH, (HEADS + 2 * kv) * HEAD), matrix("attn_output", HEADS * HEAD, WIDTH)];
}
export const fusedBias = (kv = KV_HEADS): SpecTensor[] => [
  ...fused(kv),
  bias("attn_qkv", (HEADS + 2 * kv) * HEAD),
  bias("attn_output", WIDTH),
];
export const qkvBias = (): SpecTensor[] => [
  bias("attn_q", HEADS * HEAD),
  bias("attn_k", KV_HEADS * HEAD),
  bias("attn_v", KV_HEADS * HEAD),
];
export const gated = (): SpecTensor[] => [
  matrix("ffn_gate", WIDTH, FORWARD),
  matrix("ffn_down", FORWARD, WIDTH),
  matrix("ffn_up", WIDTH, FORWARD),
];
export const plain = (): SpecTensor[] => [matrix("ffn_down", FORWARD, WIDTH), matrix("ffn_up", WIDTH, FORWARD)];
export const plainBias = (): SpecTensor[] => [...plain(), bias("ffn_down", WIDTH), bias("ffn_up", FORWARD)];
export function experts(forward = EXPERT_FORWARD): SpecTensor[] {
  return [
    matrix("ffn_gate_inp", WIDTH, EXPERTS),
    matrix("ffn_gate_exps", WIDTH, forward, EXPERTS),
    matrix("ffn_down_exps", forward, WIDTH, EXPERTS),
    matrix("ffn_up_exps", WIDTH, forward, EXPERTS),
  ];
}
export const shared = (forward = EXPERT_FORWARD): SpecTensor[] => [
  matrix("ffn_gate_shexp", WIDTH, forward),
  matrix("ffn_down_shexp", forward, WIDTH),
  matrix("ffn_up_shexp", WIDTH, forward),
];
export const headNorms = (size = HEAD, kv = size): SpecTensor[] => [
  ...norm("attn_q_norm", size),
  ...norm("attn_k_norm", kv),
];
export const standard = (): SpecTensor[] => [...norm("attn_norm"), ...attention(), ...norm("ffn_norm")];
export const standardBias = (): SpecTensor[] => [...normBias("attn_norm"), ...fusedBias(), ...normBias("ffn_norm")];
