import type { Sha256Hex } from "./ids.ts";

/** How a token is drawn; the algorithm is `gumbel-topk-v1` (docs/sampling.md). */
export interface SamplingOptions {
  /** 0 to 2; 0 means argmax. */
  readonly temperature: number;
  /** 1 to 64 candidates. */
  readonly topK: number;
  /** 0 < topP <= 1. */
  readonly topP: number;
  /** OpenAI's penalties, -2 to 2, over the generated tokens of this choice. */
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** Added to a token's logit before everything else; -100 to 100; at most 300 entries, sorted by token id. */
  readonly logitBias: readonly (readonly [tokenId: number, bias: number])[];
}

export const DEFAULT_SAMPLING: SamplingOptions = {
  temperature: 1,
  topK: 40,
  topP: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  logitBias: [],
};

/** 32 bytes as hex: the key of one choice's draws, kept over all attempts. */
export type SeedHex = Sha256Hex;

export interface TokenLogprob {
  readonly tokenId: number;
  /** Natural logarithm of the model's probability (softmax of raw logits, before penalties and temperature). */
  readonly logprob: number;
}

/** One generated token with what was asked about it. */
export interface SampledToken {
  readonly tokenId: number;
  /** Null unless the request asked for logprobs. */
  readonly logprob: number | null;
  /** The likeliest tokens, best first; empty unless asked. */
  readonly top: readonly TokenLogprob[];
}

/** `stop-token`: an end-of-generation token; it is counted and billed, and its text is not shown. */
export type StopReason = "stop-token" | "stop-string" | "length" | "grammar-end";
