/**
 * JSON Schema (draft 2020-12 and what older drafts share with it) to GBNF: every text that the grammar allows is valid under
 * the schema. The grammar may allow less: properties come in the schema's order, undeclared ones only where
 * `additionalProperties` is a schema or nothing is declared, and formats are written in one usual form.
 *
 * | supported | how                                                                                                  |
 * | --------- | ---------------------------------------------------------------------------------------------------- |
 * | any       | `type` (also lists), `enum`, `const`, `anyOf`, `oneOf` with distinct branches, `allOf`, `$ref` within the schema, also recursive |
 * | object    | `properties`, `required`, `additionalProperties`, `propertyNames: {type: string}`                     |
 * | array     | `items`, `prefixItems`, `minItems`, `maxItems`                                                        |
 * | string    | `minLength`, `maxLength`, `pattern` (see pattern-grammar.ts), `format`                                |
 * | number    | `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum` with whole numbers                       |
 *
 * Everything else that is no annotation is refused with its place.
 */
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { GRAMMAR_CHARS_MAX, GrammarBuilder, GrammarTooLarge, literal, repeated } from "./grammar-builder.ts";
import { ANNOTATIONS, hasType, mergeSchemas, typesOf } from "./merge-schemas.ts";
import { decimalGrammar, INTEGER_ABS_MAX, integerGrammar, type NumberBounds } from "./number-grammar.ts";
import { objectGrammar } from "./object-grammar.ts";
import { overlapOf } from "./schema-overlap.ts";
import {
  isSchemaObject,
  pointerToken,
  resolvePointer,
  type Schema,
  type SchemaProblem,
  SchemaStop,
} from "./schema-problem.ts";
import { stringGrammar } from "./string-grammar.ts";

/** Of one schema, references expanded. */
const SUBSCHEMAS_MAX = 2_000;
const DEPTH_MAX = 64;
const ITEMS_MAX = 500;
const ENUM_MAX = 1_000;
/** Every branch is compared with every other. */
const ONE_OF_MAX = 500;

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const SUPPORTED: ReadonlySet<string> = new Set([
  ...["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"],
  ...["properties", "required", "additionalProperties", "propertyNames"],
  ...["items", "prefixItems", "minItems", "maxItems"],
  ...["minLength", "maxLength", "pattern", "format"],
  ...["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
]);
/** Keywords that say nothing at this value. */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  uniqueItems: false,
  minProperties: 0,
  multipleOf: 1,
  unevaluatedProperties: true,
  nullable: false,
};
const IMPLIED: readonly (readonly [string, readonly string[]])[] = [
  ["object", ["properties", "required", "additionalProperties", "propertyNames"]],
  ["array", ["items", "prefixItems", "minItems", "maxItems"]],
  ["string", ["minLength", "maxLength", "pattern", "format"]],
  ["number", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]],
];

/** A grammar whose texts are JSON values that the schema allows. */
export function jsonSchemaGrammar(schema: unknown): Outcome<string, SchemaProblem> {
  return caught(() => {
    const builder = new GrammarBuilder();
    return builder.text(new SchemaCompiler(builder, schema).compile());
  });
}

/** Adds a schema's rules to a grammar and gives the expression of its values. */
export function addSchema(builder: GrammarBuilder, schema: unknown): Outcome<string, SchemaProblem> {
  return caught(() => new SchemaCompiler(builder, schema).compile());
}

function caught(compile: () => string): Outcome<string, SchemaProblem> {
  try {
    return ok(compile());
  } catch (thrown) {
    if (thrown instanceof SchemaStop) return no({ pointer: thrown.pointer, message: thrown.message });
    // The stack ended: a name or a pattern is compiled letter by letter.
    if (thrown instanceof RangeError) return no({ pointer: "#", message: "a name or a pattern nests too deep" });
    if (!(thrown instanceof GrammarTooLarge)) throw thrown;
    return no({ pointer: "#", message: `the schema makes a grammar of more than ${GRAMMAR_CHARS_MAX} characters` });
  }
}

export interface Place {
  readonly pointer: string;
  readonly depth: number;
  /** References taken since the last value was begun: a second time is a loop without end. */
  readonly references: readonly string[];
}

export class SchemaCompiler {
  readonly builder: GrammarBuilder;
  readonly #root: unknown;
  readonly #references = new Map<string, string>();
  #count = 0;

  constructor(builder: GrammarBuilder, root: unknown) {
    this.builder = builder;
    this.#root = root;
  }

