/** From what zod found to one refusal that names the parameter, says what was sent, and what would be right. */
import type { z } from "zod";
import { type Outcome, ok, type Refusal, refuse } from "../../../domain/refusal.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Content parts of OpenAI's API that need a model that sees or hears. */
const OTHER_PARTS: readonly unknown[] = [
  "image_url",
  "input_audio",
  "file",
  "video_url",
  "input_image",
  "input_file",
  "image",
  "document",
];

export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: unknown): Outcome<z.output<Schema>> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  if (issue === undefined) return refuse("invalid-request", "the body does not fit");
  return { ok: false, reason: refusalOf(issue, { prefix: [], body }) };
}

function refusalOf(issue: Issue, context: { prefix: Path; body: unknown }): Refusal {
  const path = [...context.prefix, ...issue.path];
  const value = valueAt(context.body, path);
  const param = paramOf(path);
  if (issue.code === "unrecognized_keys") {
    const name = paramOf([...path, issue.keys[0] ?? ""]);
    return refuse("unsupported-parameter", `parameter '${name}' is not supported; leave it out`, { param: name })
      .reason;
  }
  if (issue.code === "invalid_union") {
    if (issue.errors.length > 0) return refusalOf(closestIssue(issue.errors), { ...context, prefix: path });
    return unknownKind(value, { param });
  }
  if (value === undefined && path.length > 0) {
    return refuse("invalid-request", `parameter '${param}' is missing`, { param }).reason;
  }
  if (issue.code === "invalid_value") {
    const values = issue.values.map((allowed) => JSON.stringify(allowed)).join(", ");
    const code = issue.values.length === 1 ? "unsupported-parameter" : "invalid-request";
    const message = `parameter '${param}' is ${shown(value)}; ${issue.values.length === 1 ? "only" : "one of"} ${values} is supported`;
    return refuse(code, message, { param }).reason;
  }
  if (issue.code === "invalid_type" && issue.expected === "null") {
    return refuse("unsupported-parameter", `parameter '${param}' is not supported; leave it out`, { param }).reason;
  }
  if (issue.code === "invalid_key") {
    const why = issue.issues[0]?.message ?? "it does not fit";
    return refuse("invalid-request", `'${param}' has a key that does not fit: ${why}`, { param }).reason;
  }
  const where = path.length === 0 ? "the body" : `parameter '${param}'`;
  return refuse("invalid-request", `${where} is ${shown(value)}; ${expectation(issue)}`, { param: param || null })
    .reason;
}

function unknownKind(value: unknown, at: { param: string }): Refusal {
  if (OTHER_PARTS.includes(value)) {
    const message = `content parts of type ${shown(value)} are not supported ('${at.param}'); send text parts`;
    return refuse("unsupported-parameter", message, { param: at.param }).reason;
  }
  const message =
    value === undefined
      ? `parameter '${at.param}' is missing`
      : `parameter '${at.param}' is ${shown(value)}, which is not supported`;
  return refuse(value === undefined ? "invalid-request" : "unsupported-parameter", message, { param: at.param }).reason;
}

/**
 * Of a union's branches, the one that got furthest: its problem is what the caller meant to write. A list's length is looked at
 * when all its items fit, so a branch that minds only the length got further than one that minds an item.
 */
function closestIssue(branches: readonly (readonly Issue[])[]): Issue {
  const candidates = branches.flatMap((issues) => issues.slice(0, 1));
  const depth = (issue: Issue): number => {
    if (issue.code === "invalid_union" && issue.errors.length > 0) {
      return issue.path.length + depth(closestIssue(issue.errors));
    }
    if (issue.code === "too_big" && issue.origin === "array") return issue.path.length + 2;
    return issue.path.length + (issue.code === "invalid_type" && issue.path.length === 0 ? 0 : 1);
  };
  const furthest = Math.max(...candidates.map(depth));
  const closest = candidates.filter((issue) => depth(issue) === furthest);
  const [first] = closest;
  if (first === undefined) return { code: "custom", path: [], message: "does not fit", input: undefined };
  if (furthest > 0) return first;
  const expected = closest.flatMap((issue) => (issue.code === "invalid_type" ? [issue.expected] : []));
  return { code: "custom", path: [], message: `expected ${[...new Set(expected)].join(" or ")}`, input: undefined };
}

function expectation(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return `expected ${issue.expected === "int" ? "a whole number" : issue.expected}`;
    case "too_big":
      return `at most ${issue.maximum}${countedAs(issue.origin)} ${issue.inclusive === false ? "(exclusive) " : ""}is allowed`;
    case "too_small":
      return `at least ${issue.minimum}${countedAs(issue.origin)} ${issue.inclusive === false ? "(exclusive) " : ""}is needed`;
    default:
      return issue.message.replace(/^Invalid input: /, "");
  }
}

function countedAs(origin: string): string {
  if (origin === "array") return " items";
  return origin === "string" ? " characters" : "";
}

/** A value, short enough to repeat to the one who sent it. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  if (value === undefined) return "missing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}… (${text.length} characters)` : text;
}

function valueAt(body: unknown, path: Path): unknown {
  let at = body;
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = Reflect.get(at, key);
  }
  return at;
}

/** As OpenAI names parameters: `messages[0].content`. */
export function paramOf(path: Path): string {
  return path.reduce<string>((name, key) => {
    if (typeof key === "number") return `${name}[${key}]`;
    return name === "" ? String(key) : `${name}.${String(key)}`;
  }, "");
}
