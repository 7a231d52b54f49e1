/**
 * How many tokens of a provider's part are charged. Where the grid has the model's vocabulary it counts the text that was delivered; what the
 * provider says counts only where it is less. Where there is no vocabulary, the provider's word is held to what the text can have: a token
 * shows at least one byte.
 */
import type { CloudPart } from "../../../domain/receipt.ts";
import type { CloudUsage } from "../../../ports/cloud.ts";
import type { Tokenizer } from "../../../ports/tokenizer.ts";
import type { UsedCloudPart } from "./leg-events.ts";

/** English text has about four bytes a token, other languages fewer: counted this way a tenant pays rather too little. */
const BYTES_PER_TOKEN_GUESS = 4;
/** Marks around a call that its text does not show. */
const CALL_MARK_TOKENS = 32;
/** Differences that vocabularies and templates of the same model explain. */
const USUAL_DIFFERENCE = { share: 0.1, tokens: 16 };

export interface CountedTokens {
  readonly tokens: number;
  readonly countedBy: CloudPart["countedBy"];
}

export function estimatedTokens(text: string): number {
  return Math.floor(utf8Length(text) / BYTES_PER_TOKEN_GUESS);
}

/** How many tokens a text has; an estimate where there is no vocabulary. */
export function tokenCounter(tokenizer: Tokenizer | null): (text: string) => Promise<number> {
  if (tokenizer === null) return (text) => Promise.resolve(estimatedTokens(text));
  return async (text) => (await tokenizer.tokenize([{ text, special: false }], { addBos: false })).length;
}

/** `own`: tokens of the part's text in the grid's vocabulary, its end token included; null where there is none. */
export function outputTokensOf(part: UsedCloudPart, own: number | null): CountedTokens {
  const told = part.usage?.completionTokens ?? null;
  const mostTokens = utf8Length(part.text) + (part.hasCalls ? CALL_MARK_TOKENS : 0) + (part.hasEnded ? 1 : 0);
  return lesser({ own, told: told === null ? null : Math.min(told, mostTokens), guess: estimatedTokens(part.text) });
}

/** `most`: where `own` is null, the bytes of the prompt; nothing has more tokens than that. */
export function promptTokensOf(
  usage: CloudUsage | null,
  by: { readonly own: number | null; readonly most: number },
): CountedTokens {
  const told = usage === null ? null : Math.min(usage.promptTokens, by.most);
  return lesser({ own: by.own, told, guess: Math.floor(by.most / BYTES_PER_TOKEN_GUESS) });
}

/** Whether both count and differ by more than two counts of one thing usually do. */
export function isUnusual(own: number | null, told: number | null): boolean {
  if (own === null || told === null) return false;
  return Math.abs(own - told) > USUAL_DIFFERENCE.tokens + USUAL_DIFFERENCE.share * Math.max(own, told);
}

function lesser(counts: { own: number | null; told: number | null; guess: number }): CountedTokens {
  const { own, told, guess } = counts;
  if (own === null)
    return told === null ? { tokens: guess, countedBy: "estimate" } : { tokens: told, countedBy: "upstream" };
  return told !== null && told < own
    ? { tokens: told, countedBy: "upstream" }
    : { tokens: own, countedBy: "vocabulary" };
}

export function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}
