/**
 * RFC 8785 (JCS): one text per value, so that a hash or a signature over it means one thing.
 *
 * What is signed holds only strings, booleans, null, safe integers, arrays and plain objects. A float is refused there:
 * its decimal form is fixed by RFC 8785 too, but few verifiers in other languages print it alike. `canonicalJson` takes
 * any JSON value (a tenant's request has floats such as `temperature`).
 */
import canonicalize from "canonicalize";
import { assert } from "../domain/assert.ts";

/** Deeper than any body that Fallow signs; a bound for the walk. */
const SIGNED_DEPTH_MAX = 16;

/** Any JSON value. An object key whose value is `undefined` is left out, as in JSON. A lone surrogate or NaN throws. */
export function canonicalJson(value: unknown): string {
  const text = canonicalize(value);
  assert(text !== undefined, "the value has a JSON form");
  return text;
}

/** A body to be signed; a value outside the narrow set above is a bug. */
export function canonicalSignedJson(value: unknown): string {
  assertSignable(value, "$", 0);
  return canonicalJson(value);
}

function assertSignable(value: unknown, path: string, depth: number): void {
  assert(depth <= SIGNED_DEPTH_MAX, `${path} is at most ${SIGNED_DEPTH_MAX} levels deep`);
  if (value === null || typeof value === "string" || typeof value === "boolean") return;
  if (typeof value === "number") {
    assert(Number.isSafeInteger(value), `${path} is a safe integer, not ${value}`);
    return;
  }
  assert(typeof value === "object", `${path} is a JSON value, not ${typeof value}`);
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) assertSignable(item, `${path}[${index}]`, depth + 1);
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  assert(prototype === Object.prototype || prototype === null, `${path} is a plain object`);
  for (const [key, item] of Object.entries(value)) assertSignable(item, `${path}.${key}`, depth + 1);
}
