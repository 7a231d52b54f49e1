/** `type: string` with its keywords. */
import { countText, type GrammarBuilder, literal } from "./grammar-builder.ts";
import { PatternProblem, patternGrammar } from "./pattern-grammar.ts";
import { type Schema, SchemaStop } from "./schema-problem.ts";

/** The engine expands repetitions; a longer `maxLength` is cut to it, a longer `minLength` refused. */
export const STRING_LENGTH_MAX = 2_000;

const DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])';
const TIME =
  '("0" [0-9] | "1" [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | ("+" | "-") ("0" [0-9] | "1" [0-3]) ":" [0-5] [0-9])';
const OCTET = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9]{2} | [1-9]? [0-9])';
const LABEL = "[a-z0-9] ([a-z0-9-]{0,30} [a-z0-9])?";

/** What is written for each `format`: a part of what the format allows (days up to 28, lower-case host names). */
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  "date-time": `${DATE} "T" ${TIME}`,
  uuid: '[0-9a-f]{8} "-" [0-9a-f]{4} "-4" [0-9a-f]{3} "-" [89ab] [0-9a-f]{3} "-" [0-9a-f]{12}',
  email: `[a-z0-9]{1,20} ("." [a-z0-9]{1,20}){0,3} "@" ${LABEL} ("." ${LABEL}){0,2} "." [a-z]{2,10}`,
  hostname: `${LABEL} ("." ${LABEL}){0,4}`,
  ipv4: `${OCTET} "." ${OCTET} "." ${OCTET} "." ${OCTET}`,
  uri: `"http" "s"? "://" ${LABEL} ("." ${LABEL}){0,3} ("/" [A-Za-z0-9._~-]{0,40}){0,8}`,
};

export function stringGrammar(schema: Schema, builder: GrammarBuilder, at: string): string {
  const { pattern, format } = schema;
  const [min, max] = [schema["minLength"] ?? 0, schema["maxLength"] ?? null];
  const hasLength = min !== 0 || max !== null;
  if (pattern !== undefined || format !== undefined) {
    if (hasLength) throw new SchemaStop(at, "minLength and maxLength are not supported beside pattern or format");
    return builder.rule("text", `"\\"" ${shapeGrammar({ pattern, format }, at)} "\\""`);
  }
  if (!hasLength) return builder.base("string");
  if (typeof min !== "number" || (max !== null && typeof max !== "number")) {
    throw new SchemaStop(at, "minLength and maxLength are whole numbers");
  }
  if (min > STRING_LENGTH_MAX)
    throw new SchemaStop(at, `minLength is ${min}; at most ${STRING_LENGTH_MAX} is supported`);
  if (max !== null && max < min) throw new SchemaStop(at, `minLength ${min} is above maxLength ${max}`);
  const most = max === null ? null : Math.min(max, STRING_LENGTH_MAX);
  return builder.rule("text", `"\\"" ${builder.base("char")}${countText(min, most)} "\\""`);
}

/** A pattern says more than a format, so it wins; where it cannot be compiled, a known format stands for both. */
function shapeGrammar({ pattern, format }: { pattern: unknown; format: unknown }, at: string): string {
  const known = typeof format === "string" && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
  if (typeof pattern === "string") {
    try {
      return patternGrammar(pattern);
    } catch (thrown) {
      if (!(thrown instanceof PatternProblem)) throw thrown;
      if (format !== "email" || known === undefined) {
        throw new SchemaStop(`${at}/pattern`, `pattern is not supported: ${thrown.message}`);
      }
    }
  }
  if (known === undefined) {
    const names = Object.keys(FORMATS).join(", ");
    throw new SchemaStop(`${at}/format`, `format ${JSON.stringify(format)} is not supported; ${names} are`);
  }
  return known;
}

/** A string without escapes that is none of `names`: keys of additional properties. */
export function otherKeyGrammar(names: readonly string[], builder: GrammarBuilder): string {
  // A name that needs an escape cannot be written here anyway.
  const plain = names.filter((name) => !/["\\\p{Cc}]/u.test(name));
  return builder.rule("key", `"\\"" ${othersAfter("", plain, builder)} "\\""`);
}

const PLAIN = '"\\\\\\x00-\\x1F\\x7F';

function othersAfter(prefix: string, names: readonly string[], builder: GrammarBuilder): string {
  const longer = names.filter((name) => name.length > prefix.length && name.startsWith(prefix));
  const next = [...new Set(longer.map((name) => String.fromCodePoint(name.codePointAt(prefix.length) ?? 0)))];
  const branches = next.map((unit) => `${literal(unit)} ${othersAfter(prefix + unit, names, builder)}`);
  const excluded = next.map(classMember).join("");
  branches.push(`[^${PLAIN}${excluded}] [^${PLAIN}]*`);
  if (!names.includes(prefix)) branches.push('""');
  return builder.rule("key", branches.join(" | "));
}

function classMember(unit: string): string {
  return /[[\]^\\-]/.test(unit) ? `\\x${unit.charCodeAt(0).toString(16)}` : unit;
}
