import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GbnfSampler } from "../../../test/support/gbnf-sampler.ts";
import { SCHEMAS } from "../../../test/support/sample-schemas.ts";
import { GrammarBuilder } from "./grammar-builder.ts";
import { jsonSchemaGrammar } from "./json-schema-grammar.ts";
import { integerGrammar, type NumberBounds } from "./number-grammar.ts";

const TEXTS = 300;

function grammarOf(schema: unknown): string {
  const grammar = jsonSchemaGrammar(schema);
  if (!grammar.ok) throw new Error(`${grammar.reason.pointer}: ${grammar.reason.message}`);
  return grammar.value;
}

function samples(grammar: string): readonly string[] {
  const sampler = new GbnfSampler(grammar);
  let state = 7;
  // Numerical Recipes' generator: enough to walk a grammar in many ways, the same ways each time.
  const draw = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: TEXTS }, () => sampler.sample(draw));
}

describe("a grammar of a JSON schema", () => {
  test.each(Object.entries(SCHEMAS))("writes nothing but valid values: %s", (_, schema) => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const validate = ajv.compile(typeof schema === "object" && schema !== null ? schema : schema === true);
    for (const text of samples(grammarOf(schema))) {
      const value: unknown = JSON.parse(text);
      const isValid = validate(value);
      expect(isValid, `${text}: ${ajv.errorsText(validate.errors)}`).toBe(true);
    }
  });

  test("writes dates, times and uuids of the usual form", () => {
    for (const text of samples(grammarOf({ type: "string", format: "date-time" }))) {
      expect(Number.isNaN(Date.parse(JSON.parse(text))), text).toBe(false);
    }
  });

  test("of any object writes objects", () => {
    const builder = new GrammarBuilder();
    for (const text of samples(builder.text(builder.base("object")))) expect(JSON.parse(text)).toBeTypeOf("object");
  });

  test.each([
    [
      "a keyword",
      { type: "object", properties: { a: { type: "array", uniqueItems: true } } },
      "#/properties/a/uniqueItems",
      "uniqueItems",
    ],
    ["not", { not: { type: "string" } }, "#/not", "not"],
    ["a pattern", { type: "string", pattern: "^(?!x)" }, "#/pattern", "look-around"],
    ["a format", { type: "string", format: "iban" }, "#/format", "iban"],
    ["a type", { type: "text" }, "#/type", "text"],
    ["a reference to nothing", { properties: { a: { $ref: "#/$defs/b" } } }, "#/properties/a", "points to nothing"],
    ["a reference outwards", { $ref: "https://example.com/s.json" }, "#", "leaves the schema"],
    ["a reference to itself", { $ref: "#" }, "#", "leads back"],
    [
      "a loop without a value",
      { $defs: { a: { anyOf: [{ $ref: "#/$defs/b" }] }, b: { anyOf: [{ $ref: "#/$defs/a" }] } }, $ref: "#/$defs/a" },
      "#/$defs/b/anyOf/0",
      "leads back",
    ],
    ["oneOf that may overlap", { oneOf: [{ type: "integer" }, { type: "number" }] }, "#/oneOf", "may both hold"],
    [
      "allOf without a common type",
      { allOf: [{ type: "string" }, { type: "integer" }] },
      "#/allOf/1",
      "nothing is both",
    ],
    ["nothing", false, "#", "nothing is valid"],
    ["bounds without a number", { type: "integer", minimum: 3, maximum: 2 }, "#", "no integer"],
    ["a bound with a fraction", { type: "number", minimum: 0.5 }, "#/minimum", "0.5"],
  ])("refuses %s with its place", (_, schema, pointer, said) => {
    expect(jsonSchemaGrammar(schema)).toMatchObject({
      ok: false,
      reason: { pointer, message: expect.stringContaining(said) },
    });
  });

  test("refuses what would be too large", () => {
    const wide = {
      type: "object",
      properties: Object.fromEntries(Array.from({ length: 501 }, (_, index) => [`p${index}`, {}])),
    };
    expect(jsonSchemaGrammar(wide)).toMatchObject({ ok: false });
    const many = { enum: Array.from({ length: 900 }, (_, index) => `${index}`.repeat(200)) };
    expect(jsonSchemaGrammar(many)).toMatchObject({
      ok: false,
      reason: { message: expect.stringContaining("characters") },
    });
    let deep: unknown = { type: "string" };
    for (let level = 0; level < 200; level++) deep = { type: "array", items: deep };
    expect(jsonSchemaGrammar(deep)).toMatchObject({
      ok: false,
      reason: { message: expect.stringContaining("deeper") },
    });
  });
});

describe("integers within bounds", () => {
  test("are exactly those: every small range is complete", () => {
    const small = fc.tuple(fc.integer({ min: -120, max: 1_200 }), fc.integer({ min: 0, max: 130 }));
    fc.assert(
      fc.property(small, ([low, size]) => {
        const bounds: NumberBounds = { min: BigInt(low), max: BigInt(low + size), isMinOpen: false, isMaxOpen: false };
        const grammar = integerGrammar(bounds);
        const pattern = new RegExp(`^(?:${asRegExp(grammar ?? "")})$`);
        for (let value = low - 30; value <= low + size + 30; value++) {
          expect(pattern.test(String(value)), `${value} of ${low} to ${low + size}`).toBe(
            value >= low && value <= low + size,
          );
        }
      }),
      { numRuns: 40 },
    );
  });
});

/** A grammar without rules is a regular expression once its quotes and blanks are gone. */
function asRegExp(grammar: string): string {
  return grammar.replace(/"([^"]*)"/g, "$1").replace(/ /g, "");
}
