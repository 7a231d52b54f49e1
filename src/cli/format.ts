/** Numbers, times and tables for people. Machines get `--json`. */

const BINARY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < BINARY_UNITS.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BINARY_UNITS[unit]}`;
}

/** 2.9 M, 7.2 B: how the field counts parameters. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} B`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`;
  if (count >= 1e3) return `${(count / 1e3).toFixed(1)} k`;
  return String(count);
}

export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, durationMs) / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

export function formatTime(atMs: number): string {
  return new Date(atMs).toISOString().replace("T", " ").slice(0, 19);
}

/** `1 node`, `2 nodes`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Names come from other machines: control characters could rewrite the terminal, so each becomes a visible mark. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, "\u{fffd}");
}

export interface Column {
  readonly title: string;
  readonly isRight?: boolean;
  /** On a terminal that is too narrow this column is left out, the highest number first; others never. */
  readonly dropOrder?: number;
}

const COLUMN_GAP = "  ";

/**
 * Left-aligned columns two spaces apart; an empty table says so. `width` is that of the terminal, null for a file or a pipe,
 * which gets every column. Lines that a terminal wraps cannot be read as a table.
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  empty: string,
  width: number | null = terminalColumns(),
): string {
  if (rows.length === 0) return `${empty}\n`;
  const cells = rows.map((row) => row.map(plain));
  const kept = fitting(columns, cells, width);
  const text = aligned(
    kept.map((at) => columns[at] ?? { title: "" }),
    cells.map((row) => kept.map((at) => row[at] ?? "")),
  );
  const dropped = columns.filter((_, at) => !kept.includes(at)).map(({ title }) => title);
  return dropped.length === 0
    ? text
    : `${text}(this terminal is too narrow for ${dropped.join(", ")}; --json has all)\n`;
}

function terminalColumns(): number | null {
  return process.stdout.isTTY === true ? process.stdout.columns : null;
}

function widthsOf(columns: readonly Column[], cells: readonly (readonly string[])[]): readonly number[] {
  return columns.map(({ title }, at) => Math.max(title.length, ...cells.map((row) => (row[at] ?? "").length)));
}

/** The places of the columns that stay. */
function fitting(
  columns: readonly Column[],
  cells: readonly (readonly string[])[],
  width: number | null,
): readonly number[] {
  const widths = widthsOf(columns, cells);
  const kept = new Set(columns.keys());
  const taken = () => [...kept].reduce((sum, at) => sum + (widths[at] ?? 0), (kept.size - 1) * COLUMN_GAP.length);
  const droppable = [...columns.keys()]
    .filter((at) => columns[at]?.dropOrder !== undefined)
    .sort((left, right) => (columns[right]?.dropOrder ?? 0) - (columns[left]?.dropOrder ?? 0));
  for (const at of droppable) if (width !== null && taken() > width) kept.delete(at);
  return [...kept];
}

function aligned(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cells = [columns.map(({ title }) => title), ...rows];
  const widths = widthsOf(columns, rows);
  const line = (row: readonly string[]) =>
    row
      .map((cell, at) =>
        columns[at]?.isRight === true ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0),
      )
      .join(COLUMN_GAP)
      .trimEnd();
  return `${cells.map(line).join("\n")}\n`;
}

/** `key  value` lines for one thing. */
export function fields(pairs: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${plain(value)}\n`).join("");
}
