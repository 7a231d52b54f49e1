/**
 * One model over chains of stages against itself unsplit, decode by decode in one process: the stages are the engine's own (stage-decoder.ts), their
 * files are cut by `planStage`. A prompt goes through in two pieces, then tokens one by one, and each row of logits is compared.
 */
import { rmSync, writeFileSync } from "node:fs";
import { readHidden, writeHidden } from "../../src/adapters/engine-llama/hidden-states.ts";
import type { LlamaApi } from "../../src/adapters/engine-llama/llama-ffi.ts";
import { freeModel } from "../../src/adapters/engine-llama/loaded-model.ts";
import { StageDecoder } from "../../src/adapters/engine-llama/stage-decoder.ts";
import { shareOfStage, type WireFormat } from "../../src/domain/chain.ts";
import type { LayerShare } from "../../src/domain/weights.ts";
import { byteSourceOf } from "../../src/weights/byte-source.ts";
import { stageBytes } from "../../src/weights/stage-plan.ts";
import { readStagePlan } from "../../src/weights/stage-slice.ts";

export interface GoldenChain {
  readonly stages: number;
  readonly wire: WireFormat;
  /** Largest difference of a logit over all rows. */
  readonly maxDifference: number;
  /** Rows whose largest logit is that of the unsplit model's. */
  readonly argmaxEqual: number;
  readonly rows: number;
}

/** Ends of the stages' layers: unequal, and not where windows or dense layers end. */
const CUTS: readonly (readonly number[])[] = [
  [2, 6],
  [1, 4, 6],
];
const PIECES = [16, 8];
const SINGLES = 16;
const CONTEXT_TOKENS = 256;

interface Step {
  readonly tokenIds: readonly number[];
  readonly logits: Float32Array;
}

export async function goldenChains(
  api: LlamaApi,
  model: { path: string; bytes: Uint8Array },
): Promise<readonly GoldenChain[]> {
  const layerCount = CUTS[0]?.at(-1) ?? 0;
  const whole = load(api, model.path, shareOfStage({ first: 0, count: layerCount }, layerCount));
  const steps = unsplit(whole);
  freeModel(whole.loaded);
  const chains: GoldenChain[] = [];
  for (const ends of CUTS) {
    const stages: StageDecoder[] = [];
    for (const [at, end] of ends.entries()) {
      const first = ends[at - 1] ?? 0;
      stages.push(await cut(api, model, shareOfStage({ first, count: end - first }, layerCount)));
    }
    for (const wire of ["f32", "f16"] as const) chains.push(compare(stages, steps, wire));
    for (const stage of stages) freeModel(stage.loaded);
  }
  return chains;
}

function load(api: LlamaApi, weightsPath: string, share: LayerShare): StageDecoder {
  const fatal = (message: string): never => {
    throw new Error(message);
  };
  const request = {
    weightsPath,
    share,
    contextTokens: CONTEXT_TOKENS,
    sequencesMax: 1,
    threads: 1,
    gpuLayers: 0,
    split: null,
  };
  const result = StageDecoder.load(api, { ...request, onProgress: () => undefined }, fatal);
  if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
  return result.value;
}

async function cut(
  api: LlamaApi,
  model: { path: string; bytes: Uint8Array },
  share: LayerShare,
): Promise<StageDecoder> {
  const source = byteSourceOf(model.bytes);
  const plan = await readStagePlan([source], share);
  if (!plan.ok) throw new Error(`${plan.reason.code}: ${plan.reason.message}`);
  const parts: Uint8Array[] = [];
  for await (const bytes of stageBytes(plan.value, [source])) parts.push(bytes);
  const path = `${model.path}.layers-${share.first}`;
  writeFileSync(path, Buffer.concat(parts));
  try {
    return load(api, path, share);
  } finally {
    rmSync(path);
  }
}

function unsplit(whole: StageDecoder): readonly Step[] {
  const steps: Step[] = [];
  let start = 0;
  let tokenIds: readonly number[] = [];
  for (let index = 0; index < PIECES.length + SINGLES; index++) {
    const piece = PIECES[index];
    const last = steps.at(-1);
    if (piece === undefined) tokenIds = [last === undefined ? 0 : argmax(last.logits)];
    else tokenIds = Array.from({ length: piece }, (_, at) => 50 + (((start + at) * 97) % 1900));
    steps.push({ tokenIds, logits: logitsOf(whole, tokenIds, start) });
    start += tokenIds.length;
  }
  return steps;
}

function logitsOf(decoder: StageDecoder, tokenIds: readonly number[], start: number): Float32Array {
  decode(decoder, { tokenIds: Int32Array.from(tokenIds), hidden: null, start, count: tokenIds.length });
  return Float32Array.from(decoder.logits()[0] ?? []);
}

type Piece = { tokenIds: Int32Array | null; hidden: Float32Array | null; start: number; count: number };

function decode(decoder: StageDecoder, piece: Piece): void {
  decoder.decode([{ slot: 0, offset: 0, rows: decoder.share.hasOutput ? 1 : 0, ...piece }]);
}

function compare(stages: readonly StageDecoder[], steps: readonly Step[], wire: WireFormat): GoldenChain {
  let maxDifference = 0;
  let argmaxEqual = 0;
  let start = 0;
  for (const { loaded } of stages) loaded.api.clearMemory(loaded.memory, true);
  for (const step of steps) {
    const count = step.tokenIds.length;
    let hidden: Float32Array | null = null;
    let logits = new Float32Array(0);
    for (const stage of stages) {
      const { hasEmbedding, hasOutput } = stage.share;
      decode(stage, { tokenIds: hasEmbedding ? Int32Array.from(step.tokenIds) : null, hidden, start, count });
      if (hasOutput) logits = Float32Array.from(stage.logits()[0] ?? []);
      else hidden = travelled(stage.hidden(), wire);
    }
    maxDifference = Math.max(maxDifference, difference(logits, step.logits));
    if (argmax(logits) === argmax(step.logits)) argmaxEqual++;
    start += count;
  }
  return { stages: stages.length, wire, maxDifference, argmaxEqual, rows: steps.length };
}

function travelled(hidden: Float32Array, wire: WireFormat): Float32Array {
  const sent = writeHidden(hidden, wire);
  const read = sent === null ? null : readHidden(sent.data.slice(), sent.format);
  if (read === null) throw new Error("hidden states hold NaN or infinity");
  return read;
}

/** Infinity where rows are not of one length or a number is none. */
function difference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length || a.length === 0) return Number.POSITIVE_INFINITY;
  let most = 0;
  for (const [index, value] of a.entries()) {
    const apart = Math.abs(value - (b[index] ?? Number.NaN));
    if (!(apart <= most)) most = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart;
  }
  return most;
}

function argmax(row: Float32Array): number {
  let best = 0;
  for (const [index, value] of row.entries()) if (value > (row[best] ?? 0)) best = index;
  return best;
}
