/**
 * What is wrong with a file that a person wrote or fetched: where, what stands there, what would be right. Several at once, so that
 * it is mended in one go; bounded, so that a file of garbage costs no more than the list.
 */
import type { z } from "zod";

export interface FileProblem {
  /** Where it stands, e.g. `machineTypes.T4.kvCapacityByLayers.3` or `links[17][2]`; empty for the whole file. */
  readonly path: string;
  /** What stands there, shortened; `nothing` when it is missing. */
  readonly value: string;
  readonly rule: string;
}

export interface FileRefusal {
  readonly code: string;
  /** The problems as lines for a person. */
  readonly message: string;
  /** The first ones, in the order of the file's parts. */
  readonly problems: readonly FileProblem[];
  /** At least so many were found. */
  readonly problemCount: number;
}

export type PathPart = string | number;

/** More would fill the screen, and the first ones usually cause the rest. */
export const PROBLEMS_SHOWN_MAX = 10;
const VALUE_CHARS_MAX = 60;
/** A name that comes from the file and stands in a path. */
const PART_CHARS_MAX = 64;
const SAID_CHARS_MAX = 200;

export class ProblemList {
  readonly problems: FileProblem[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(path: readonly PathPart[], value: unknown, rule: string): void {
    this.addSaid(path, showValue(value), rule);
  }

  /** The same with words of our own for what stands there. */
  addSaid(path: readonly PathPart[], said: string, rule: string): void {
    this.#count++;
    if (this.problems.length < PROBLEMS_SHOWN_MAX) this.problems.push({ path: showPath(path), value: said, rule });
  }

  /** All that a schema found, with the values that it looked at. */
  addIssues(error: z.ZodError, raw: unknown): void {
    for (const issue of error.issues) {
      const path = issue.path.map((part) => (typeof part === "symbol" ? String(part) : part));
      if (issue.code !== "unrecognized_keys") this.add(path, valueAt(raw, path), issue.message);
      else for (const key of issue.keys) this.add([...path, key], valueAt(raw, [...path, key]), issue.message);
    }
  }

  refusal(what: { readonly code: string; readonly title: string }): FileRefusal {
    const lines = this.problems.map(({ path, value, rule }) => `${path === "" ? "" : `${path}: `}is ${value}; ${rule}`);
    const rest = this.#count - this.problems.length;
    if (rest > 0) lines.push(`and ${rest} more`);
    const head = this.#count === 1 ? "1 problem" : `${this.#count} problems`;
    return {
      code: what.code,
      message: `${what.title} has ${head}:\n${lines.map((line) => `  ${line}`).join("\n")}`,
      problems: this.problems,
      problemCount: this.#count,
    };
  }
}

export function showPath(path: readonly PathPart[]): string {
  let text = "";
  for (const part of path) {
    const shown = typeof part === "number" ? `[${part}]` : quoteUnlessPlain(part);
    text += typeof part === "number" || text === "" || shown.startsWith("[") ? shown : `.${shown}`;
  }
  return text;
}

function quoteUnlessPlain(part: string): string {
  const short = part.length > PART_CHARS_MAX ? `${part.slice(0, PART_CHARS_MAX)}…` : part;
  return /^[\w .+-]+$/.test(short) ? short : `[${JSON.stringify(short)}]`;
}

/** JSON's way of writing, so that control characters of the file cannot reach a terminal. */
export function showValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value === "number") return String(value); // JSON would write null for what overflowed
  const text = JSON.stringify(typeof value === "string" ? value.slice(0, VALUE_CHARS_MAX) : value);
  return typeof value === "string" && value.length > VALUE_CHARS_MAX ? `${text}… (${value.length} characters)` : text;
}

function valueAt(raw: unknown, path: readonly PathPart[]): unknown {
  let value = raw;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}

/** JSON text as a value, or what is wrong with it in the parser's words, which name the place. */
export function readJsonFile(text: string): { readonly value: unknown } | { readonly problem: string } {
  try {
    return { value: JSON.parse(text) };
  } catch (thrown) {
    const said = JSON.stringify((thrown instanceof Error ? thrown.message : String(thrown)).slice(0, SAID_CHARS_MAX));
    const isNumberName = /token '[NI]'|number/.test(said) && /[:[,]\s*-?(NaN|Infinity)\b/.test(text);
    return {
      problem: `is no JSON: ${said}${isNumberName ? "; JSON has no NaN and no Infinity, leave the number out" : ""}`,
    };
  }
}