  compile(): string {
    return this.value(this.#root, { pointer: "#", depth: 0, references: [] });
  }

  /** An expression for one value under a schema. */
  value(schema: unknown, place: Place): string {
    this.#count++;
    if (this.#count > SUBSCHEMAS_MAX) throw new SchemaStop("#", `more than ${SUBSCHEMAS_MAX} subschemas`);
    if (place.depth > DEPTH_MAX) throw new SchemaStop(place.pointer, `nested deeper than ${DEPTH_MAX} levels`);
    if (schema === true) return this.builder.base("value");
    if (schema === false) throw new SchemaStop(place.pointer, "nothing is valid under the schema false");
    if (!isSchemaObject(schema)) throw new SchemaStop(place.pointer, "a schema is an object or a boolean");
    checkKeywords(schema, place.pointer);
    const reference = schema["$ref"];
    if (reference !== undefined) return this.#reference(reference, schema, place);
    if (schema["allOf"] !== undefined) return this.value(this.#allOf(schema, place), deeper(place));
    if (schema["anyOf"] !== undefined) return this.#branches(schema, "anyOf", place);
    if (schema["oneOf"] !== undefined) return this.#branches(schema, "oneOf", place);
    if ("const" in schema) return constants([schema["const"]], schema, place.pointer);
    if (schema["enum"] !== undefined) return constants(schema["enum"], schema, place.pointer);
    return this.#typed(schema, place);
  }

  /** A rule for a value inside of another: references may be taken again from here. */
  inner(schema: unknown, place: Place, ...path: readonly string[]): string {
    const pointer = [place.pointer, ...path.map(pointerToken)].join("/");
    const expression = this.value(schema, { pointer, depth: place.depth + 1, references: [] });
    return /^[a-z]+(-\d+)?$/.test(expression)
      ? expression
      : this.builder.rule(path[1] ?? path[0] ?? "value", expression);
  }

  #reference(reference: unknown, schema: Schema, place: Place): string {
    if (typeof reference !== "string") throw new SchemaStop(place.pointer, "$ref is a string");
    if (place.references.includes(reference)) {
      throw new SchemaStop(
        place.pointer,
        `$ref ${JSON.stringify(reference)} leads back to itself without a value between`,
      );
    }
    const target = resolvePointer(this.#root, reference, place.pointer);
    const next: Place = { pointer: reference, depth: place.depth + 1, references: [...place.references, reference] };
    const { $ref: _, ...beside } = schema;
    if (Object.keys(beside).some((key) => !ANNOTATIONS.has(key)) && isSchemaObject(target)) {
      return this.value(mergeSchemas(target, beside, place.pointer), next);
    }
    const known = this.#references.get(reference);
    if (known !== undefined) return known;
    const name = this.builder.reserve("ref");
    this.#references.set(reference, name);
    this.builder.define(name, this.value(target, next));
    return name;
  }

  #allOf(schema: Schema, place: Place): Schema {
    const { allOf, ...beside } = schema;
    if (!Array.isArray(allOf)) throw new SchemaStop(place.pointer, "allOf is a list of schemas");
    let merged: Schema = beside;
    for (const [index, part] of allOf.entries()) {
      const at = `${place.pointer}/allOf/${index}`;
      const resolved = this.#resolved(part, at);
      if (resolved !== true) merged = mergeSchemas(merged, resolved, at);
    }
    return merged;
  }

  #resolved(part: unknown, at: string): Schema | true {
    let value = part;
    for (let hops = 0; isSchemaObject(value) && typeof value["$ref"] === "string"; hops++) {
      if (hops > DEPTH_MAX) throw new SchemaStop(at, "$ref leads back to itself");
      const { $ref: reference, ...beside } = value;
      const target = resolvePointer(this.#root, String(reference), at);
      value = isSchemaObject(target) ? mergeSchemas(target, beside, at) : target;
    }
    if (value === true || isSchemaObject(value)) return value;
    throw new SchemaStop(at, "nothing is valid here");
  }

  #branches(schema: Schema, keyword: "anyOf" | "oneOf", place: Place): string {
    const { [keyword]: branches, ...beside } = schema;
    if (!Array.isArray(branches) || branches.length === 0) {
      throw new SchemaStop(place.pointer, `${keyword} is a list of at least one schema`);
    }
    const hasMore = Object.keys(beside).some((key) => !ANNOTATIONS.has(key));
    const whole = branches.map((branch, index) => {
      const resolved = this.#resolved(branch, `${place.pointer}/${keyword}/${index}`);
      if (!hasMore) return branch;
      return resolved === true ? beside : mergeSchemas(beside, resolved, `${place.pointer}/${keyword}/${index}`);
    });
    if (keyword === "oneOf") this.#checkDistinct(whole, place);
    const alternatives = whole.map((branch, index) =>
      this.value(branch, { ...deeper(place), pointer: `${place.pointer}/${keyword}/${index}` }),
    );
    return alternatives.length === 1 ? (alternatives[0] ?? "") : alternatives.map((text) => `(${text})`).join(" | ");
  }

  /** `oneOf` wants exactly one branch to hold, which a grammar can promise only when no value fits two. */
  #checkDistinct(branches: readonly unknown[], place: Place): void {
    if (branches.length > ONE_OF_MAX) {
      throw new SchemaStop(
        `${place.pointer}/oneOf`,
        `oneOf has ${branches.length} branches; at most ${ONE_OF_MAX} are supported`,
      );
    }
    const resolved = branches.map((branch, index) => this.#resolved(branch, `${place.pointer}/oneOf/${index}`));
    for (const [index, branch] of resolved.entries()) {
      const other = resolved.findIndex((candidate, at) => at > index && overlapOf(branch, candidate));
      if (other === -1) continue;
      throw new SchemaStop(
        `${place.pointer}/oneOf`,
        `branches ${index} and ${other} may both hold; give them different types or a property with different const, or use anyOf`,
      );
    }
  }

  #typed(schema: Schema, place: Place): string {
    const named = typesOf(schema["type"]);
    const types =
      named.length > 0 ? named : IMPLIED.filter(([, keys]) => keys.some((key) => key in schema)).map(([type]) => type);
    if (types.length === 0) return this.builder.base("value");
    const unknown = types.find((type) => !TYPES.includes(type));
    if (unknown !== undefined)
      throw new SchemaStop(
        `${place.pointer}/type`,
        `type ${JSON.stringify(unknown)} is not one of ${TYPES.join(", ")}`,
      );
    const alternatives = types.map((type) => this.#ofType(type, schema, place));
    return alternatives.length === 1 ? (alternatives[0] ?? "") : alternatives.map((text) => `(${text})`).join(" | ");
  }

  #ofType(type: string, schema: Schema, place: Place): string {
    switch (type) {
      case "object":
        return objectGrammar(schema, this, place);
      case "array":
        return this.#array(schema, place);
      case "string":
        return stringGrammar(schema, this.builder, place.pointer);
      case "integer":
      case "number":
        return numberGrammar(type, schema, { builder: this.builder, at: place.pointer });
      case "boolean":
        return this.builder.base("boolean");
      default:
        return '"null"';
    }
  }

