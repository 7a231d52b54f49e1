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

const BAR_CELLS_MAX = 24;
/** A narrower bar tells less than the percentage beside it. */
const BAR_CELLS_MIN = 6;
/** Of a file's name there stays enough to know it by. */
const NAME_CHARS_MIN = 16;
/** Of a terminal that does not say. */
const COLUMNS = 80;
/** An event holds a job or the facts of 512 files. */
const LINE_BYTES_MAX = 1024 * 1024;

/** In so many columns: first the bar gives way, then the middle of a name. */
export function progressText(
  what: string,
  { doneBytes, totalBytes, bytesPerSecond }: BytesShown,
  columns = columnsNow(),
): string {
  if (totalBytes === null || totalBytes === 0) return what;
  const share = Math.min(1, doneBytes / totalBytes);
  const rate = bytesPerSecond === null || bytesPerSecond === 0 ? [] : [`${formatBytes(bytesPerSecond)}/s`];
  const left =
    bytesPerSecond === null || bytesPerSecond === 0 || share === 1
      ? []
      : [`${formatDuration(((totalBytes - doneBytes) * 1_000) / bytesPerSecond)} left`];
  const size = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  const percent = `${Math.floor(share * 100)} %`;
  const facts = [size, ...rate, ...left].join(", ");
  const roomChars = columns - 1 - percent.length - facts.length - "  ".length;
  const cells = Math.min(BAR_CELLS_MAX, roomChars - what.length - "[] ".length);
  if (cells < BAR_CELLS_MIN) return `${shortened(what, roomChars)} ${percent} ${facts}`;
  const full = Math.floor(share * cells);
  return `${what} ${percent} [${"#".repeat(full)}${".".repeat(cells - full)}] ${facts}`;
}

/** Lines of a log are as long as they are: what is said once there must not change with the figures behind it. */
function columnsNow(): number {
  return process.stderr.isTTY === true ? (process.stderr.columns ?? COLUMNS) : Number.POSITIVE_INFINITY;
}

/** Its verb and the name's end stay: files differ in their last words. */
function shortened(what: string, chars: number): string {
  const kept = Math.max(NAME_CHARS_MIN, chars);
  if (what.length <= kept) return what;
  const head = Math.floor((kept - 1) / 2);
  return `${what.slice(0, head)}…${what.slice(what.length - (kept - 1 - head))}`;
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
