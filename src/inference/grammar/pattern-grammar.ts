/**
 * A `pattern` keyword's regular expression as grammar of the inside of a JSON string. The subset: literals, `.`, classes with
 * ranges and `\d \w \s` (negated too), groups, alternation, `* + ? {m} {m,} {m,n}`, lazy marks (without effect on what
 * matches), and `^`, `$` at the ends. An expression without an anchor may have anything before or behind it.
 *
 * Not handled: look-around, back-references, word borders, Unicode properties, anchors in the middle. Those are refused.
 * Classes are cut to what a JSON string can hold without an escape; quote and backslash as literals are written escaped.
 */
import { classText, countText, literal } from "./grammar-builder.ts";

export class PatternProblem extends Error {}

/** The engine expands repetitions; beyond this they cost more than they are worth. */
const REPEATS_MAX = 1_000;
const PATTERN_CHARS_MAX = 2_000;
const ANY = '[^"\\\\\\x00-\\x1F\\x7F]';

export function patternGrammar(source: string): string {
  if (source.length > PATTERN_CHARS_MAX)
    throw new PatternProblem(`it has ${source.length} characters, at most ${PATTERN_CHARS_MAX} are taken`);
  return new PatternReader(source).read();
}

class PatternReader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  read(): string {
    const hasStart = this.#take("^");
    const body = this.#alternatives();
    if (this.#at < this.#source.length)
      throw new PatternProblem(`it has an unexpected ${this.#source[this.#at]} at ${this.#at}`);
    const { text, hasEnd, isSplit } = body;
    // `^a|b$` anchors each branch on one side only; nobody means that.
    if (isSplit && (hasStart || hasEnd))
      throw new PatternProblem("anchors around an alternation need a group: ^(?:a|b)$");
    return `${hasStart ? "" : `${ANY}* `}(${text})${hasEnd ? "" : ` ${ANY}*`}`;
  }

  #alternatives(): { text: string; hasEnd: boolean; isSplit: boolean } {
    const branches: string[] = [];
    let hasEnd = false;
    do {
      const branch = this.#sequence();
      branches.push(branch.text);
      hasEnd ||= branch.hasEnd;
    } while (this.#take("|"));
    return { text: branches.join(" | "), hasEnd, isSplit: branches.length > 1 };
  }

  #sequence(): { text: string; hasEnd: boolean } {
    const items: string[] = [];
    while (this.#at < this.#source.length) {
      const unit = this.#peek();
      if (unit === "|" || unit === ")") break;
      if (unit === "$") {
        this.#at++;
        const next = this.#peek();
        if (next !== "") throw new PatternProblem("$ is supported at the end only");
        return { text: joined(items), hasEnd: true };
      }
      items.push(this.#quantified(this.#atom()));
    }
    return { text: joined(items), hasEnd: false };
  }

