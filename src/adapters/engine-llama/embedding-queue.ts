/** Requests for embeddings, one after the other, a chunk between two decode steps each, so that generation goes on. */
import type { ChildReport, EmbedCommand } from "./child-protocol.ts";
import { Embedder, type EmbeddingRun } from "./embedder.ts";
import type { LoadedModel } from "./loaded-model.ts";

export interface EmbeddingQueueOptions {
  readonly report: (report: ChildReport) => void;
  readonly onFatal: (message: string) => never;
  readonly submitChore: (chore: () => void) => void;
}

interface Current {
  readonly command: EmbedCommand;
  readonly vectors: Float32Array[];
  run: EmbeddingRun;
}

export class EmbeddingQueue {
  readonly #loaded: LoadedModel;
  readonly #options: EmbeddingQueueOptions;
  readonly #waiting: EmbedCommand[] = [];
  #current: Current | null = null;
  #embedder: Embedder | null = null;

  constructor(loaded: LoadedModel, options: EmbeddingQueueOptions) {
    this.#loaded = loaded;
    this.#options = options;
  }

  submit(command: EmbedCommand): void {
    this.#waiting.push(command);
    if (this.#current === null && this.#waiting.length === 1) this.#options.submitChore(() => this.#startNext());
  }

  abort(key: number): void {
    const waiting = this.#waiting.findIndex((command) => command.key === key);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    // A running one is dropped at its next chunk, which is queued already.
    if (this.#current?.command.key === key) this.#current = null;
  }

  #startNext(): void {
    const command = this.#waiting.shift();
    if (command === undefined) return;
    this.#embedder ??= Embedder.create(this.#loaded);
    if (this.#embedder === null) {
      const message = "no context for embeddings could be made";
      this.#options.report({ kind: "request-failed", key: command.key, code: "engine-out-of-memory", message });
      this.#startNext();
      return;
    }
    const run = this.#embedder.start(command.inputs.slice(0, this.#embedder.inputsTogether));
    this.#current = { command, vectors: [], run };
    this.#advance(this.#embedder);
  }

  #advance(embedder: Embedder): void {
    const current = this.#current;
    if (current === null) {
      this.#startNext();
      return;
    }
    const result = embedder.advance(current.run);
    if (result !== null && "errorCode" in result) {
      this.#options.onFatal(`llama_decode answered ${result.errorCode} for embeddings`);
    }
    if (result !== null) {
      current.vectors.push(...result);
      const { inputs, key } = current.command;
      const done = current.vectors.length;
      if (done === inputs.length) {
        this.#options.report({ kind: "embedded", key, vectors: current.vectors });
        this.#current = null;
      } else {
        current.run = embedder.start(inputs.slice(done, done + embedder.inputsTogether));
      }
    }
    this.#options.submitChore(() => this.#advance(embedder));
  }
}
