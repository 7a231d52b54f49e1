/** A folder with a store of chunks in it, for one test; everything that was opened is closed at its end. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { DiskChunkStore } from "../../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import type { StoredContent, StoredWeights } from "../../src/ports/chunk-store.ts";
import type { ChunkedModel } from "./chunked-model.ts";

export interface ChunkFolder {
  readonly path: string;
  /** A store as a process of that boot has it, with no headroom; boot 0 is one that the system does not tell. */
  store(boot?: number): DiskChunkStore;
  open(content: StoredContent, store?: DiskChunkStore): Promise<StoredWeights>;
  /** Of what lies in a model's own folder. */
  pathOf(model: ChunkedModel, name: string): string;
  firstFile(model: ChunkedModel): string;
  close(): Promise<void>;
}

export async function chunkFolder(): Promise<ChunkFolder> {
  const folder = await mkdtemp(join(tmpdir(), "fallow-chunks-"));
  const opened: StoredWeights[] = [];
  const store = (boot = 1) => new DiskChunkStore({ folder, headroomBytes: 0, bootId: new Uint8Array(16).fill(boot) });
  const pathOf = (model: ChunkedModel, name: string) => join(folder, model.weightsSha256, name);
  return {
    path: folder,
    store,
    open: async (content, from = store()) => {
      const weights = await from.open(content, { signal: new AbortController().signal });
      opened.push(weights);
      return weights;
    },
    pathOf,
    firstFile: (model) => pathOf(model, `${model.weightsSha256}.gguf`),
    close: async () => {
      for (const weights of opened) await weights.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Keeps chunks of a model, all without further word. */
export async function fill(weights: StoredWeights, model: ChunkedModel, chunks?: readonly number[]): Promise<void> {
  expect(await weights.tryLock()).toBe(true);
  for (const chunk of chunks ?? Array.from({ length: model.chunkCount }, (_, at) => at)) {
    expect(await weights.write(chunk, model.chunk(chunk))).toBe("kept");
  }
}

export async function expectWhole(weights: StoredWeights, model: ChunkedModel): Promise<void> {
  const found = await readFile(await weights.path());
  expect(found.equals(model.files[0] ?? Buffer.alloc(0)), "the file has the model's bytes").toBe(true);
}

export async function overwrite(path: string, at: number, bytes: Uint8Array): Promise<void> {
  const content = await readFile(path);
  content.set(bytes, at);
  await writeFile(path, content);
}
