/**
 * What the names of GGUF files tell: which belong together (llama.cpp's split sets end in `-00001-of-00003.gguf`), which quantisation
 * they hold, and which are no weights of a language model (`mmproj` holds an image encoder, `imatrix` what quantising needed).
 */
import { WEIGHTS_FILES_MAX } from "../../domain/weights.ts";

export interface SplitName {
  readonly prefix: string;
  /** From 1. */
  readonly index: number;
  readonly count: number;
}

const SPLIT = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;
const GGUF = /\.gguf$/i;
const NO_WEIGHTS = /(^|[-._])(mmproj|imatrix)([-._]|$)/i;
const QUANTISATION = /(?:^|[-._])((?:UD-)?(?:I?Q|TQ|MXFP)\d[A-Z0-9]*(?:_[A-Z0-9]+)*|BF16|FP?16|FP?32)(?=[-._]|$)/gi;

/** Null for a file on its own; also when the numbers make no set. */
export function splitNameOf(path: string): SplitName | null {
  const [, prefix = "", index = "", count = ""] = SPLIT.exec(path) ?? [];
  const split = { prefix, index: Number(index), count: Number(count) };
  const isOfSet =
    split.count >= 1 && split.count <= WEIGHTS_FILES_MAX && split.index >= 1 && split.index <= split.count;
  return prefix !== "" && isOfSet ? split : null;
}

/** All names of the set, in load order. */
export function namesOfSet({ prefix, count }: SplitName): readonly string[] {
  const five = (number: number) => String(number).padStart(5, "0");
  return Array.from({ length: count }, (_, at) => `${prefix}-${five(at + 1)}-of-${five(count)}.gguf`);
}

export function isWeightsPath(path: string): boolean {
  const name = baseName(path);
  return GGUF.test(name) && !NO_WEIGHTS.test(name.replace(GGUF, ""));
}

/** The last that is named, in capitals; a set's folder counts when its files say nothing. Null when none is. */
export function quantisationOfPath(path: string): string | null {
  const [folder = "", name = ""] = path.split("/").slice(-2).length === 2 ? path.split("/").slice(-2) : ["", path];
  const stem = (splitNameOf(name)?.prefix ?? name).replace(GGUF, "");
  for (const text of [stem, folder]) {
    const found = [...text.matchAll(QUANTISATION)].at(-1)?.[1];
    if (found !== undefined) return canonicalQuantisation(found);
  }
  return null;
}

export function canonicalQuantisation(text: string): string {
  return text.toUpperCase().replace(/^FP(?=16|32)/, "F");
}

export function baseName(path: string): string {
  return path.split("/").at(-1) ?? path;
}

/** `Qwen2.5-7B-Instruct-Q4_K_M-00001-of-00002.gguf` gives `qwen2.5-7b-instruct-q4_k_m`. */
export function suggestedIdOf(path: string): string {
  const name = baseName(path);
  const stem = (splitNameOf(name)?.prefix ?? name).replace(GGUF, "");
  const id = stem
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "");
  return id.slice(0, 128) || "model";
}