  #atom(): string {
    const unit = this.#next();
    switch (unit) {
      case "(":
        return this.#group();
      case "[":
        return this.#class();
      case ".":
        return ANY;
      case "\\":
        return this.#escape();
      case "^":
      case "*":
      case "+":
      case "?":
      case "{":
        throw new PatternProblem(`${unit} at ${this.#at - 1} is not supported there`);
      default:
        return written(unit);
    }
  }

  #group(): string {
    if (this.#take("?")) {
      if (!this.#take(":") && !this.#named()) throw new PatternProblem("look-around is not supported");
    }
    const { text, hasEnd } = this.#alternatives();
    if (hasEnd || !this.#take(")")) throw new PatternProblem("a group is not closed, or holds an anchor");
    return `(${text})`;
  }

  #named(): boolean {
    const name = /^<[A-Za-z_]\w*>/.exec(this.#source.slice(this.#at))?.[0];
    this.#at += name?.length ?? 0;
    return name !== undefined;
  }

  #quantified(atom: string): string {
    const count = this.#count();
    if (count === null) return atom;
    this.#take("?"); // lazy: the same texts match
    return `${atom}${countText(count.min, count.max)}`;
  }

  #count(): { min: number; max: number | null } | null {
    if (this.#take("*")) return { min: 0, max: null };
    if (this.#take("+")) return { min: 1, max: null };
    if (this.#take("?")) return { min: 0, max: 1 };
    const found = /^\{(\d{1,6})(,(\d{1,6})?)?\}/.exec(this.#source.slice(this.#at));
    if (found === null) return null;
    this.#at += found[0].length;
    const min = Number(found[1]);
    const max = found[2] === undefined ? min : found[3] === undefined ? null : Number(found[3]);
    if (min > REPEATS_MAX || (max !== null && (max > REPEATS_MAX || max < min))) {
      throw new PatternProblem(`${found[0]} is beyond ${REPEATS_MAX} repetitions, or no range`);
    }
    return { min, max };
  }

  #escape(): string {
    const unit = this.#next();
    const shorthand = SHORTHANDS[unit];
    if (shorthand !== undefined) return `[${shorthand}]`;
    const negated = SHORTHANDS[unit.toLowerCase()];
    if (negated !== undefined) return `[^${negated}${ALWAYS_OUT}]`;
    return written(this.#escaped(unit));
  }

  /** The character that an escape stands for. */
  #escaped(unit: string): string {
    if (unit === "u" || unit === "x") {
      const digits = new RegExp(`^[0-9a-fA-F]{${unit === "u" ? 4 : 2}}`).exec(this.#source.slice(this.#at))?.[0];
      if (digits === undefined) throw new PatternProblem(`\\${unit} needs hex digits`);
      this.#at += digits.length;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const control = CONTROLS[unit];
    if (control !== undefined) return control;
    if (unit === "" || /[A-Za-z0-9]/.test(unit)) throw new PatternProblem(`\\${unit} is not supported`);
    return unit;
  }

  #class(): string {
    const isNegated = this.#take("^");
    let members = "";
    while (this.#peek() !== "]") {
      if (this.#at >= this.#source.length) throw new PatternProblem("a class is not closed");
      members += this.#classMember(isNegated);
    }
    this.#at++;
    if (isNegated) return `[^${members}${ALWAYS_OUT}]`;
    if (members === "") throw new PatternProblem("a class holds nothing that a JSON string can hold unescaped");
    return `[${members}]`;
  }

  #classMember(isNegated: boolean): string {
    const first = this.#classUnit();
    if (first.shorthand !== null) return first.shorthand;
    const isRange = this.#peek() === "-" && this.#source[this.#at + 1] !== "]";
    if (!isRange) return inString(first.unit) || isNegated ? classText([first.unit]) : "";
    this.#at++;
    const last = this.#classUnit();
    if (last.shorthand !== null || last.unit < first.unit)
      throw new PatternProblem("a range in a class is not in order");
    if (!isNegated && /["\\]/.test(rangeOverlap(first.unit, last.unit))) {
      throw new PatternProblem("a range over the quote or the backslash is not supported");
    }
    if (!inString(first.unit)) throw new PatternProblem("control characters are not supported");
    return `${classText([first.unit])}-${classText([last.unit])}`;
  }

  #classUnit(): { unit: string; shorthand: string | null } {
    const unit = this.#next();
    if (unit !== "\\") return { unit, shorthand: null };
    const escaped = this.#next();
    const shorthand = SHORTHANDS[escaped] ?? null;
    if (shorthand !== null) return { unit: "", shorthand };
    if (SHORTHANDS[escaped.toLowerCase()] !== undefined)
      throw new PatternProblem(`\\${escaped} in a class is not supported`);
    return { unit: escaped === "b" ? "\b" : this.#escaped(escaped), shorthand: null };
  }

  #peek(): string {
    const code = this.#source.codePointAt(this.#at);
    return code === undefined ? "" : String.fromCodePoint(code);
  }

  #next(): string {
    const unit = this.#peek();
    this.#at += unit.length;
    return unit;
  }

  #take(unit: string): boolean {
    if (!this.#source.startsWith(unit, this.#at)) return false;
    this.#at += unit.length;
    return true;
  }
}

const SHORTHANDS: Readonly<Record<string, string>> = { d: "0-9", w: "A-Za-z0-9_", s: " " };
const CONTROLS: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", f: "\f", v: "\v", "0": "\0" };
/** What a JSON string cannot hold unescaped. */
const ALWAYS_OUT = '"\\\\\\x00-\\x1F\\x7F';

function inString(unit: string): boolean {
  return unit >= " " && unit !== '"' && unit !== "\\" && unit !== "\x7f";
}

function rangeOverlap(first: string, last: string): string {
  return ['"', "\\"].filter((unit) => unit >= first && unit <= last).join("");
}

/** A character as a JSON string spells it. */
function written(unit: string): string {
  return literal(JSON.stringify(unit).slice(1, -1));
}

function joined(items: readonly string[]): string {
  return items.length === 0 ? '""' : items.join(" ");
}