  #array(schema: Schema, place: Place): string {
    const ws = this.builder.base("ws");
    const prefix = schema["prefixItems"] ?? [];
    if (!Array.isArray(prefix)) throw new SchemaStop(place.pointer, "prefixItems is a list of schemas");
    const { items } = schema;
    const min = countOf(schema, "minItems", place.pointer) ?? 0;
    const max = countOf(schema, "maxItems", place.pointer);
    if (max !== null && max < min) throw new SchemaStop(place.pointer, `minItems ${min} is above maxItems ${max}`);
    if (min > ITEMS_MAX) throw new SchemaStop(place.pointer, `minItems is ${min}; at most ${ITEMS_MAX} is supported`);
    if (prefix.length > 0) return this.#tuple(prefix, { min, max, items }, place);
    if (items === false && min > 0) throw new SchemaStop(place.pointer, "items is false and minItems is above 0");
    if (items === false || max === 0) return `"[" ${ws} "]"`;
    const item = this.inner(items ?? true, place, "items");
    const times = { min, max: max === null ? null : Math.min(max, Math.max(ITEMS_MAX, min)), separator: `"," ${ws}` };
    return `"[" ${ws} ${repeated(item, times)} ${ws} "]"`;
  }

  #tuple(prefix: readonly unknown[], rest: { min: number; max: number | null; items: unknown }, place: Place): string {
    const ws = this.builder.base("ws");
    const kept = rest.max === null ? prefix : prefix.slice(0, rest.max);
    const first = kept.map((schema, index) => this.inner(schema, place, "prefixItems", String(index)));
    const missing = Math.max(0, rest.min - kept.length);
    if (missing > 0 && (rest.items === false || kept.length < prefix.length)) {
      throw new SchemaStop(place.pointer, `minItems is ${rest.min}, and only ${kept.length} items are possible`);
    }
    const more = missing === 0 ? "" : ` ("," ${ws} ${this.inner(rest.items ?? true, place, "items")}){${missing}}`;
    return `"[" ${ws} ${first.join(` "," ${ws} `)}${more} ${ws} "]"`;
  }
}

