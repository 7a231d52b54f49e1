/** Which tensors a stage file holds, and where their bytes come from: stage-slice.ts has the table. */
import type { LayerShare } from "../domain/weights.ts";
import type { GgufHeader, GgufTensor } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import type { StagedModel } from "./stage-checks.ts";
import type { StagePiece } from "./stage-plan.ts";
import { tensorTypeOf } from "./tensor-types.ts";

/** Of a stage without vocabulary between two others: the loader wants some. */
export const DUMMY_VOCABULARY = 8;

const F32 = 0;
const F16 = 1;
/** Of what stands only so that the loader finds it: 54 bytes for 256 zeros, and no kernel of the CPU wants it in another order in memory. */
const TQ1_0 = 34;

export interface StageTensor {
  readonly name: string;
  readonly dimensions: readonly number[];
  readonly type: number;
  readonly piece: StagePiece;
}

/** The file that each tensor lies in, by name. */
export type TensorPlaces = ReadonlyMap<string, number>;

export function placesOf(headers: readonly GgufHeader[]): TensorPlaces {
  return new Map(headers.flatMap(({ tensors }, file) => tensors.map(({ name }): [string, number] => [name, file])));
}

/** In the order of the model's files. */
export function stageTensors(model: StagedModel, share: LayerShare, places: TensorPlaces): readonly StageTensor[] {
  const copy = (tensor: GgufTensor, name = tensor.name): StageTensor => ({
    name,
    dimensions: tensor.dimensions,
    type: tensor.type,
    piece: { kind: "copy", file: places.get(tensor.name) ?? 0, offset: tensor.offset, bytes: tensor.sizeBytes },
  });
  const taken = model.header.tensors.flatMap((tensor): StageTensor[] => {
    const layer = /^blk\.(\d+)\.(.*)$/.exec(tensor.name);
    if (layer !== null) {
      const own = Number(layer[1]) - share.first;
      return own >= 0 && own < share.count ? [copy(tensor, `blk.${own}.${layer[2]}`)] : [];
    }
    if (isWhole(share)) return [copy(tensor)];
    if (/^(token_embd|token_embd_norm|position_embd)\./.test(tensor.name))
      return embeddingOf(model, share, tensor, copy);
    if (/^output(_norm)?\./.test(tensor.name)) return outputOf(model, share, tensor, copy);
    return [copy(tensor)];
  });
  const isFillerWanted = share.hasEmbedding && !share.hasOutput && model.head === null && model.rules.head !== "tied";
  return isFillerWanted ? [...taken, filler("output.weight", model.embedding.dimensions)] : taken;
}

type Copy = (tensor: GgufTensor, name?: string) => StageTensor;

function embeddingOf(model: StagedModel, share: LayerShare, tensor: GgufTensor, copy: Copy): StageTensor[] {
  const { name, dimensions } = tensor;
  if (share.hasEmbedding) return [copy(tensor)];
  if (name.startsWith("position_embd.")) return [{ ...copy(tensor), piece: zeros(tensor.sizeBytes) }];
  if (name.startsWith("token_embd_norm.")) return [plainNorm(name, dimensions)];
  if (!share.hasOutput) return [generated(name, F32, [dimensions[0] ?? 0, DUMMY_VOCABULARY])];
  if (model.head === null) return [copy(tensor)];
  // The loader that finds no head of its own takes the embedding for it: the head's bytes stand in the file once.
  return [model.rules.head === "own-or-tied" ? copy(model.head, name) : filler(name, dimensions)];
}

function outputOf(model: StagedModel, share: LayerShare, tensor: GgufTensor, copy: Copy): StageTensor[] {
  const { name, dimensions } = tensor;
  const isHead = name === "output.weight";
  if (share.hasOutput) return isHead && model.rules.head === "own-or-tied" ? [] : [copy(tensor)];
  if (name.startsWith("output_norm.")) return [plainNorm(name, dimensions)];
  // Without it the loader would make the embedding a head as well, with memory of its own.
  if (share.hasEmbedding && isHead) return [filler(name, dimensions)];
  if (model.rules.head !== "own") return [];
  const rows = share.hasEmbedding ? dimensions : [...dimensions.slice(0, -1), DUMMY_VOCABULARY];
  return [generated(name, F32, rows)];
}

/** A norm whose result nobody uses. */
function plainNorm(name: string, dimensions: readonly number[]): StageTensor {
  return generated(name, F32, dimensions, name.endsWith(".weight") ? 1 : 0);
}

function filler(name: string, dimensions: readonly number[]): StageTensor {
  const isTernary = (dimensions[0] ?? 0) % (tensorTypeOf(TQ1_0)?.blockValues ?? 1) === 0;
  return generated(name, isTernary ? TQ1_0 : F16, dimensions);
}

function generated(name: string, type: number, dimensions: readonly number[], value: 0 | 1 = 0): StageTensor {
  const values = dimensions.reduce((product, dimension) => product * dimension, 1);
  if (value === 1) {
    const ones = new Float32Array(values).fill(1);
    const view = new DataView(new ArrayBuffer(values * 4));
    for (const [index, one] of ones.entries()) view.setFloat32(index * 4, one, true);
    return { name, type, dimensions, piece: { kind: "bytes", bytes: new Uint8Array(view.buffer) } };
  }
  const block = tensorTypeOf(type);
  if (block === null) throw new GgufProblem("bad-tensor", `tensor ${name} has the unknown type ${type}`);
  return { name, type, dimensions, piece: zeros((values / block.blockValues) * block.blockBytes) };
}

function zeros(bytes: number): StagePiece {
  return { kind: "zeros", bytes };
}

function isWhole(share: LayerShare): boolean {
  return share.hasEmbedding && share.hasOutput;
}
