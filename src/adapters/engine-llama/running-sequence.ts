/** One sequence that generates: its tokens, its sampler, and the rules by which it ends. */
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import { logSumExp, topLogprobs } from "../../inference/logprobs.ts";
import { LOGITS_BROKEN, NO_CANDIDATE, type SamplerScratch, TokenSampler } from "../../inference/sampler.ts";
import { StopMatcher } from "../../inference/stop-strings.ts";
import type { GenerateCommand, SequenceEnd } from "./child-protocol.ts";
import type { GrammarMask } from "./grammar-mask.ts";
import type { Vocabulary } from "./vocabulary.ts";

export type TokenOutcome =
  | { readonly kind: "token"; readonly token: SampledToken; readonly end: StopReason | null }
  | { readonly kind: "end"; readonly reason: StopReason }
  | { readonly kind: "broken-logits" };

export interface SequenceParts {
  readonly command: GenerateCommand;
  readonly vocabulary: Vocabulary;
  readonly grammar: GrammarMask | null;
  readonly slot: number;
  readonly order: number;
  readonly cachedTokens: number;
  readonly contextTokens: number;
}

export class RunningSequence {
  readonly key: number;
  readonly slot: number;
  readonly order: number;
  readonly isBackground: boolean;
  /** Prompt and answer. */
  readonly tokens: number[];
  readonly #command: GenerateCommand;
  readonly #vocabulary: Vocabulary;
  readonly #grammar: GrammarMask | null;
  readonly #sampler: TokenSampler;
  readonly #stops: StopMatcher | null;
  readonly #cachedTokens: number;
  readonly #tokensMax: number;
  #outputTokens = 0;

  constructor(parts: SequenceParts) {
    const { command } = parts;
    this.key = command.key;
    this.slot = parts.slot;
    this.order = parts.order;
    this.isBackground = command.isBackground === true;
    this.tokens = Array.from(command.tokenIds);
    this.#command = command;
    this.#vocabulary = parts.vocabulary;
    this.#grammar = parts.grammar;
    this.#cachedTokens = parts.cachedTokens;
    this.#tokensMax = Math.min(command.tokensMax, parts.contextTokens - command.tokenIds.length);
    this.#sampler = new TokenSampler(command.sampling, command.seed, command.choice);
    const encoder = new TextEncoder();
    this.#stops =
      command.stopStrings.length === 0
        ? null
        : new StopMatcher(command.stopStrings.map((stop) => encoder.encode(stop)));
  }

  /** Tokens before the first that was generated, by whichever attempt. */
  get promptLength(): number {
    return this.#command.tokenIds.length - this.#command.generatedCount;
  }

  /**
   * Takes what earlier attempts generated into the sampler, the stop rules and the grammar. Answers why the sequence is
   * over before its first token, or null.
   */
  replay(): StopReason | "grammar-mismatch" | null {
    const generated = this.#command.tokenIds.subarray(this.#command.tokenIds.length - this.#command.generatedCount);
    for (const token of generated) {
      this.#sampler.accept(token);
      if (this.#grammar !== null && !this.#grammar.acceptIfAllowed(token)) return "grammar-mismatch";
      if (this.#stops !== null && this.#stops.push(this.#vocabulary.piece(token)).matched !== null)
        return "stop-string";
    }
    return null;
  }

  /** Draws the next token from its raw logits, which are changed. */
  next(row: Float32Array, scratch: SamplerScratch): TokenOutcome {
    const { topLogprobs: topCount, ignoreStopTokens } = this.#command;
    const logSum = topCount === null ? 0 : logSumExp(row);
    const top = topCount === null ? [] : topLogprobs(row, logSum, topCount);
    const raw = topCount === null ? null : row.slice();
    const tokenId = this.#sampler.sample(row, this.#grammar, scratch);
    if (tokenId === LOGITS_BROKEN) return { kind: "broken-logits" };
    if (tokenId === NO_CANDIDATE) return { kind: "end", reason: "grammar-end" };
    const isEnd = this.#vocabulary.isEndOfGeneration(tokenId);
    if (isEnd && ignoreStopTokens && this.#grammar !== null) return { kind: "end", reason: "grammar-end" };
    const logprob = raw === null ? null : (raw[tokenId] ?? Number.NEGATIVE_INFINITY) - logSum;
    this.#sampler.accept(tokenId);
    this.tokens.push(tokenId);
    this.#outputTokens++;
    return {
      kind: "token",
      token: { tokenId, logprob, top },
      end: this.#endAfter(tokenId, isEnd && !ignoreStopTokens),
    };
  }

  #endAfter(tokenId: number, isStopToken: boolean): StopReason | null {
    if (isStopToken) return "stop-token";
    this.#grammar?.accept(tokenId);
    if (this.#stops !== null && this.#stops.push(this.#vocabulary.piece(tokenId)).matched !== null)
      return "stop-string";
    return this.#outputTokens >= this.#tokensMax ? "length" : null;
  }

  /** Whether the token drawn last was the first one of this attempt. */
  get isFirstToken(): boolean {
    return this.#outputTokens === 1;
  }

  endReport(reason: StopReason): SequenceEnd {
    const promptTokens = this.#command.tokenIds.length;
    return { key: this.key, reason, promptTokens, cachedTokens: this.#cachedTokens, outputTokens: this.#outputTokens };
  }

  free(): void {
    this.#grammar?.free();
  }
}
