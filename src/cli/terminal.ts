/**
 * Where a command writes. Results go to stdout; progress and log go to stderr, so that a pipe gets results only. On a
 * terminal one progress line is rewritten in place; elsewhere each change of step is a line of its own.
 */
import { plain } from "./format.ts";

export interface Progress {
  /** What is happening, e.g. `loading the model`, with how far it is. */
  step(text: string): void;
  /** A line that stays, above the progress; also after `end`. */
  note(text: string): void;
  /** Takes the line off the screen; steps that come later are not shown. May be called twice. */
  end(): void;
}

/** A terminal that reports no width is taken for the narrowest in use. */
const COLUMNS_FALLBACK = 80;

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printText(text: string): void {
  process.stdout.write(text);
}

/** One JSON value on one line: what `--json` prints. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function openProgress(): Progress {
  const line = process.stderr.isTTY === true ? rewrittenLine() : plainLines();
  let hasEnded = false;
  return {
    step: (text) => {
      if (!hasEnded) line.step(text);
    },
    note: (text) => {
      if (!hasEnded) line.end();
      note(`fallow: ${plain(text)}`);
    },
    end: () => {
      if (!hasEnded) line.end();
      hasEnded = true;
    },
  };
}

type ProgressLine = Omit<Progress, "note">;

function rewrittenLine(): ProgressLine {
  return {
    step: (text) => {
      const width = (process.stderr.columns ?? COLUMNS_FALLBACK) - 1;
      process.stderr.write(`\r\u001b[2K${plain(text).slice(0, width)}`);
    },
    end: () => void process.stderr.write("\r\u001b[2K"),
  };
}

/** A percentage that moves would fill a log file, and steps of several parts alternate: each wording appears once, without it. */
function plainLines(): ProgressLine {
  const said = new Set<string>();
  return {
    step: (text) => {
      const words = text.replace(/(?: in)?\s*\d[\d.,]*\s*(%|s\b).*$/, "");
      if (!said.has(words)) process.stderr.write(`fallow: ${plain(words)}\n`);
      said.add(words);
    },
    end: () => undefined,
  };
}
