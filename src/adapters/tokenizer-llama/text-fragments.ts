/**
 * Keeps callers from forging roles. Template text may name control tokens; content never does, even where a control
 * token's text stands in it, or grows out of the end of one and the beginning of the other.
 *
 * Rule: the whole text is tokenised as one string with control tokens parsed, exactly as if it came from the model's own
 * template. Where an occurrence of a control token's text is not template text through and through, its part that lies in
 * content is cut out and tokenised as plain text. Cutting is only done there, since it keeps words from merging across.
 */
import type { TokenizerPart } from "../../ports/tokenizer.ts";

export interface TextFragment {
  readonly text: string;
  readonly parsesSpecial: boolean;
}

interface TrieNode {
  readonly next: Map<number, TrieNode>;
  isEnd: boolean;
}

/** Finds control tokens' texts; made once per vocabulary. */
export class SpecialTexts {
  readonly #root: TrieNode = { next: new Map(), isEnd: false };

  constructor(texts: readonly string[]) {
    for (const text of texts) {
      let node = this.#root;
      for (let at = 0; at < text.length; at++) {
        const code = text.charCodeAt(at);
        const next = node.next.get(code) ?? { next: new Map<number, TrieNode>(), isEnd: false };
        node.next.set(code, next);
        node = next;
      }
      if (text !== "") node.isEnd = true;
    }
  }

  /** Ends of all occurrences that begin at `start`. */
  endsFrom(text: string, start: number): readonly number[] {
    let node: TrieNode | undefined = this.#root;
    let ends: number[] | null = null;
    for (let at = start; at < text.length; at++) {
      node = node.next.get(text.charCodeAt(at));
      if (node === undefined) break;
      if (node.isEnd) {
        ends ??= [];
        ends.push(at + 1);
      }
    }
    return ends ?? NONE;
  }
}

const NONE: readonly number[] = [];

export function textFragments(parts: readonly TokenizerPart[], specials: SpecialTexts): readonly TextFragment[] {
  const text = parts.map((part) => part.text).join("");
  if (text === "") return [];
  const isPlain = plainMap(parts, text.length);
  const isCut = new Uint8Array(text.length);
  let hasCut = false;
  for (let start = 0; start < text.length; start++) {
    for (const end of specials.endsFrom(text, start)) {
      for (let at = start; at < end; at++) {
        if (isPlain[at] === 0) continue;
        isCut[at] = 1;
        hasCut = true;
      }
    }
  }
  if (!hasCut) return [{ text, parsesSpecial: true }];
  const fragments: TextFragment[] = [];
  let from = 0;
  for (let at = 1; at <= text.length; at++) {
    if (at < text.length && isCut[at] === isCut[from]) continue;
    fragments.push({ text: text.slice(from, at), parsesSpecial: isCut[from] === 0 });
    from = at;
  }
  return fragments;
}

/** 1 for each UTF-16 unit that comes from content. */
function plainMap(parts: readonly TokenizerPart[], length: number): Uint8Array {
  const isPlain = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    if (!part.special) isPlain.fill(1, at, at + part.text.length);
    at += part.text.length;
  }
  return isPlain;
}
