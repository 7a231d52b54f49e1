/** JSON schemas as people write them and as zod and pydantic make them, each with what it is there for. */
const address = {
  type: "object",
  properties: { street: { type: "string", maxLength: 12 }, zip: { type: "string", pattern: "^\\d{5}(?:-\\d{4})?$" } },
  required: ["street", "zip"],
  additionalProperties: false,
};

export const SCHEMAS: Readonly<Record<string, unknown>> = {
  "a flat object": {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer" }, ok: { type: "boolean" }, none: { type: "null" } },
    required: ["name", "age", "ok", "none"],
    additionalProperties: false,
  },
  "optional properties": {
    type: "object",
    properties: { a: { type: "integer" }, b: { type: "integer" }, c: { type: "integer" }, d: { type: "integer" } },
    required: ["c"],
  },
  "only optional properties": { type: "object", properties: { a: { type: "string" }, b: { type: "boolean" } } },
  "a required property that is not declared": { type: "object", properties: {}, required: ["x"] },
  "names with quotes and escapes": {
    type: "object",
    properties: { 'a"b\\c': { type: "integer" }, "tab\there": { type: "integer" }, é漢: { type: "integer" } },
    required: ['a"b\\c', "tab\there", "é漢"],
  },
  "a map": { type: "object", propertyNames: { type: "string" }, additionalProperties: { type: "number" } },
  "additional properties beside declared ones": {
    type: "object",
    properties: { ab: { type: "integer" }, abc: { type: "integer" }, x: { type: "integer" } },
    required: ["ab"],
    additionalProperties: { type: "string", maxLength: 5 },
  },
  "any object": { type: "object" },
  "no object members": { type: "object", additionalProperties: false },
  "an array": { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 5 },
  "an empty array": { type: "array", maxItems: 0 },
  "an array of anything": { type: "array" },
  "a tuple": { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }], items: false },
  "a tuple with a rest": { type: "array", prefixItems: [{ const: 1 }], items: { type: "boolean" }, minItems: 3 },
  "an enum of anything": { enum: ["a", 'b\n"c"', 1, -2.5, null, true, { x: [1] }, []] },
  "an enum cut by its type": { type: "string", enum: ["a", "b", 1] },
  "a const": { const: "only <this>" },
  "a nullable type": { type: ["string", "null"], maxLength: 3 },
  anyOf: { anyOf: [{ type: "string", maxLength: 2 }, { type: "integer" }, address] },
  "anyOf beside properties": {
    type: "object",
    properties: { kind: { type: "string" }, a: { type: "integer" } },
    required: ["kind"],
    anyOf: [{ properties: { kind: { const: "x" } }, required: ["a"] }, { properties: { kind: { const: "y" } } }],
  },
  "oneOf with a discriminator": {
    oneOf: [
      {
        type: "object",
        properties: { kind: { const: "cat" }, lives: { type: "integer" } },
        required: ["kind", "lives"],
      },
      { type: "object", properties: { kind: { const: "dog" }, name: { type: "string" } }, required: ["kind", "name"] },
    ],
  },
  "oneOf with distinct types": {
    oneOf: [{ type: "string" }, { type: "number" }, { type: "array", items: { type: "null" } }],
  },
  allOf: {
    allOf: [
      { type: "object", properties: { a: { type: "integer", minimum: 3 } }, required: ["a"] },
      {
        type: "object",
        properties: { a: { type: "integer", maximum: 5 }, b: { type: "string", minLength: 1, maxLength: 2 } },
        required: ["b"],
      },
    ],
  },
  references: {
    type: "object",
    properties: { from: { $ref: "#/$defs/address" }, to: { $ref: "#/$defs/address" } },
    required: ["from", "to"],
    $defs: { address },
  },
  "a reference with more beside it": {
    $defs: { n: { type: "integer", minimum: 0 } },
    $ref: "#/$defs/n",
    maximum: 9,
    description: "a digit",
  },
  "a recursive list": {
    $ref: "#/$defs/node",
    $defs: {
      node: {
        type: "object",
        properties: { value: { type: "integer" }, next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } },
        required: ["value", "next"],
        additionalProperties: false,
      },
    },
  },
  "a recursive tree of the root": {
    type: "object",
    properties: { children: { type: "array", items: { $ref: "#" } } },
    required: ["children"],
  },
  "bounded integers": {
    type: "array",
    items: { type: "integer", minimum: -107, maximum: 1999 },
    minItems: 20,
    maxItems: 20,
  },
  "safe integers, as zod writes them": { type: "integer", minimum: -9007199254740991, maximum: 9007199254740991 },
  "an integer above": { type: "integer", exclusiveMinimum: 9 },
  "an integer between fractions": { type: "integer", minimum: 0.5, maximum: 3.5 },
  "negative integers": { type: "integer", minimum: -1234, exclusiveMaximum: -9 },
  "a probability": { type: "number", minimum: 0, maximum: 1 },
  "a positive number": { type: "number", exclusiveMinimum: 0 },
  "a number on both sides of zero": { type: "number", minimum: -20, exclusiveMaximum: 5 },
  "a number below zero": { type: "number", exclusiveMaximum: 0, minimum: -3 },
  "a length": { type: "string", minLength: 3, maxLength: 6 },
  "a least length": { type: "string", minLength: 4 },
  "a pattern": { type: "string", pattern: "^[A-Z]{2,3}-\\d+(\\.\\d{1,2})?$" },
  "a pattern with classes": { type: "string", pattern: '^[^a-z\\d_-]{2}[\\w.+-]*@(?:x|y\\/z)\\\\?"?\\s?.$' },
  "a pattern without anchors": { type: "string", pattern: "b+c" },
  "a date, as zod writes it": {
    type: "string",
    format: "date",
    pattern:
      "^(?:(?:\\d\\d[2468][048]|\\d\\d[13579][26]|\\d\\d0[48]|[02468][048]00|[13579][26]00)-02-29|\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|(?:02)-(?:0[1-9]|1\\d|2[0-8])))$",
  },
  "a moment": { type: "string", format: "date-time" },
  "a uuid": { type: "string", format: "uuid" },
  anything: true,
  "anything, spelled as an object": {},
  "a type left out": { properties: { a: { items: { minLength: 1, maxLength: 2 } } }, required: ["a"] },
};
