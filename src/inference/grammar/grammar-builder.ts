/**
 * Rules of a GBNF grammar, as llama.cpp parses them. Equal bodies share one rule. The JSON base rules allow at most one blank
 * or one line break with indentation between tokens, so that a weak model cannot fill an answer with white space.
 */
import { assert } from "../../domain/assert.ts";

/** Larger grammars make every token slow: the engine walks them. */
export const GRAMMAR_CHARS_MAX = 200_000;

export class GrammarTooLarge extends Error {}

const BASE_RULES: Readonly<Record<string, string>> = {
  ws: '(" " | "\\n" [ \\t]{0,20})?',
  hex: "[0-9a-fA-F]",
  // A code point each: surrogates cannot be spelled, since half a pair is no text.
  escape: '"\\\\" (["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex))',
  char: '[^"\\\\\\x00-\\x1F\\x7F] | escape',
  string: '"\\"" char* "\\""',
  number: '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
  integer: '"-"? ("0" | [1-9] [0-9]{0,15})',
  boolean: '"true" | "false"',
  member: 'string ":" ws value',
  object: '"{" ws (member ("," ws member)* ws)? "}"',
  array: '"[" ws (value ("," ws value)* ws)? "]"',
  value: 'object | array | string | number | boolean | "null"',
};

const USES: Readonly<Record<string, readonly string[]>> = {
  escape: ["hex"],
  char: ["escape"],
  string: ["char"],
  member: ["string", "ws", "value"],
  object: ["ws", "member"],
  array: ["ws", "value"],
  value: ["object", "array", "string", "number", "boolean"],
};

export class GrammarBuilder {
  readonly #rules = new Map<string, string>();
  readonly #nameOf = new Map<string, string>();
  #chars = 0;

  /** The name of a base rule, which is then part of the grammar. */
  base(name: string): string {
    const body = BASE_RULES[name];
    assert(body !== undefined, `${name} is a base rule`);
    if (!this.#rules.has(name)) {
      this.#put(name, body);
      for (const used of USES[name] ?? []) this.base(used);
    }
    return name;
  }

  /** The name of a rule with this body; a hint of lower-case letters makes it readable. */
  rule(hint: string, body: string): string {
    const known = this.#nameOf.get(body);
    if (known !== undefined) return known;
    const name = this.reserve(hint);
    this.define(name, body);
    this.#nameOf.set(body, name);
    return name;
  }

  /** A name for a rule that refers to itself; `define` follows. */
  reserve(hint: string): string {
    const name = `${hint.replace(/[^a-z]/g, "") || "rule"}-${this.#rules.size}`;
    this.#put(name, "");
    return name;
  }

  define(name: string, body: string): void {
    this.#put(name, body);
  }

  /** The grammar's text, with what `root` is. */
  text(root: string): string {
    if (this.#chars + root.length > GRAMMAR_CHARS_MAX) throw new GrammarTooLarge();
    const rules = [...this.#rules].map(([name, body]) => `${name} ::= ${body}\n`);
    return `root ::= ${root}\n${rules.join("")}`;
  }

  #put(name: string, body: string): void {
    this.#chars += name.length + body.length + 6;
    if (this.#chars > GRAMMAR_CHARS_MAX) throw new GrammarTooLarge();
    this.#rules.set(name, body);
  }
}

/** A text as a GBNF literal. */
export function literal(text: string): string {
  let escaped = "";
  for (const unit of text) escaped += escapedIn(unit, '"\\');
  return `"${escaped}"`;
}

/** Members of a character class, escaped; a dash and a caret too. */
export function classText(characters: readonly string[]): string {
  return characters.map((unit) => escapedIn(unit, "\\]^-[")).join("");
}

function escapedIn(unit: string, special: string): string {
  const code = unit.codePointAt(0) ?? 0;
  // Dash and caret have no escape of their own in GBNF; their hex form has.
  if (unit === "-" || unit === "^") return special.includes(unit) ? `\\x${code.toString(16)}` : unit;
  if (special.includes(unit)) return `\\${unit}`;
  if (unit === "\n") return "\\n";
  if (unit === "\r") return "\\r";
  if (unit === "\t") return "\\t";
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, "0").toUpperCase()}`;
  return unit;
}

/** `item` from `min` to `max` times (null: without end), joined by `separator`. Empty when `min` is 0 and nothing is taken. */
export function repeated(item: string, times: { min: number; max: number | null; separator: string }): string {
  const { min, max, separator } = times;
  assert(max === null || max >= min, `${min} to ${max} times is a range`);
  if (max === 0) return '""';
  const more = `(${separator} ${item})${countText(Math.max(0, min - 1), max === null ? null : max - 1)}`;
  return min === 0 ? `(${item} ${more})?` : `${item} ${more}`;
}

export function countText(min: number, max: number | null): string {
  if (max === null) return min === 0 ? "*" : min === 1 ? "+" : `{${min},}`;
  return min === max ? `{${min}}` : `{${min},${max}}`;
}
