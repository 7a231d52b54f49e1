/**
 * The chunks that a node needs for its share of the layers: those that its parts touch, the header always. A chunk is fetched whole, so
 * at each end of a run of bytes up to one chunk more comes along.
 */
import { assert } from "../domain/assert.ts";
import { type ChunkRun, ChunkSet } from "../domain/chunk-set.ts";
import {
  chunkCountOf,
  chunksOfFile,
  type LayerShare,
  type WeightsManifest,
  type WeightsPart,
} from "../domain/weights.ts";

type Chunked = Pick<WeightsManifest, "files" | "chunkBytes">;

/** Null: all chunks. Layers beyond the model's are a bug: borders check a share against the manifest first (`isShareOf`). */
export function chunksOfLayers(
  manifest: Chunked & Pick<WeightsManifest, "parts" | "layerCount">,
  share: LayerShare | null,
): ChunkSet {
  if (share === null) return ChunkSet.full(chunkCountOf(manifest));
  assert(isShareOf(manifest, share), `layers ${share.first} + ${share.count} are among ${manifest.layerCount}`);
  return chunksOfParts(
    manifest,
    manifest.parts.filter((part) => isNeeded(part, share)),
  );
}

/** Of each layer the chunks that it touches. */
export function chunksOfEachLayer(
  manifest: Chunked & Pick<WeightsManifest, "parts" | "layerCount">,
): readonly (readonly ChunkRun[])[] {
  const parts = Array.from({ length: manifest.layerCount }, (): WeightsPart[] => []);
  for (const part of manifest.parts) if (part.kind === "layer") parts[part.layer ?? -1]?.push(part);
  return parts.map((own) => chunksOfParts(manifest, own).runs());
}

/** Layers of which all chunks are there, as runs of first and count, ascending. `layers` is of `chunksOfEachLayer`. */
export function layersIn(
  layers: readonly (readonly ChunkRun[])[],
  have: ChunkSet,
): readonly (readonly [first: number, count: number])[] {
  const runs: [number, number][] = [];
  for (const [layer, chunks] of layers.entries()) {
    if (chunks.length === 0 || !chunks.every((run) => hasRun(have, run))) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === layer) last[1]++;
    else runs.push([layer, 1]);
  }
  return runs;
}

function hasRun(have: ChunkSet, [from, count]: ChunkRun): boolean {
  for (let chunk = from; chunk < from + count; chunk++) if (!have.has(chunk)) return false;
  return true;
}

export function isShareOf({ layerCount }: Pick<WeightsManifest, "layerCount">, { first, count }: LayerShare): boolean {
  return Number.isInteger(first) && Number.isInteger(count) && first >= 0 && count >= 1 && first + count <= layerCount;
}

/** Chunks that the parts touch. */
export function chunksOfParts(manifest: Chunked, parts: readonly WeightsPart[]): ChunkSet {
  const firstChunks = firstChunkOfFiles(manifest);
  const chunks = new ChunkSet(chunkCountOf(manifest));
  for (const { ranges } of parts) {
    for (const { file, offset, bytes } of ranges) {
      const fileFirst = firstChunks[file];
      assert(fileFirst !== undefined, `file ${file} is one of ${firstChunks.length}`);
      const first = Math.floor(offset / manifest.chunkBytes);
      const end = Math.ceil((offset + bytes) / manifest.chunkBytes);
      if (end > first) chunks.addRun([fileFirst + first, end - first]);
    }
  }
  return chunks;
}

/** Bytes of these chunks; the last of a file may be short. */
export function bytesOfChunks(manifest: Chunked, chunks: ChunkSet): number {
  let bytes = chunks.size * manifest.chunkBytes;
  for (const [file, first] of firstChunkOfFiles(manifest).entries()) {
    const { fileBytes } = manifest.files[file] ?? { fileBytes: 0 };
    const count = chunksOfFile(fileBytes, manifest.chunkBytes);
    if (count > 0 && chunks.has(first + count - 1)) bytes -= count * manifest.chunkBytes - fileBytes;
  }
  return bytes;
}

/** The index of each file's first chunk. */
export function firstChunkOfFiles({ files, chunkBytes }: Chunked): readonly number[] {
  let next = 0;
  return files.map(({ fileBytes }) => {
    const first = next;
    next += chunksOfFile(fileBytes, chunkBytes);
    return first;
  });
}

function isNeeded(part: WeightsPart, share: LayerShare): boolean {
  switch (part.kind) {
    case "header":
    case "shared":
      return true;
    case "embedding":
      return share.hasEmbedding || (share.hasOutput && part.isOutputToo === true);
    case "output":
      return share.hasOutput;
    case "layer": {
      const layer = part.layer ?? -1;
      return layer >= share.first && layer < share.first + share.count;
    }
  }
}
