/**
 * Which bytes of a model's files hold what, from their headers: the headers themselves, the embedding, each layer, the output head, and
 * what every stage reads. Parts are told as ranges of bytes, so that a node that runs some layers fetches the chunks of those.
 *
 * | tensor                                              | part      |
 * | --------------------------------------------------- | --------- |
 * | bytes before the first tensor                        | header    |
 * | `token_embd*`, `position_embd*`, `token_types*`      | embedding |
 * | `blk.<n>.*` with n below the layer count             | layer n   |
 * | `output.*`, `output_*`                               | output    |
 * | anything else (`rope_freqs`, `rope_factors_*`, ...)  | shared    |
 *
 * A model without `output.weight` reads `token_embd.weight` at its end too (tied): its embedding part says so. Padding between two
 * tensors of one part goes with them; padding between parts belongs to nobody, and nobody reads it.
 */
import { assert } from "../domain/assert.ts";
import type { FileRange, WeightsPart, WeightsPartKind } from "../domain/weights.ts";
import type { GgufHeader, GgufTensor } from "./gguf-header.ts";

/** Headers in the order of the files. The parts come as header, embedding, layers ascending, output, shared; empty ones are left out. */
export function weightsParts(headers: readonly GgufHeader[], layerCount: number): readonly WeightsPart[] {
  const parts = new Map<string, FileRange[]>();
  const header = headers.map(({ dataOffset, fileBytes }, file) => ({
    file,
    offset: 0,
    bytes: Math.min(dataOffset, fileBytes),
  }));
  for (const [file, { tensors, alignment }] of headers.entries()) {
    const byOffset = [...tensors].sort((a, b) => a.offset - b.offset || (a.name < b.name ? -1 : 1));
    let previous: string | null = null;
    for (const tensor of byOffset) {
      const key = partOf(tensor.name, layerCount);
      const ranges = parts.get(key) ?? [];
      parts.set(key, ranges);
      addTensor(ranges, { file, tensor, isNext: key === previous, alignment });
      previous = key;
    }
  }
  const isTied = headers.every(({ tensors }) => tensors.every(({ name }) => name !== "output.weight"));
  return [
    { kind: "header", ranges: header },
    ...partNamed(parts, "embedding").map((part) => (isTied ? { ...part, isOutputToo: true as const } : part)),
    ...Array.from({ length: layerCount }, (_, layer) => layerNamed(parts, layer)).flat(),
    ...partNamed(parts, "output"),
    ...partNamed(parts, "shared"),
  ];
}

/** Bytes of all ranges of the parts. */
export function bytesOfParts(parts: readonly WeightsPart[]): number {
  return parts.reduce((sum, { ranges }) => ranges.reduce((total, { bytes }) => total + bytes, sum), 0);
}

function partOf(name: string, layerCount: number): string {
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  if (layer !== undefined) return Number(layer) < layerCount ? `layer ${Number(layer)}` : "shared";
  if (/^(token_embd|position_embd|token_types)[._]/.test(name)) return "embedding";
  if (/^output[._]/.test(name)) return "output";
  return "shared";
}

function addTensor(
  ranges: FileRange[],
  at: { readonly file: number; readonly tensor: GgufTensor; readonly isNext: boolean; readonly alignment: number },
): void {
  const { offset, sizeBytes } = at.tensor;
  const last = ranges.at(-1);
  if (at.isNext && last !== undefined) {
    const gap = offset - (last.offset + last.bytes);
    assert(gap >= 0, `tensor ${at.tensor.name} begins after the one before it`);
    if (gap < at.alignment) {
      ranges[ranges.length - 1] = { ...last, bytes: offset + sizeBytes - last.offset };
      return;
    }
  }
  ranges.push({ file: at.file, offset, bytes: sizeBytes });
}

function partNamed(parts: ReadonlyMap<string, FileRange[]>, kind: Exclude<WeightsPartKind, "layer">): WeightsPart[] {
  const ranges = parts.get(kind);
  return ranges === undefined ? [] : [{ kind, ranges }];
}

function layerNamed(parts: ReadonlyMap<string, FileRange[]>, layer: number): WeightsPart[] {
  const ranges = parts.get(`layer ${layer}`);
  return ranges === undefined ? [] : [{ kind: "layer", layer, ranges }];
}
