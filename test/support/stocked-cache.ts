/** A cache over a real store of chunks; only where the chunks come from is the test's, one by one as it lets them. */
import type { DiskChunkStore } from "../../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { ChunkSet } from "../../src/domain/chunk-set.ts";
import { FallowError } from "../../src/domain/fault.ts";
import type { Sha256Hex } from "../../src/domain/ids.ts";
import type { LayerShare } from "../../src/domain/weights.ts";
import type { WeightsCache } from "../../src/ports/weights-cache.ts";
import type { ChunkedModel } from "./chunked-model.ts";

export interface StockedCacheOptions {
  readonly store: () => DiskChunkStore;
  readonly models: readonly ChunkedModel[];
  /** Resolves when the chunk may come. */
  readonly gate?: (chunk: number, signal: AbortSignal) => Promise<void>;
}

/** A layer is a chunk here. */
export function neededChunks(model: ChunkedModel, layers: LayerShare | null): ChunkSet {
  return layers === null
    ? ChunkSet.full(model.chunkCount)
    : ChunkSet.of(model.chunkCount, [[layers.first, layers.count]]);
}

export function stockedCache({ store, models, gate = async () => undefined }: StockedCacheOptions): WeightsCache {
  const found = (weightsSha256: Sha256Hex): ChunkedModel => {
    const model = models.find((one) => one.weightsSha256 === weightsSha256);
    if (model === undefined) throw new FallowError("weights-unreachable", `nobody has ${weightsSha256}`);
    return model;
  };
  return {
    ensure: async ({ weightsSha256, layers = null }, { signal, onProgress }) => {
      const model = found(weightsSha256);
      const need = neededChunks(model, layers);
      const weights = await store().open(model, { signal });
      try {
        await weights.tryLock();
        for (const chunk of need.minus(weights.have)) {
          await gate(chunk, signal);
          signal.throwIfAborted();
          await weights.write(chunk, model.chunk(chunk));
          onProgress(weights.have.size * model.manifest.chunkBytes);
        }
        return await weights.path(need);
      } finally {
        await weights.close();
      }
    },
    bytesOf: async ({ weightsSha256, layers = null }) => {
      const model = found(weightsSha256);
      return [...neededChunks(model, layers)].reduce((sum, chunk) => sum + model.chunk(chunk).length, 0);
    },
    has: async (weightsSha256) =>
      (await store().list()).some((one) => one.weightsSha256 === weightsSha256 && one.isWhole),
    list: async () =>
      (await store().list())
        .filter(({ isWhole }) => isWhole)
        .map(({ weightsSha256, totalBytes }) => ({ weightsSha256, fileBytes: totalBytes })),
    listPartial: async () =>
      (await store().list())
        .filter(({ isWhole }) => !isWhole)
        .map(({ weightsSha256, storedBytes, totalBytes }) => ({ weightsSha256, fileBytes: storedBytes, totalBytes })),
    remove: (weightsSha256) => store().remove(weightsSha256),
    freeBytes: () => store().freeBytes(),
  };
}
