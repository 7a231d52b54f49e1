/** Whether a value might fit two schemas. Says yes when it cannot tell. */
import { hasType, typesOf } from "./merge-schemas.ts";
import { isSchemaObject, type Schema } from "./schema-problem.ts";

export function overlapOf(first: Schema | true, second: Schema | true): boolean {
  if (first === true || second === true) return true;
  const [values, others] = [valuesOf(first), valuesOf(second)];
  if (values !== null && others !== null) return values.some((value) => isOneOf(value, others));
  const [types, otherTypes] = [typesOf(first["type"]), typesOf(second["type"])];
  if (values !== null)
    return otherTypes.length === 0 || values.some((value) => otherTypes.some((type) => hasType(value, type)));
  if (others !== null) return overlapOf(second, first);
  if (types.length === 0 || otherTypes.length === 0) return true;
  const common = types.filter((type) => otherTypes.some((other) => areSame(type, other)));
  if (common.length === 0) return false;
  return !(common.every((type) => type === "object") && haveDistinctProperty(first, second));
}

function areSame(type: string, other: string): boolean {
  const numbers = ["integer", "number"];
  return type === other || (numbers.includes(type) && numbers.includes(other));
}

/** A property that both require and that never has the same value: a discriminator. */
function haveDistinctProperty(first: Schema, second: Schema): boolean {
  const [one, other] = [first["properties"], second["properties"]];
  if (!isSchemaObject(one) || !isSchemaObject(other)) return false;
  const isRequired = (schema: Schema, name: string) =>
    Array.isArray(schema["required"]) && schema["required"].includes(name);
  return Object.keys(one).some((name) => {
    const [left, right] = [one[name], other[name]];
    if (!isSchemaObject(left) || !isSchemaObject(right)) return false;
    return isRequired(first, name) && isRequired(second, name) && !overlapOf(left, right);
  });
}

function valuesOf(schema: Schema): readonly unknown[] | null {
  if ("const" in schema) return [schema["const"]];
  return Array.isArray(schema["enum"]) ? schema["enum"] : null;
}

function isOneOf(value: unknown, others: readonly unknown[]): boolean {
  return others.some((other) => JSON.stringify(other) === JSON.stringify(value));
}
