import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type BatchObject, batchListSchema, batchObjectSchema } from "../../wire/openai/batches.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { counted, formatDuration, formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { onStopSignals } from "../stop-signals.ts";
import { note, openProgress, printJson, printText } from "../terminal.ts";

const LOOK_MS = 500;
const BAR_CELLS = 24;
/** Same wording as the shell's: the command was cut off, and the batch goes on. */
const INTERRUPTED = 130;
const COLUMNS = ["batch", "status", "model", "lines", "created"].map((title) => ({ title }));
const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "expired", "cancelled"]);

export async function listBatches(options: GlobalOptions & { readonly limit: number }): Promise<void> {
  const { data } = await connectGrid(options).json(`/v1/batches?limit=${options.limit}`, batchListSchema);
  if (options.json === true) return printJson({ batches: data });
  const rows = data.map((batch) => [
    batch.id,
    stateOf(batch),
    batch.model ?? "",
    progressOf(batch),
    formatTime(batch.created_at * 1_000),
  ]);
  printText(table(COLUMNS, rows, "no batches"));
}

export async function showBatch(id: string, options: GlobalOptions): Promise<void> {
  const batch = await connectGrid(options).json(pathOf(id), batchObjectSchema);
  if (options.json === true) return printJson(batch);
  printText(`${describeBatch(batch)}\n`);
}

export async function watchBatch(id: string, options: GlobalOptions): Promise<void> {
  await followBatch(connectGrid(options), id, options);
}

export async function changeBatch(
  id: string,
  change: "cancel" | "pause" | "resume",
  options: GlobalOptions,
): Promise<void> {
  const path = `${pathOf(id)}/${change}`;
  const batch = await connectGrid(options).json(path, batchObjectSchema, { method: "POST" });
  if (options.json === true) return printJson(batch);
  note(describeBatch(batch));
}

export async function fetchResults(
  id: string,
  options: GlobalOptions & { readonly output?: string; readonly errors?: boolean },
): Promise<void> {
  const grid = connectGrid(options);
  const batch = await grid.json(pathOf(id), batchObjectSchema);
  const file = options.errors === true ? batch.error_file_id : batch.output_file_id;
  if (file === null) throw noFile(batch, options.errors === true);
  const { body } = await grid.stream(`/v1/files/${encodeURIComponent(file)}/content`);
  if (options.output === undefined) await pipeline(body, process.stdout, { end: false });
  else await pipeline(body, createWriteStream(options.output));
}

function noFile(batch: BatchObject, isErrors: boolean): CliError {
  const hasEnded = ENDED.has(batch.status);
  const what = isErrors ? "failed lines" : "results";
  return new CliError(hasEnded ? `${batch.id} has no ${what}` : `${batch.id} has not ended (${stateOf(batch)})`, {
    exitCode: EXIT.refused,
    code: "results-absent",
    fix: hasEnded ? "see `fallow batch status`" : `wait for it with \`fallow batch watch ${batch.id}\``,
  });
}

/** Shows it until it ends. Ctrl-C leaves it running. */
export async function followBatch(grid: GridClient, id: string, options: GlobalOptions): Promise<void> {
  const isJson = options.json === true;
  const progress = isJson ? null : openProgress();
  const stop = onStopSignals(() => undefined);
  let batch: BatchObject;
  try {
    for (;;) {
      batch = await grid.json(pathOf(id), batchObjectSchema);
      if (isJson) printJson(batch);
      else progress?.step(barOf(batch));
      if (ENDED.has(batch.status) || stop.signal.aborted) break;
      // Ctrl-C ends the wait as well.
      await sleep(LOOK_MS, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  } finally {
    progress?.end();
    stop.dispose();
  }
  if (!ENDED.has(batch.status)) {
    note(`${id} goes on in the grid; \`fallow batch watch ${id}\` shows it again`);
    process.exitCode = INTERRUPTED;
    return;
  }
  if (!isJson) note(describeBatch(batch));
  if (batch.status !== "completed") {
    throw new CliError(`${id} ended as ${batch.status}`, {
      exitCode: EXIT.checkFailed,
      code: `batch-${batch.status}`,
      fix: `see \`fallow batch status ${id}\``,
    });
  }
}

/** One line for a terminal. */
export function barOf(batch: BatchObject): string {
  const { total, completed, failed } = batch.request_counts;
  if (total === 0) return `${batch.id} ${stateOf(batch)}`;
  const share = (completed + failed) / total;
  const full = Math.floor(share * BAR_CELLS);
  const bar = `[${"#".repeat(full)}${".".repeat(BAR_CELLS - full)}]`;
  const { lines_per_second: rate, eta_s: restS, waits_for: waitsFor } = batch.grid;
  const facts = [
    progressOf(batch),
    ...(rate === null ? [] : [`${rate} lines/s`]),
    ...(restS === null || share === 1 ? [] : [`${formatDuration(restS * 1_000)} left`]),
    ...(waitsFor === null ? [] : [`waits: ${waitsFor}`]),
  ];
  return `${stateOf(batch)} ${Math.floor(share * 100)} % ${bar} ${facts.join(", ")}`;
}

export function describeBatch(batch: BatchObject): string {
  const { errors, usage, grid } = batch;
  const used =
    usage.total_tokens === 0 ? [] : [`${usage.input_tokens} prompt and ${usage.output_tokens} output tokens`];
  const waits = grid.waits_for === null ? [] : [`nothing begins: ${grid.waits_for}`];
  const files = [
    ...(batch.output_file_id === null ? [] : [`results: ${batch.output_file_id}`]),
    ...(batch.error_file_id === null ? [] : [`failed lines: ${batch.error_file_id}`]),
  ];
  const problems = (errors?.data ?? []).map(
    ({ line, code, message }) => `${line === null ? "" : `line ${line}: `}${message} (${code})`,
  );
  const facts = [...(batch.request_counts.total === 0 ? [] : [progressOf(batch)]), ...used, ...waits, ...files];
  return [`${batch.id} ${stateOf(batch)}${facts.length === 0 ? "" : `: ${facts.join(", ")}`}`, ...problems].join("\n");
}

function stateOf({ status, grid }: BatchObject): string {
  return grid.is_paused && !ENDED.has(status) ? `${status} (paused)` : status;
}

function progressOf({ request_counts: { total, completed, failed } }: BatchObject): string {
  const bad = failed === 0 ? "" : `, ${failed} failed`;
  return `${completed + failed} of ${counted(total, "line")}${bad}`;
}

function pathOf(id: string): string {
  return `/v1/batches/${encodeURIComponent(id)}`;
}
