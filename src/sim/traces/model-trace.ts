/**
 * Which model was asked for when, and how long loads took: the tables of the GenTD26 trace (image generation, 76 base models, 15 days).
 */
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { type FileRefusal, ProblemList } from "../../wire/file-problems.ts";
import { numberAt, readCsvRows, timestampMs } from "./csv-rows.ts";

const REQUEST_COLUMNS = ["gmt_create", "predict_status", "exec_time_seconds", "checkpoint_model_version_id"] as const;
const LOAD_COLUMNS = ["timestamp_anon", "value", "container_ip"] as const;
const DAY_SECONDS = 86_400;

export interface ModelRequest {
  /** In ms since 1970, taken as UTC. */
  readonly atMs: number;
  readonly modelId: string;
  readonly execSeconds: number;
  readonly hasSucceeded: boolean;
}

export interface ModelTrace {
  /** By time; at least one. */
  readonly requests: readonly ModelRequest[];
  /** Rows that name no model, which are left out. */
  readonly skippedCount: number;
}

export function readModelTrace(text: string): Outcome<ModelTrace, FileRefusal> {
  const problems = new ProblemList();
  const requests: ModelRequest[] = [];
  let skippedCount = 0;
  for (const row of readCsvRows(text, REQUEST_COLUMNS, problems)) {
    const [time = "", status = "", , modelId = ""] = row.cells;
    const atMs = timestampMs(time);
    if (atMs === null)
      problems.add([`line ${row.line}`, REQUEST_COLUMNS[0]], time, "must be a time like 2024-11-15 16:57:50");
    const execSeconds = numberAt(row, { at: 2, column: REQUEST_COLUMNS[2], min: 0, max: DAY_SECONDS, problems });
    if (modelId === "") skippedCount++;
    else if (atMs !== null && execSeconds !== null)
      requests.push({ atMs, modelId, execSeconds, hasSucceeded: status === "SUCCEED" });
  }
  if (requests.length === 0 && problems.count === 0)
    problems.addSaid([], "empty", "must hold at least one request with a model");
  if (problems.count > 0) return no(problems.refusal({ code: "trace-invalid", title: "the model trace" }));
  return ok({ requests: requests.toSorted((a, b) => a.atMs - b.atMs), skippedCount });
}

export interface ModelLoad {
  readonly atSeconds: number;
  readonly loadMs: number;
  readonly containerId: string;
}

/** `{basemodel,lora,pipeline}_update_latency_anon.csv`, by time. */
export function readLoadLatencies(text: string): Outcome<readonly ModelLoad[], FileRefusal> {
  const problems = new ProblemList();
  const loads: ModelLoad[] = [];
  for (const row of readCsvRows(text, LOAD_COLUMNS, problems)) {
    const atSeconds = numberAt(row, { at: 0, column: LOAD_COLUMNS[0], min: 0, max: 1e11, problems });
    const loadMs = numberAt(row, { at: 1, column: LOAD_COLUMNS[1], min: 0, max: DAY_SECONDS * 1_000, problems });
    if (atSeconds !== null && loadMs !== null) loads.push({ atSeconds, loadMs, containerId: row.cells[2] ?? "" });
  }
  if (loads.length === 0 && problems.count === 0) problems.addSaid([], "empty", "must hold at least one load");
  if (problems.count > 0) return no(problems.refusal({ code: "trace-invalid", title: "the table of load latencies" }));
  return ok(loads.toSorted((a, b) => a.atSeconds - b.atSeconds));
}
