/** A stream's lines to its events: server-sent events (`data: {…}`, ended by `[DONE]`), or one JSON object a line. */
import { parsed } from "./server-http.ts";

export type Framing = "sse" | "ndjson";

/** Null: no event, or the end mark, which says nothing that an event did not say. */
export function eventOf(line: string, framing: Framing): unknown {
  if (framing === "ndjson") return line.trim() === "" ? null : parsed(line, "the stream");
  if (!line.startsWith("data:")) {
    // Comments keep a connection alive; other fields of an event are of no use here. What is neither is no such stream.
    return line === "" || /^(?::|event:|id:|retry:)/.test(line) ? null : parsed(line, "the stream");
  }
  const data = line.slice("data:".length).trim();
  return data === "" || data === "[DONE]" ? null : parsed(data, "the stream");
}
