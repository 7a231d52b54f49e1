/**
 * Names of quantisations come from the formats of weights (`Q4_K_M`, `MXFP4`); routers such as OpenRouter sort offers into few classes
 * by the bits of a weight. A quantisation between two classes, or one that is not known here, is in none.
 */
export const QUANTISATION_CLASSES = ["int4", "int8", "fp4", "fp8", "fp16", "bf16", "fp32"] as const;
export type QuantisationClass = (typeof QUANTISATION_CLASSES)[number];

const CLASS_OF: readonly (readonly [RegExp, QuantisationClass])[] = [
  [/^f(p|loat)?32$/, "fp32"],
  [/^bf16$/, "bf16"],
  [/^f(p|loat)?16$/, "fp16"],
  [/fp8|^f8|e4m3|e5m2/, "fp8"],
  [/fp4/, "fp4"],
  [/^q8_|int8|w8a8|8bit/, "int8"],
  [/^i?q4_|int4|4bit|^awq$|^gptq$/, "int4"],
];

/** Null: in no class. */
export function quantisationClass(name: string): QuantisationClass | null {
  const lower = name.toLowerCase();
  return CLASS_OF.find(([pattern]) => pattern.test(lower))?.[1] ?? null;
}
