/** Looks metadata up by key and insists on its type: what is missing or wrong is refused by name. */
import type { GgufArray, GgufHeader, GgufValue } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import { numbersOf } from "./gguf-values.ts";

export class Metadata {
  readonly #header: GgufHeader;

  constructor(header: GgufHeader) {
    this.#header = header;
  }

  has(key: string): boolean {
    return this.#header.entries.has(key);
  }

  isArray(key: string): boolean {
    return this.#value(key)?.type === "array";
  }

  text(key: string): string {
    return this.textOrNull(key) ?? missing(key);
  }

  textOrNull(key: string): string | null {
    const value = this.#value(key);
    if (value === null) return null;
    if (value.type !== "string") throw new GgufProblem("bad-metadata", `${key} is ${shown(value)}, not a string`);
    return value.value;
  }

  /** An integer from `least` to `most`. */
  integer(key: string, range: { readonly least: number; readonly most: number }): number {
    return this.integerOrNull(key, range) ?? missing(key);
  }

  integerOrNull(key: string, range: { readonly least: number; readonly most: number }): number | null {
    const value = this.#value(key);
    if (value === null) return null;
    if (value.type === "array" || !isIntegerIn(value.value, range)) {
      throw new GgufProblem(
        "bad-metadata",
        `${key} is ${shown(value)}, not an integer from ${range.least} to ${range.most}`,
      );
    }
    return Number(value.value);
  }

  /** One integer for every layer: the file gives one for all, or one each. */
  integerPerLayer(
    key: string,
    range: { readonly least: number; readonly most: number; readonly layers: number },
  ): readonly number[] | null {
    const value = this.#value(key);
    if (value === null) return null;
    if (value.type !== "array") return new Array<number>(range.layers).fill(this.integer(key, range));
    const isOfNumbers = value.elementType !== "string" && value.elementType !== "bool";
    const numbers = isOfNumbers ? numbersOf(value) : [];
    if (numbers.length !== range.layers || !numbers.every((number) => isIntegerIn(number, range))) {
      const message = `${key} is ${shown(value)}, not ${range.layers} integers from ${range.least} to ${range.most}`;
      throw new GgufProblem("bad-metadata", message);
    }
    return numbers.map(Number);
  }

  /** Refuses a float that is missing when needed, not finite, or not positive. */
  positiveFloatOrNull(key: string): number | null {
    const value = this.#value(key);
    if (value === null) return null;
    const isFloat = value.type === "float32" || value.type === "float64";
    const number = isFloat ? Number(value.value) : Number.NaN;
    if (!(number > 0 && number < Number.POSITIVE_INFINITY)) {
      throw new GgufProblem("bad-metadata", `${key} is ${shown(value)}, not a positive finite float`);
    }
    return number;
  }

  array(key: string): GgufArray | null {
    const value = this.#value(key);
    if (value === null) return null;
    if (value.type !== "array") throw new GgufProblem("bad-metadata", `${key} is ${shown(value)}, not an array`);
    return value;
  }

  #value(key: string): GgufValue | null {
    return this.#header.entries.get(key)?.value ?? null;
  }
}

function isIntegerIn(value: number | bigint | boolean | string, range: { least: number; most: number }): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= range.least && value <= range.most;
}

function missing(key: string): never {
  throw new GgufProblem("missing-metadata", `the file has no ${key}`);
}

function shown(value: GgufValue): string {
  if (value.type === "array") return `an array of ${value.count} × ${value.elementType}`;
  return `the ${value.type} ${String(value.value).slice(0, 80)}`;
}
