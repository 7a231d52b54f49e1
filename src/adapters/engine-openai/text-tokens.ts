/**
 * Between token ids and a server that speaks text only. Ids become text by their pieces, control tokens by their names; text that comes back
 * becomes ids of the model's own vocabulary, word by word as it streams. What counts is that the ids spell exactly the text that came: that
 * is checked for each piece, and a piece that no ids spell is a fault, never a guess.
 *
 * Not handled: which ids the model really drew. A text has many spellings, and the one found here is the tokenizer's own.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Tokenizer } from "../../ports/tokenizer.ts";

/** Control tokens that are looked up; vocabularies have some hundred. */
const SPECIALS_MAX = 4_096;
/** A word longer than this is cut: chains of characters without a space must not be held back for ever. */
const HELD_CHARS_MAX = 256;
/** Vocabularies that put a space before a text: a text is looked up behind one of these, whose own ids are known, when alone it is not spelt. */
const ANCHORS = ["\n", "a", "."] as const;
/** Told to a server that cannot be given ids, and said of itself when no ids spell what it gave. */
const TEXT_ONLY = "which a server that takes text only cannot be told";

export class TextTokens {
  readonly #tokenizer: Tokenizer;
  readonly #specials: ReadonlyMap<number, string>;
  readonly #anchors = new Map<string, readonly number[]>();

  private constructor(tokenizer: Tokenizer, specials: ReadonlyMap<number, string>) {
    this.#tokenizer = tokenizer;
    this.#specials = specials;
  }

  static async of(tokenizer: Tokenizer): Promise<TextTokens> {
    const specials = new Map<number, string>();
    for (const text of tokenizer.specialTexts.slice(0, SPECIALS_MAX)) {
      const [only, ...more] = await tokenizer.tokenize([{ text, special: true }], { addBos: false });
      if (only !== undefined && more.length === 0) specials.set(only, text);
    }
    return new TextTokens(tokenizer, specials);
  }

  /**
   * A prompt as text. A beginning-of-sequence token at its start is left out: servers put it there themselves. Throws `ability-missing` where
   * the ids end in the middle of a character.
   */
  textOf(tokenIds: readonly number[]): string {
    const { bosToken } = this.#tokenizer;
    const body = tokenIds[0] !== undefined && tokenIds[0] === bosToken?.tokenId ? tokenIds.slice(1) : tokenIds;
    const bytes = Buffer.concat(
      body.map((tokenId) => {
        const special = this.#specials.get(tokenId);
        return special === undefined ? this.#tokenizer.piece(tokenId) : Buffer.from(special);
      }),
    );
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      throw new FallowError("ability-missing", `the tokens are no whole characters, ${TEXT_ONLY}`, { cause });
    }
  }

  /** Ids that spell this text, byte for byte. Throws `attached-malformed` when there are none. */
  async spell(text: string): Promise<readonly number[]> {
    const bytes = Buffer.from(text);
    const alone = await this.#tokenize(text);
    if (this.#spells(alone, bytes)) return alone;
    for (const anchor of ANCHORS) {
      const before = this.#anchors.get(anchor) ?? (await this.#tokenize(anchor));
      this.#anchors.set(anchor, before);
      const both = await this.#tokenize(anchor + text);
      const rest = both.slice(before.length);
      if (before.every((tokenId, at) => both[at] === tokenId) && this.#spells(rest, bytes)) return rest;
    }
    throw new FallowError(
      "attached-malformed",
      `no tokens of the model spell ${bytes.length} bytes that the server gave`,
    );
  }

  stream(): TextStream {
    return new TextStream(this);
  }

  #tokenize(text: string): Promise<readonly number[]> {
    return this.#tokenizer.tokenize([{ text, special: false }], { addBos: false });
  }

  #spells(tokenIds: readonly number[], bytes: Uint8Array): boolean {
    return Buffer.concat(tokenIds.map((tokenId) => this.#tokenizer.piece(tokenId))).equals(bytes);
  }
}

/** One answer: whole words are spelt, the last one waits for its end, since what follows may change its ids. */
export class TextStream {
  readonly #tokens: TextTokens;
  #held = "";

  constructor(tokens: TextTokens) {
    this.#tokens = tokens;
  }

  async push(text: string): Promise<readonly number[]> {
    this.#held += text;
    const cut = lastWordStart(this.#held);
    if (cut === 0) return [];
    const whole = this.#held.slice(0, cut);
    this.#held = this.#held.slice(cut);
    return await this.#tokens.spell(whole);
  }

  async flush(): Promise<readonly number[]> {
    const rest = this.#held;
    this.#held = "";
    return rest === "" ? [] : await this.#tokens.spell(rest);
  }
}

/** Where the last word begins, with the space before it: vocabularies hold words with theirs. 0 while nothing is whole. */
export function lastWordStart(text: string): number {
  const found = /\s\S*$/u.exec(text)?.index ?? 0;
  // A run of spaces is one pre-token in many vocabularies: it is not torn apart.
  const start = text.slice(0, found).trimEnd().length === 0 ? 0 : found;
  const isTorn = start > 0 && /\s/.test(text[start - 1] ?? "");
  const cut = isTorn ? text.slice(0, start).trimEnd().length : start;
  if (cut > 0 || text.length <= HELD_CHARS_MAX) return cut;
  const isPairAt = /[\uD800-\uDBFF]/.test(text[HELD_CHARS_MAX - 1] ?? "");
  return isPairAt ? HELD_CHARS_MAX - 1 : HELD_CHARS_MAX;
}
