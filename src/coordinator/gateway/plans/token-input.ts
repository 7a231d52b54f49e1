/** Inputs that may be text or token ids, one or several: prompts of completions, inputs of embeddings. */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { Tokenizer } from "../../../ports/tokenizer.ts";

export type TokenInput = string | readonly string[] | readonly number[] | readonly (readonly number[])[];

/**
 * `special`: whether text may name control tokens. The prompt of a completion may, as its sender writes all of it; token ids
 * must be of the vocabulary.
 */
export async function inputTokens(
  input: TokenInput,
  options: { tokenizer: Tokenizer; param: string; special: boolean },
): Promise<Outcome<readonly (readonly number[])[]>> {
  const { tokenizer, param } = options;
  const all: (readonly number[])[] = [];
  for (const one of listOf(input)) {
    const ids = typeof one === "string" ? await textTokens(one, options) : one;
    const unknown = ids.find((tokenId) => tokenId >= tokenizer.vocabSize);
    if (unknown !== undefined) {
      return refuse(
        "invalid-request",
        `token ${unknown} is not in the vocabulary; ids are 0 to ${tokenizer.vocabSize - 1}`,
        {
          param,
        },
      );
    }
    if (ids.length === 0) return refuse("invalid-request", `'${param}' holds an input without any token`, { param });
    all.push(ids);
  }
  return ok(all);
}

async function textTokens(
  text: string,
  options: { tokenizer: Tokenizer; special: boolean },
): Promise<readonly number[]> {
  const { tokenizer, special } = options;
  const bos = tokenizer.bosToken?.text ?? "";
  const addBos = !special || bos === "" || !text.startsWith(bos);
  return await tokenizer.tokenize([{ text, special }], { addBos });
}

function listOf(input: TokenInput): readonly (string | readonly number[])[] {
  if (typeof input === "string") return [input];
  const texts: (string | readonly number[])[] = [];
  const ids: number[] = [];
  for (const item of input) {
    if (typeof item === "number") ids.push(item);
    else texts.push(item);
  }
  return ids.length > 0 ? [ids] : texts;
}
