/**
 * Where a command writes. Results go to stdout; progress and log go to stderr, so that a pipe gets results only. On a
 * terminal one progress line is rewritten in place; elsewhere each change of step is a line of its own.
 */
import { plain } from "./format.ts";

export interface Progress {
  /** What is happening, e.g. `loading the model`, with how far it is. */
  step(text: string): void;
  /** Leaves the last step on the screen and goes to the next line. */
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

export function openProgress(options: { isQuiet: boolean }): Progress {
  if (options.isQuiet) return { step: () => undefined, end: () => undefined };
  return process.stderr.isTTY === true ? ttyProgress() : plainProgress();
}

function ttyProgress(): Progress {
  let isOpen = false;
  return {
    step(text) {
      const width = (process.stderr.columns ?? COLUMNS_FALLBACK) - 1;
      process.stderr.write(`\r\u001b[2K${plain(text).slice(0, width)}`);
      isOpen = true;
    },
    end() {
      if (isOpen) process.stderr.write("\r\u001b[2K");
      isOpen = false;
    },
  };
}

/** A percentage that moves would fill a log file, so a line appears only when the words change. */
function plainProgress(): Progress {
  let last = "";
  return {
    step(text) {
      const words = text.replace(/\s*\d[\d.,]*\s*(%|[KMGT]?i?B).*$/, "");
      if (words !== last) process.stderr.write(`fallow: ${plain(text)}\n`);
      last = words;
    },
    end: () => undefined,
  };
}
