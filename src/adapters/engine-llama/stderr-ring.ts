/** The end of what a child wrote to standard error: the cause of its death is there. */

/** Enough for the library's last lines and a native stack; the whole load log is longer and not kept. */
const KEPT_BYTES_MAX = 16 * 1024;
const LINES_MAX = 1000;
/** libllama's line when a model is loaded: the only place where it says what really went to the GPU. */
const OFFLOADED = /offloaded (\d+)\/\d+ layers to GPU/;

export class StderrRing {
  #text = "";
  #unfinishedLine = "";
  readonly #offloads: number[] = [];

  push(chunk: string): void {
    this.#text = (this.#text + chunk).slice(-KEPT_BYTES_MAX);
    const lines = (this.#unfinishedLine + chunk).split("\n");
    this.#unfinishedLine = (lines.pop() ?? "").slice(-KEPT_BYTES_MAX);
    for (const line of lines) {
      const match = OFFLOADED.exec(line);
      if (match !== null && this.#offloads.length < LINES_MAX) this.#offloads.push(Number(match[1]));
    }
  }

  /** Layers on the GPU for each model that was loaded, in order, as the library told. */
  get offloadedLayers(): readonly number[] {
    return this.#offloads;
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
}
