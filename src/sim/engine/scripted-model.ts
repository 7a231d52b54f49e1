/**
 * A model without weights: the logits of the next token are a hash of everything before it, and the sampler is the real one.
 * So every text is different, every token depends on the whole prefix, and what a stream has to be when nothing disturbs it
 * can be computed beside it.
 *
 * A model of one layer, which is never split, hashes its tokens; one of several passes them through its layers one after the other, so that stages
 * of it, each with some of the layers, give the same text when they keep what they should (scripted-layers.ts).
 */
import type { SamplingOptions, SeedHex } from "../../domain/sampling.ts";
import { SamplerScratch, TokenSampler } from "../../inference/sampler.ts";
import { type DecodeWay, embeddedToken, mixed, ScriptedKv } from "./scripted-layers.ts";

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

/** What a model makes of a prefix that grows token by token. */
interface ScriptedState {
  readonly hash: number;
  take(tokenId: number, way: DecodeWay): void;
}

export class ScriptedText {
  readonly #sampler: TokenSampler;
  readonly #row = new Float32Array(SCRIPTED_VOCAB_SIZE);
  readonly #scratch = new SamplerScratch(SCRIPTED_VOCAB_SIZE);
  readonly #state: ScriptedState;

  constructor(prompt: ScriptedPrompt, layerCount = 1) {
    this.#sampler = new TokenSampler(prompt.sampling, prompt.seed, prompt.choice);
    this.#state = layerCount === 1 ? new HashedTokens() : new LayeredTokens(layerCount);
    const generatedFrom = prompt.tokenIds.length - prompt.generatedCount;
    for (const [at, tokenId] of prompt.tokenIds.entries()) {
      // A prompt of one token has no piece to be decoded in.
      this.#state.take(tokenId, at < generatedFrom && generatedFrom > 1 ? "together" : "singly");
      if (at >= generatedFrom) this.#sampler.accept(tokenId);
    }
  }

  next(): number {
    scriptedLogits(this.#state.hash, this.#row);
    const tokenId = this.#sampler.sample(this.#row, null, this.#scratch);
    this.#sampler.accept(tokenId);
    this.#state.take(tokenId, "singly");
    return tokenId;
  }
}

/** Fills a row with the logits that follow from a state. */
export function scriptedLogits(state: number, row: Float32Array): void {
  for (let id = 0; id < row.length; id++) row[id] = (mixed(state, id + 0x10000) / 2 ** 32) * LOGIT_SPREAD;
}

/** The whole answer, undisturbed; a stop token is its last one. */
export function scriptedAnswer(
  prompt: ScriptedPrompt,
  tokensMax: number,
  layerCount = 1,
): { readonly tokenIds: readonly number[]; readonly end: "stop-token" | "length" } {
  const text = new ScriptedText(prompt, layerCount);
  const tokenIds: number[] = [];
  while (tokenIds.length < tokensMax) {
    const tokenId = text.next();
    tokenIds.push(tokenId);
    if (tokenId === SCRIPTED_STOP_TOKEN) return { tokenIds, end: "stop-token" };
  }
  return { tokenIds, end: "length" };
}

class HashedTokens implements ScriptedState {
  hash = 0x811c9dc5;

  take(tokenId: number): void {
    this.hash = mixed(this.hash, tokenId);
  }
}

class LayeredTokens implements ScriptedState {
  hash = 0;
  readonly #kv: ScriptedKv;

  constructor(layerCount: number) {
    this.#kv = new ScriptedKv({ first: 0, count: layerCount });
  }

  take(tokenId: number, way: DecodeWay): void {
    this.hash = this.#kv.append(this.#kv.held, embeddedToken(tokenId), way);
  }
}
