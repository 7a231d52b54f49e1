/** Names of quantisations, as the field uses them. */
import type { GgufHeader } from "./gguf-header.ts";
import { tensorTypeOf } from "./tensor-types.ts";

/** `llama_ftype` of include/llama.h, as `llama_ftype_name` spells them without the remarks. */
const FILE_TYPES: Readonly<Record<number, string>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  7: "Q8_0",
  8: "Q5_0",
  9: "Q5_1",
  10: "Q2_K",
  11: "Q3_K_S",
  12: "Q3_K_M",
  13: "Q3_K_L",
  14: "Q4_K_S",
  15: "Q4_K_M",
  16: "Q5_K_S",
  17: "Q5_K_M",
  18: "Q6_K",
  19: "IQ2_XXS",
  20: "IQ2_XS",
  21: "Q2_K_S",
  22: "IQ3_XS",
  23: "IQ3_XXS",
  24: "IQ1_S",
  25: "IQ4_NL",
  26: "IQ3_S",
  27: "IQ3_M",
  28: "IQ2_S",
  29: "IQ2_M",
  30: "IQ4_XS",
  31: "IQ1_M",
  32: "BF16",
  36: "TQ1_0",
  37: "TQ2_0",
  38: "MXFP4_MOE",
  39: "NVFP4",
  40: "Q1_0",
  41: "Q2_0",
};

/** Null for a number that is not known, or a mixture. */
export function fileTypeName(fileType: number): string | null {
  return FILE_TYPES[fileType] ?? null;
}

/**
 * The file's own word, if the type that holds most bytes agrees with it; else that type's name. A file that calls itself
 * Q8_0 and holds Q2_K is sold as what it is.
 */
export function quantisationOf(header: GgufHeader, fileType: number | null): string {
  const majority = majorityType(header);
  const declared = fileType === null ? null : fileTypeName(fileType);
  if (declared === null) return majority;
  const family = declared.replace(/(_K)_(S|M|L|XL)$/, "$1").replace(/_MOE$/, "");
  const isMixture = /^IQ/.test(declared) && /^IQ/.test(majority);
  return family === majority || isMixture ? declared : majority;
}

function majorityType(header: GgufHeader): string {
  const bytesByType = new Map<string, number>();
  for (const tensor of header.tensors) {
    const name = tensorTypeOf(tensor.type)?.name ?? "unknown";
    bytesByType.set(name, (bytesByType.get(name) ?? 0) + tensor.sizeBytes);
  }
  const sorted = [...bytesByType].sort(([nameA, a], [nameB, b]) => b - a || (nameA < nameB ? -1 : 1));
  return sorted[0]?.[0] ?? "none";
}
