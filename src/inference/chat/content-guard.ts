/**
 * Nobody forges a role. The template's own text may name control tokens (`<|end|>`), what people wrote may not, yet the
 * template mixes both into one text. So before rendering every special text inside a caller's string is swapped for one
 * private-use character that occurs nowhere in the request; after rendering, those characters become parts of their own
 * that are tokenised as plain text. An end of a string that begins a special text (or a start that ends one) is swapped as
 * well, so that none can form across a border. Strings without any of it, which is nearly all, cost one scan and the
 * prompt stays one part, tokenised exactly as a reference implementation would.
 *
 * A template that cuts strings apart keeps the swap whole, because it is one UTF-16 unit.
 */
import { assert } from "../../domain/assert.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";

/** A run of the rendered prompt; `special` text may name control tokens. */
export interface PromptPart {
  readonly text: string;
  readonly special: boolean;
}

const PRIVATE_FIRST = 0xe000;
const PRIVATE_LAST = 0xf8ff;

/** One UTF-16 unit on the way through special texts; looking one up costs its length, however many texts begin alike. */
interface Branch {
  readonly next: Map<string, Branch>;
  /** A special text ends here. */
  isEnd: boolean;
}

export class SpecialTexts {
  readonly #root: Branch = { next: new Map(), isEnd: false };
  readonly #first: RegExp | null;
  readonly #properStarts = new Set<string>();
  readonly #properEnds = new Set<string>();
  readonly #longest: number;

  constructor(texts: readonly string[]) {
    const distinct = [...new Set(texts)].filter((text) => text.length > 0);
    const longestFirst = distinct.sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
    for (const text of longestFirst) {
      this.#plant(text);
      for (let length = 1; length < text.length; length++) {
        this.#properStarts.add(text.slice(0, length));
        this.#properEnds.add(text.slice(-length));
      }
    }
    this.#longest = longestFirst[0]?.length ?? 0;
    const firsts = [...this.#root.next.keys()].map((first) => first.replace(/[\\\]^-]/g, "\\$&")).join("");
    this.#first = firsts === "" ? null : new RegExp(`[${firsts}]`, "g");
  }

  /** Pieces of a text in order; those to be swapped are marked. Null when there is nothing to swap. */
  split(text: string): readonly PromptPart[] | null {
    if (this.#first === null || text === "") return null;
    const cuts = this.#occurrences(text);
    const start = this.#borderStart(text);
    const end = this.#borderEnd(text);
    if (start > 0 && !cuts.some((cut) => cut.from < start)) cuts.unshift({ from: 0, to: start });
    if (end < text.length && !cuts.some((cut) => cut.to > end)) cuts.push({ from: end, to: text.length });
    if (cuts.length === 0) return null;
    const pieces: PromptPart[] = [];
    let at = 0;
    for (const { from, to } of cuts) {
      if (from > at) pieces.push({ text: text.slice(at, from), special: true });
      pieces.push({ text: text.slice(from, to), special: false });
      at = to;
    }
    if (at < text.length) pieces.push({ text: text.slice(at), special: true });
    return pieces;
  }

  #occurrences(text: string): { from: number; to: number }[] {
    const found: { from: number; to: number }[] = [];
    assert(this.#first !== null, "there are special texts to look for");
    const first = new RegExp(this.#first);
    for (let match = first.exec(text); match !== null; match = first.exec(text)) {
      const at = match.index;
      const to = this.#longestEnd(text, at);
      if (to === at) continue;
      found.push({ from: at, to });
      first.lastIndex = to;
    }
    return found;
  }

  #plant(text: string): void {
    let branch = this.#root;
    for (let at = 0; at < text.length; at++) {
      const unit = text.charAt(at);
      const next = branch.next.get(unit) ?? { next: new Map(), isEnd: false };
      branch.next.set(unit, next);
      branch = next;
    }
    branch.isEnd = true;
  }

  /** Where the longest special text that begins at `from` ends; `from` when none does. */
  #longestEnd(text: string, from: number): number {
    let end = from;
    let branch = this.#root.next.get(text.charAt(from));
    for (let at = from + 1; branch !== undefined; at++) {
      if (branch.isEnd) end = at;
      branch = branch.next.get(text.charAt(at));
    }
    return end;
  }

  /** How much of the start is the rest of a special text; white space that a template may trim away counts as border. */
  #borderStart(text: string): number {
    const blank = text.length - text.trimStart().length;
    for (let length = Math.min(this.#longest - 1, text.length - blank); length > 0; length--) {
      if (this.#properEnds.has(text.slice(blank, blank + length))) return blank + length;
    }
    return this.#properEnds.has(text.slice(0, 1)) ? 1 : 0;
  }

  #borderEnd(text: string): number {
    const length = text.trimEnd().length;
    for (let size = Math.min(this.#longest - 1, length); size > 0; size--) {
      if (this.#properStarts.has(text.slice(length - size, length))) return length - size;
    }
    return text.length;
  }
}

/** One request's swaps. Guard every string of the caller first, render, then split. */
export class ContentGuard {
  readonly #specials: SpecialTexts;
  readonly #used: ReadonlySet<string>;
  readonly #swaps = new Map<string, string>();
  #next = PRIVATE_FIRST;

  /** `strings`: every text of the request that reaches the template, for the private-use characters in them. */
  constructor(specials: SpecialTexts, strings: readonly string[]) {
    this.#specials = specials;
    this.#used = new Set(strings.flatMap((text) => text.match(/[\uE000-\uF8FF]/g) ?? []));
  }

  guard(text: string): Outcome<string> {
    const pieces = this.#specials.split(text);
    if (pieces === null) return ok(text);
    let guarded = "";
    for (const piece of pieces) {
      const swapped = piece.special ? piece.text : this.#swapOf(piece.text);
      if (swapped === null) {
        return refuse(
          "invalid-request",
          "the messages hold too many different control texts and private-use characters",
          {
            param: "messages",
          },
        );
      }
      guarded += swapped;
    }
    return ok(guarded);
  }

  split(rendered: string): readonly PromptPart[] {
    if (this.#swaps.size === 0) return [{ text: rendered, special: true }];
    const originals = new Map([...this.#swaps].map(([text, swap]) => [swap, text]));
    const parts: PromptPart[] = [];
    let plain = "";
    for (const unit of rendered.split(/([\uE000-\uF8FF])/)) {
      const original = originals.get(unit);
      if (original === undefined) {
        plain += unit;
        continue;
      }
      if (plain !== "") parts.push({ text: plain, special: true });
      parts.push({ text: original, special: false });
      plain = "";
    }
    if (plain !== "") parts.push({ text: plain, special: true });
    return parts;
  }

  #swapOf(text: string): string | null {
    const known = this.#swaps.get(text);
    if (known !== undefined) return known;
    while (this.#next <= PRIVATE_LAST) {
      const candidate = String.fromCharCode(this.#next++);
      if (this.#used.has(candidate)) continue;
      this.#swaps.set(text, candidate);
      return candidate;
    }
    return null;
  }
}
