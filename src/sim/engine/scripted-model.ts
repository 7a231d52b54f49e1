/**
 * A model without weights: the logits of the next token are a hash of everything before it, and the sampler is the real one.
 * So every text is different, every token depends on the whole prefix, and what a stream has to be when nothing disturbs it
 * can be computed beside it.
 */
import type { SamplingOptions, SeedHex } from "../../domain/sampling.ts";
import { SamplerScratch, TokenSampler } from "../../inference/sampler.ts";

export const SCRIPTED_VOCAB_SIZE = 64;
/** Ends a text; about one text in two runs to its full length. */
export const SCRIPTED_STOP_TOKEN = 0;
/** Distance of the best from the worst logit: with 64 tokens, temperature 1 picks among a few. */
const LOGIT_SPREAD = 12;

export interface ScriptedPrompt {
  /** Prompt, followed by what earlier attempts generated. */
  readonly tokenIds: readonly number[];
  readonly generatedCount: number;
  readonly sampling: SamplingOptions;
  readonly seed: SeedHex;
  readonly choice: number;
}

export class ScriptedText {
  readonly #sampler: TokenSampler;
  readonly #row = new Float32Array(SCRIPTED_VOCAB_SIZE);
  readonly #scratch = new SamplerScratch(SCRIPTED_VOCAB_SIZE);
  #prefix = 0x811c9dc5;

  constructor(prompt: ScriptedPrompt) {
    this.#sampler = new TokenSampler(prompt.sampling, prompt.seed, prompt.choice);
    const generatedFrom = prompt.tokenIds.length - prompt.generatedCount;
    for (const [at, tokenId] of prompt.tokenIds.entries()) {
      this.#prefix = mixed(this.#prefix, tokenId);
      if (at >= generatedFrom) this.#sampler.accept(tokenId);
    }
  }

  next(): number {
    for (let id = 0; id < SCRIPTED_VOCAB_SIZE; id++) {
      this.#row[id] = (mixed(this.#prefix, id + 0x10000) / 2 ** 32) * LOGIT_SPREAD;
    }
    const tokenId = this.#sampler.sample(this.#row, null, this.#scratch);
    this.#sampler.accept(tokenId);
    this.#prefix = mixed(this.#prefix, tokenId);
    return tokenId;
  }
}

/** The whole answer, undisturbed; a stop token is its last one. */
export function scriptedAnswer(
  prompt: ScriptedPrompt,
  tokensMax: number,
): { readonly tokenIds: readonly number[]; readonly end: "stop-token" | "length" } {
  const text = new ScriptedText(prompt);
  const tokenIds: number[] = [];
  while (tokenIds.length < tokensMax) {
    const tokenId = text.next();
    tokenIds.push(tokenId);
    if (tokenId === SCRIPTED_STOP_TOKEN) return { tokenIds, end: "stop-token" };
  }
  return { tokenIds, end: "length" };
}

/** FNV-1a step with MurmurHash3's finaliser: 32 bits in which every input bit counts. */
function mixed(state: number, value: number): number {
  let hash = Math.imul(state ^ value, 0x01000193) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
