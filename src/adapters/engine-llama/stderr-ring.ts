/** The end of what a child wrote to standard error: the cause of its death is there. */

/** Enough for the library's last lines and a native stack; the whole load log is longer and not kept. */
const KEPT_BYTES_MAX = 16 * 1024;
const LINES_MAX = 1000;

export class StderrRing {
  #text = "";

  push(chunk: string): void {
    this.#text = (this.#text + chunk).slice(-KEPT_BYTES_MAX);
  }

  /** The last lines that say something, oldest first. */
  lastLines(count: number): readonly string[] {
    const lines = this.#text.split("\n").map((line) => line.trim());
    return lines.filter((line) => line !== "" && !/^\.+$/.test(line)).slice(-Math.min(count, LINES_MAX));
  }

  /** The last lines that tell of an error, as one line; empty when none does. */
  lastErrors(count: number): string {
    const isError = /error|fail|invalid|unknown|corrupt|missing|out of memory/i;
    return this.lastLines(LINES_MAX)
      .filter((line) => isError.test(line))
      .slice(-count)
      .join(" | ");
  }

  matches(pattern: RegExp): boolean {
    return pattern.test(this.#text);
  }

  /** The last match of a global pattern. */
  findLast(pattern: RegExp): RegExpMatchArray | null {
    return [...this.#text.matchAll(pattern)].at(-1) ?? null;
  }
}
