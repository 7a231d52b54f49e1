/**
 * A model for chains: random weights, enough layers for five stages, so little memory for each sequence that layers decide how many nodes it takes;
 * and the limit under which a node holds a given share of it, and not a layer more.
 */
import { COMPUTE_BYTES } from "../../src/scheduler/placement/slots.ts";
import { writeRandomModel } from "./random-model.ts";

export interface ChainModelShape {
  readonly fileBytes: number;
  readonly layerCount: number;
  readonly contextTokens: number;
  /** Of 64 values each; 8 without. */
  readonly heads?: number;
}

/** On one core a few milliseconds a token; layers of 2 MB, a sequence of 16 kB for each of them and 64 tokens. */
export const CHAIN_MODEL: ChainModelShape = { fileBytes: 20e6, layerCount: 10, contextTokens: 256 };
/** Keys and values of one head of 64, as f16. */
const KV_BYTES_PER_TOKEN_LAYER = 2 * 64 * 2;
/** As `slots.ts` takes it. */
const WEIGHTS_SLACK = 1.05;
/** Embedding or head of the bundled vocabulary for each head, as `stage-bytes.ts` estimates it. */
const END_BYTES_PER_HEAD = 0.2e6;
const HEADS = 8;

export async function writeChainModel(path: string, shape: ChainModelShape = CHAIN_MODEL, seed = 5): Promise<void> {
  await writeRandomModel(path, { ...shape, headsKv: 1, seed });
}

/** For `--max-vram`: room for one of so many equal stages with the sequences asked for (a chain wants 16), and not for a layer more. */
export function vramOfStage(
  { stages, sequences }: { readonly stages: number; readonly sequences: number },
  shape: ChainModelShape = CHAIN_MODEL,
): string {
  const layers = Math.ceil(shape.layerCount / stages);
  const layerBytes = (shape.fileBytes / shape.layerCount) * WEIGHTS_SLACK;
  const kvBytes = KV_BYTES_PER_TOKEN_LAYER * shape.contextTokens * sequences;
  const endBytes = END_BYTES_PER_HEAD * (shape.heads ?? HEADS);
  return `${Math.ceil(COMPUTE_BYTES + layers * layerBytes + layers * kvBytes + endBytes)}B`;
}
