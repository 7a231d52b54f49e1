/** Models whose chunks are open on this node, to be served, completed or used: each once, however many need it. */
import type { Sha256Hex } from "../../../domain/ids.ts";
import { chunkCountOf } from "../../../domain/weights.ts";
import type { ChunkStore, StoredContent, StoredWeights } from "../../../ports/chunk-store.ts";

export interface OpenModel {
  readonly weightsSha256: Sha256Hex;
  readonly content: StoredContent;
  readonly chunkCount: number;
  readonly stored: StoredWeights;
}

export class OpenModels {
  readonly #store: ChunkStore;
  readonly #closing = new AbortController();
  readonly #opening = new Map<string, Promise<OpenModel>>();
  readonly #models = new Map<string, OpenModel>();

  constructor(store: ChunkStore) {
    this.#store = store;
  }

  get(weightsSha256: string): OpenModel | null {
    return this.#models.get(weightsSha256) ?? null;
  }

  /** In the order of their digests. */
  all(): readonly OpenModel[] {
    return [...this.#models.values()].sort((a, b) => (a.weightsSha256 < b.weightsSha256 ? -1 : 1));
  }

  /** Verifying what lies there goes on for others when `signal` aborts. */
  open(content: StoredContent, signal: AbortSignal): Promise<OpenModel> {
    const { weightsSha256 } = content.manifest;
    let opening = this.#opening.get(weightsSha256);
    if (opening === undefined) {
      opening = this.#open(content);
      this.#opening.set(weightsSha256, opening);
      opening.catch(() => this.#opening.delete(weightsSha256));
    }
    return abortable(opening, signal);
  }

  async close(weightsSha256: string): Promise<void> {
    this.#models.delete(weightsSha256);
    const opening = this.#opening.get(weightsSha256);
    this.#opening.delete(weightsSha256);
    const model = await opening?.catch(() => null); // who opened it was told
    await model?.stored.close();
    this.#models.delete(weightsSha256);
  }

  /** May be called twice. */
  async closeAll(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#opening.keys()].map((weightsSha256) => this.close(weightsSha256)));
  }

  async #open(content: StoredContent): Promise<OpenModel> {
    const { weightsSha256 } = content.manifest;
    const stored = await this.#store.open(content, { signal: this.#closing.signal });
    const model = { weightsSha256, content, chunkCount: chunkCountOf(content.manifest), stored };
    this.#models.set(weightsSha256, model);
    return model;
  }
}

export function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
