/** Text frames of JSON, as both ends of a link read them. */
import type { z } from "zod";

/** `undefined`, which no schema takes, when the text is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema that sees it says what was expected
  }
}

const REASON_CHARS_MAX = 120;

/** The first thing that did not fit, short enough for a log line or a close reason; it never repeats the peer's own text. */
export function whyNot(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return "unknown";
  const path = issue.path
    .map(String)
    .join(".")
    .slice(0, REASON_CHARS_MAX / 2);
  return `${path === "" ? "message" : path}: ${issue.message}`.slice(0, REASON_CHARS_MAX);
}