function deeper(place: Place): Place {
  return { ...place, depth: place.depth + 1 };
}

function checkKeywords(schema: Schema, at: string): void {
  for (const [key, value] of Object.entries(schema)) {
    if (SUPPORTED.has(key) || ANNOTATIONS.has(key) || key.startsWith("x-")) continue;
    if (key in NEUTRAL && NEUTRAL[key] === value) continue;
    throw new SchemaStop(`${at}/${pointerToken(key)}`, `the keyword ${JSON.stringify(key)} is not supported`);
  }
}

/** Literal values; beside them only a type may stand, which then picks among them. */
function constants(values: unknown, schema: Schema, at: string): string {
  const other = Object.keys(schema).find((key) => !["const", "enum", "type"].includes(key) && !ANNOTATIONS.has(key));
  if (other !== undefined && !other.startsWith("x-")) {
    throw new SchemaStop(`${at}/${other}`, `${other} is not supported beside enum or const`);
  }
  if (!Array.isArray(values) || values.length > ENUM_MAX) {
    throw new SchemaStop(`${at}/enum`, `enum is a list of at most ${ENUM_MAX} values`);
  }
  const listed: unknown = schema["enum"];
  const texts = Array.isArray(listed) ? new Set(listed.map((one) => JSON.stringify(one))) : null;
  const isListed = (value: unknown) => texts === null || texts.has(JSON.stringify(value));
  const types = typesOf(schema["type"]);
  const allowed = values.filter(
    (value) => isListed(value) && (types.length === 0 || types.some((type) => hasType(value, type))),
  );
  if (allowed.length === 0) throw new SchemaStop(at, "no value of enum or const fits the rest of the schema");
  return [...new Set(allowed.map((value) => literal(JSON.stringify(value))))].join(" | ");
}

function countOf(schema: Schema, keyword: string, at: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
  throw new SchemaStop(`${at}/${keyword}`, `${keyword} is a whole number of at least 0`);
}

function numberGrammar(
  type: "integer" | "number",
  schema: Schema,
  context: { builder: GrammarBuilder; at: string },
): string {
  const { builder, at } = context;
  const hasBounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].some(
    (key) => schema[key] !== undefined,
  );
  if (!hasBounds) return builder.base(type);
  const bounds = boundsOf(schema, { type, at });
  const grammar = type === "integer" ? integerGrammar(bounds) : decimalGrammar(bounds);
  if (grammar === null) throw new SchemaStop(at, `no ${type} lies within the bounds`);
  return builder.rule("bounded", grammar);
}

/** The tighter of the open and the closed bound on each side. An integer's may have a fraction; a number's may not. */
function boundsOf(schema: Schema, context: { type: "integer" | "number"; at: string }): NumberBounds {
  const read = (keyword: string, toward: (value: number) => number): bigint | null => {
    const value = schema[keyword];
    if (value === undefined) return null;
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new SchemaStop(`${context.at}/${keyword}`, `${keyword} is a number`);
    if (context.type === "number" && !Number.isInteger(value)) {
      throw new SchemaStop(
        `${context.at}/${keyword}`,
        `${keyword} is ${value}; only whole numbers are supported as bounds`,
      );
    }
    const whole = BigInt(toward(value));
    if (whole > INTEGER_ABS_MAX) return INTEGER_ABS_MAX;
    return whole < -INTEGER_ABS_MAX ? -INTEGER_ABS_MAX : whole;
  };
  const [min, max] = [read("minimum", Math.ceil), read("maximum", Math.floor)];
  const [above, below] = [read("exclusiveMinimum", Math.floor), read("exclusiveMaximum", Math.ceil)];
  const isMinOpen = above !== null && (min === null || above >= min);
  const isMaxOpen = below !== null && (max === null || below <= max);
  return { min: isMinOpen ? above : min, max: isMaxOpen ? below : max, isMinOpen, isMaxOpen };
}
