/**
 * Rows of a comma-separated table whose first line names the columns, with their line numbers, so that what is wrong can be said with
 * its place. Columns that nobody asked for are passed over. Quoting is refused: no trace that is read here needs it.
 */
import type { ProblemList } from "../../wire/file-problems.ts";

/** The longest known trace has 36,046 rows. */
export const ROWS_MAX = 5_000_000;

export interface CsvRow {
  /** From 1; the header is line 1. */
  readonly line: number;
  /** In the order in which the columns were asked for. */
  readonly cells: readonly string[];
}

export function readCsvRows(text: string, columns: readonly string[], problems: ProblemList): CsvRow[] {
  const lines = text.split("\n");
  const header = (lines[0] ?? "")
    .replace(/^\uFEFF/, "")
    .trimEnd()
    .split(",");
  const places = columns.map((name) => header.indexOf(name));
  for (const [at, name] of columns.entries())
    if (places[at] === -1) problems.add(["line 1"], lines[0], `must name the column ${name}`);
  if (lines.length > ROWS_MAX) problems.addSaid([], `${lines.length} lines long`, `must have at most ${ROWS_MAX}`);
  if (problems.count > 0) return [];
  const rows: CsvRow[] = [];
  for (let at = 1; at < lines.length; at++) {
    const row = (lines[at] ?? "").trimEnd();
    if (row === "") continue;
    const cells = row.split(",");
    if (row.includes('"')) problems.add([`line ${at + 1}`], row, "must have no quotation marks");
    else if (cells.length !== header.length)
      problems.add([`line ${at + 1}`], row, `must have ${header.length} fields, has ${cells.length}`);
    else rows.push({ line: at + 1, cells: places.map((place) => cells[place] ?? "") });
  }
  return rows;
}

/** A number within bounds, or null with the problem noted. */
export function numberAt(
  row: CsvRow,
  more: {
    readonly at: number;
    readonly column: string;
    readonly min: number;
    readonly max: number;
    readonly problems: ProblemList;
  },
): number | null {
  const text = row.cells[more.at] ?? "";
  const value = Number(text);
  if (/^-?\d+(\.\d*)?(e[+-]?\d+)?$/i.test(text) && value >= more.min && value <= more.max) return value;
  more.problems.add([`line ${row.line}`, more.column], text, `must be a number from ${more.min} to ${more.max}`);
  return null;
}

const TIME = /^(\d{4})-(\d{2})-(\d{2})[ T](\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(?:Z|\+00:00)?$/;
const SECOND_MS = 1_000;

/** `2023-11-16 18:15:46.6805900`, taken as UTC, in ms with their fraction; null when it is no time of the calendar. */
export function timestampMs(text: string): number | null {
  const found = TIME.exec(text);
  if (found === null) return null;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = found.slice(1, 7).map(Number);
  const ms = Date.UTC(year, month - 1, day, hour, minute, second);
  const back = new Date(ms);
  const isReal =
    back.getUTCMonth() === month - 1 && back.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  return isReal ? ms + Number(found[7] ?? "0") * SECOND_MS : null;
}
