/**
 * Two schemas that must both hold, as one. Used for `allOf`, and for keywords beside `$ref`, `anyOf` and `oneOf`. What cannot
 * be merged without losing a condition is refused.
 */
import { isSchemaObject, type Schema, SchemaStop } from "./schema-problem.ts";

const MAX_OF = ["minimum", "exclusiveMinimum", "minLength", "minItems"];
const MIN_OF = ["maximum", "exclusiveMaximum", "maxLength", "maxItems"];
export const ANNOTATIONS: ReadonlySet<string> = new Set([
  "title",
  "description",
  "default",
  "examples",
  "example",
  "$comment",
  "$schema",
  "$id",
  "id",
  "deprecated",
  "readOnly",
  "writeOnly",
  "$defs",
  "definitions",
]);

export function mergeSchemas(first: Schema, second: Schema, at: string): Schema {
  checkClosed(first, second, at);
  checkClosed(second, first, at);
  const merged: Record<string, unknown> = { ...first };
  for (const [key, value] of Object.entries(second)) {
    merged[key] = key in first ? mergedValue({ key, first: first[key], second: value }, at) : value;
  }
  return merged;
}

function mergedValue(values: { key: string; first: unknown; second: unknown }, at: string): unknown {
  const { key, first, second } = values;
  if (ANNOTATIONS.has(key) || JSON.stringify(first) === JSON.stringify(second)) return first;
  if (key === "properties" && isSchemaObject(first) && isSchemaObject(second))
    return mergedProperties(first, second, at);
  if (key === "required" && Array.isArray(first) && Array.isArray(second)) return [...new Set([...first, ...second])];
  if (key === "type") return commonTypes(first, second, at);
  if (key === "enum" && Array.isArray(first) && Array.isArray(second)) return commonValues(first, second, at);
  if (typeof first === "number" && typeof second === "number") {
    if (MAX_OF.includes(key)) return Math.max(first, second);
    if (MIN_OF.includes(key)) return Math.min(first, second);
  }
  if (["items", "additionalProperties"].includes(key)) return mergedSubschemas(first, second, at);
  throw new SchemaStop(at, `two different values of ${key} have to hold here, which is not supported`);
}

/** One schema allows no other properties: the other one may not bring any. */
function checkClosed(closed: Schema, other: Schema, at: string): void {
  if (closed["additionalProperties"] === undefined || closed["additionalProperties"] === true) return;
  const known = isSchemaObject(closed["properties"]) ? closed["properties"] : {};
  const brought = isSchemaObject(other["properties"]) ? Object.keys(other["properties"]) : [];
  const outside = brought.find((name) => !Object.hasOwn(known, name));
  if (outside === undefined) return;
  throw new SchemaStop(
    at,
    `additionalProperties of one part shuts out the property ${JSON.stringify(outside)} of another`,
  );
}

function mergedProperties(first: Schema, second: Schema, at: string): Schema {
  const merged: Record<string, unknown> = { ...first };
  for (const [name, schema] of Object.entries(second)) {
    merged[name] = Object.hasOwn(first, name) ? mergedSubschemas(first[name], schema, at) : schema;
  }
  return merged;
}

function mergedSubschemas(first: unknown, second: unknown, at: string): unknown {
  if (first === true) return second;
  if (second === true) return first;
  if (first === false || second === false) return false;
  if (isSchemaObject(first) && isSchemaObject(second)) return { allOf: [first, second] };
  throw new SchemaStop(at, "a schema is expected here");
}

function commonTypes(first: unknown, second: unknown, at: string): unknown {
  const [one, other] = [typesOf(first), typesOf(second)];
  const common = one.filter((type) => other.includes(type) || (type === "integer" && other.includes("number")));
  const widened = other.filter((type) => type === "integer" && one.includes("number") && !one.includes("integer"));
  const types = [...common, ...widened];
  if (types.length === 0) throw new SchemaStop(at, `nothing is both ${one.join(" or ")} and ${other.join(" or ")}`);
  return types.length === 1 ? types[0] : types;
}

export function typesOf(type: unknown): readonly string[] {
  if (typeof type === "string") return [type];
  return Array.isArray(type) ? type.filter((name) => typeof name === "string") : [];
}

function commonValues(first: readonly unknown[], second: readonly unknown[], at: string): readonly unknown[] {
  const allowed = new Set(second.map((value) => JSON.stringify(value)));
  const common = first.filter((value) => allowed.has(JSON.stringify(value)));
  if (common.length === 0) throw new SchemaStop(at, "two enum lists have no value in common");
  return common;
}

export function hasType(value: unknown, type: string): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isSchemaObject(value);
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}
