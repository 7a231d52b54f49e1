/** A draft model that knows the chain's texts and errs as often as it is told, in virtual time; its sequences may also fail, or never begin. */
import type { Engine, EngineInfo, EngineSequence, GenerateEvent, GenerateTask } from "../../src/ports/engine.ts";
import type { HeadChain } from "./head-chain.ts";

interface DraftOptions {
  /** Share of tokens that are the chain's own. */
  readonly truth: number;
  /** Share of sequences that fail, and of those that never say anything. */
  readonly failures: number;
  readonly luck: () => number;
  readonly tokenMs: number;
  readonly vocabulary: number;
}

export class ScriptedDraft implements Engine {
  readonly #chain: HeadChain;
  readonly #options: DraftOptions;
  readonly exited = new Promise<never>(() => undefined);
  readonly info: EngineInfo = {
    libraryVersion: "0",
    variant: "cpu",
    numericClass: "scripted",
    vocabSize: 64,
    embeddingLength: 8,
    contextTokens: 2_048,
    sequencesMax: 4,
    layersOffloaded: 0,
    processId: 2,
  };
  running = 0;

  constructor(chain: HeadChain, options: DraftOptions) {
    this.#chain = chain;
    this.#options = options;
  }

  generate(task: GenerateTask, onEvent: (event: GenerateEvent) => void): EngineSequence {
    const { luck, failures, tokenMs } = this.#options;
    const isMute = luck() < failures;
    const failsAt = luck() < failures ? Math.floor(luck() * task.tokensMax) : Number.POSITIVE_INFINITY;
    const tokens = [...task.tokenIds];
    let isOver = false;
    this.running += 1;
    const end = () => {
      if (!isOver) this.running -= 1;
      isOver = true;
    };
    const step = (made: number) => {
      if (isOver) return;
      if (made === failsAt) {
        end();
        onEvent({ kind: "failed", code: "engine-crashed", message: "scripted" });
        return;
      }
      if (made === task.tokensMax) {
        end();
        onEvent({ kind: "end", reason: "length", usage: { promptTokens: 0, cachedTokens: 0, outputTokens: made } });
        return;
      }
      const tokenId = this.#draw(tokens);
      tokens.push(tokenId);
      onEvent({ kind: "tokens", tokens: [{ tokenId, logprob: null, top: [] }] });
      this.#chain.after(tokenMs, () => step(made + 1));
    };
    if (!isMute) this.#chain.after(2 * tokenMs, () => step(0));
    return { abort: end };
  }

  #draw(tokens: readonly number[]): number {
    const { truth, luck, vocabulary } = this.#options;
    for (const { prompt, text } of this.#chain.requests.values()) {
      if (!prompt.every((tokenId, index) => tokenId === tokens[index])) continue;
      if (luck() < truth) return text(tokens);
    }
    return Math.floor(luck() * vocabulary);
  }

  embed(): Promise<never> {
    return Promise.reject(new Error("a draft model embeds nothing"));
  }

  exportState(): Promise<null> {
    return Promise.resolve(null);
  }

  importState(): Promise<boolean> {
    return Promise.resolve(false);
  }

  stats() {
    const none = {
      sequencesQueued: 0,
      tokensGenerated: 0,
      promptTokensDecoded: 0,
      promptTokensCached: 0,
      memoryBytes: 0,
    };
    return { sequencesRunning: this.running, ...none };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
