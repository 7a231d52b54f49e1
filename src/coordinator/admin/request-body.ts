/** The body of an operator's request, read within a bound and held against its schema. */
import type { Context } from "hono";
import type { z } from "zod";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import { readBodyText } from "../gateway/bodies/json-body.ts";

/** Few admin bodies are longer; most are a path of 4 KiB at most. */
const BODY_BYTES_MAX = 65_536;

/** `whenEmpty`: what an empty body means. */
export async function bodyOf<T>(
  context: Context,
  schema: z.ZodType<T>,
  whenEmpty = "",
  bytesMax = BODY_BYTES_MAX,
): Promise<Outcome<T>> {
  const text = await readBodyText(context.req.raw, bytesMax);
  return text.ok ? parseBody(text.value === "" ? whenEmpty : text.value, schema) : text;
}

function parseBody<T>(text: string, schema: z.ZodType<T>): Outcome<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse("invalid-request", "the body is not JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const param = issue?.path.join(".") || null;
  return refuse("invalid-request", `${param ?? "body"}: ${issue?.message ?? "does not fit"}`, { param });
}
