/**
 * Requests as they came to a language model's service: when, how long the prompt was, how long the answer. Two formats: the table of
 * the Azure LLM inference traces (`TIMESTAMP,ContextTokens,GeneratedTokens`), and the JSON lines of the Mooncake traces (`timestamp`
 * in ms, `input_length`, `output_length`, `hash_ids` of prefix blocks of 512 tokens).
 */
import { z } from "zod";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { type FileRefusal, ProblemList, readJsonFile } from "../../wire/file-problems.ts";
import { numberAt, ROWS_MAX, readCsvRows, timestampMs } from "./csv-rows.ts";

/** More than any model's context; beyond it the column is another one. */
const TOKENS_MAX = 10_000_000;
const COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"] as const;
const REFUSED = { code: "trace-invalid", title: "the request trace" } as const;
const SECOND_MS = 1_000;

export interface TraceRequest {
  /** From the trace's first request, whose time is 0. */
  readonly atSeconds: number;
  /** At least 1. */
  readonly promptTokens: number;
  /** At least 1. */
  readonly outputTokens: number;
  /** Ids of the prompt's blocks of 512 tokens; equal beginnings can be reused. Empty when the trace has none. */
  readonly prefixBlocks: readonly number[];
}

export interface RequestTrace {
  /** By time; at least one. */
  readonly requests: readonly TraceRequest[];
  /** When the first came, in ms since 1970; null when the trace counts from its own start. */
  readonly startMs: number | null;
}

interface Arrival extends Omit<TraceRequest, "atSeconds"> {
  readonly atMs: number;
}

/** Either format: JSON lines begin with a brace. */
export function readRequestTrace(text: string): Outcome<RequestTrace, FileRefusal> {
  return text.trimStart().startsWith("{") ? readMooncakeTrace(text) : readAzureTrace(text);
}

export function readAzureTrace(text: string): Outcome<RequestTrace, FileRefusal> {
  const problems = new ProblemList();
  const arrivals: Arrival[] = [];
  for (const row of readCsvRows(text, COLUMNS, problems)) {
    const atMs = timestampMs(row.cells[0] ?? "");
    if (atMs === null)
      problems.add([`line ${row.line}`, COLUMNS[0]], row.cells[0], "must be a time like 2023-11-16 18:15:46.68");
    const bounds = { min: 1, max: TOKENS_MAX, problems };
    const promptTokens = numberAt(row, { at: 1, column: COLUMNS[1], ...bounds });
    const outputTokens = numberAt(row, { at: 2, column: COLUMNS[2], ...bounds });
    if (atMs !== null && promptTokens !== null && outputTokens !== null)
      arrivals.push({ atMs, promptTokens, outputTokens, prefixBlocks: [] });
  }
  return traceOf(arrivals, { problems, hasClock: true });
}

const mooncakeSchema = z.object({
  timestamp: z.number().min(0).max(1e13),
  input_length: z.int().min(1).max(TOKENS_MAX),
  output_length: z.int().min(1).max(TOKENS_MAX),
  hash_ids: z.array(z.int().min(0)).max(TOKENS_MAX).optional(),
});

export function readMooncakeTrace(text: string): Outcome<RequestTrace, FileRefusal> {
  const problems = new ProblemList();
  const arrivals: Arrival[] = [];
  const lines = text.split("\n");
  if (lines.length > ROWS_MAX) {
    problems.addSaid([], `${lines.length} lines long`, `must have at most ${ROWS_MAX}`);
    return no(problems.refusal(REFUSED));
  }
  for (const [at, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const json = readJsonFile(line);
    const parsed = "problem" in json ? null : mooncakeSchema.safeParse(json.value);
    if (parsed?.success === true) {
      const { timestamp, input_length, output_length, hash_ids } = parsed.data;
      arrivals.push({
        atMs: timestamp,
        promptTokens: input_length,
        outputTokens: output_length,
        prefixBlocks: hash_ids ?? [],
      });
      continue;
    }
    const issue = parsed?.error.issues[0];
    const path = [`line ${at + 1}`, ...(issue?.path.map(String) ?? [])];
    problems.add(path, line, issue?.message ?? "must be one JSON object on one line");
  }
  return traceOf(arrivals, { problems, hasClock: false });
}

function traceOf(
  arrivals: readonly Arrival[],
  more: { readonly problems: ProblemList; readonly hasClock: boolean },
): Outcome<RequestTrace, FileRefusal> {
  const sorted = arrivals.toSorted((a, b) => a.atMs - b.atMs); // stable: equal times keep the file's order
  const first = sorted[0];
  if (first === undefined && more.problems.count === 0)
    more.problems.addSaid([], "empty", "must hold at least one request");
  if (more.problems.count > 0 || first === undefined) return no(more.problems.refusal(REFUSED));
  const requests = sorted.map(({ atMs, ...request }) => ({ ...request, atSeconds: (atMs - first.atMs) / SECOND_MS }));
  return ok({ requests, startMs: more.hasClock ? first.atMs : null });
}
