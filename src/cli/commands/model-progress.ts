/** Shows how far a model is: a bar with the total, the rate and the time left on a terminal, a line of JSON for each change with `--json`. */
import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { CliError } from "../cli-error.ts";
import { formatBytes, formatDuration } from "../format.ts";
import type { GridClient } from "../grid-client.ts";
import { openProgress, printJson } from "../terminal.ts";

export interface BytesShown {
  readonly doneBytes: number;
  readonly totalBytes: number | null;
  readonly bytesPerSecond: number | null;
}

const BAR_CELLS = 24;
/** An event holds a job or the facts of 512 files. */
const LINE_BYTES_MAX = 1024 * 1024;

export function progressText(what: string, { doneBytes, totalBytes, bytesPerSecond }: BytesShown): string {
  if (totalBytes === null || totalBytes === 0) return what;
  const share = Math.min(1, doneBytes / totalBytes);
  const cells = Math.floor(share * BAR_CELLS);
  const bar = `[${"#".repeat(cells)}${".".repeat(BAR_CELLS - cells)}]`;
  const rate = bytesPerSecond === null || bytesPerSecond === 0 ? [] : [`${formatBytes(bytesPerSecond)}/s`];
  const left =
    bytesPerSecond === null || bytesPerSecond === 0 || share === 1
      ? []
      : [`${formatDuration(((totalBytes - doneBytes) * 1_000) / bytesPerSecond)} left`];
  const size = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  return `${what} ${Math.floor(share * 100)} % ${bar} ${[size, ...rate, ...left].join(", ")}`;
}

/** Reads events until the stream ends; each must fit the schema. Throws what `onEvent` throws. */
export async function readEvents<T>(
  body: IncomingMessage,
  schema: z.ZodType<T>,
  onEvent: (event: T) => void,
): Promise<void> {
  let rest = "";
  body.setEncoding("utf8");
  for await (const part of body) {
    rest += String(part);
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") onEvent(eventOf(line, schema));
    if (rest.length > LINE_BYTES_MAX) throw unexpected();
  }
}

function eventOf<T>(line: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw unexpected();
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw unexpected();
}

function unexpected(): CliError {
  return new CliError("the grid told of its progress in a form that this version of fallow does not know", {
    code: "answer-unexpected",
    fix: "make sure that a fallow grid of the same version runs there",
  });
}

export interface ShownProgress {
  show(what: string, bytes: BytesShown): void;
  note(text: string): void;
  end(): void;
}

/** `--json` gets events from the caller, and nothing on the terminal. */
export function openShown(isJson: boolean): ShownProgress {
  if (isJson) return { show: () => undefined, note: () => undefined, end: () => undefined };
  const progress = openProgress();
  return {
    show: (what, bytes) => progress.step(progressText(what, bytes)),
    note: (text) => progress.note(text),
    end: () => progress.end(),
  };
}

export async function eventsOf(
  grid: GridClient,
  path: string,
  call: { method: "GET" | "POST"; signal?: AbortSignal },
): Promise<IncomingMessage> {
  return (await grid.stream(path, { ...call, accept: "application/x-ndjson" })).body;
}

export function printEvent(isJson: boolean, event: Readonly<Record<string, unknown>>): void {
  if (isJson) printJson(event);
}
