/** A server's log on the disk: two files, each with a bound. What is older than both is gone. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

/** Enough for a start with all its settings and a stack; two of them are kept. */
export const LOG_BYTES_MAX = 4 * 1024 * 1024;
const TAIL_CHARS = 4_096;
const TAIL_LINES = 6;

export class BoundedLog {
  readonly #path: string;
  readonly #bytesMax: number;
  #file: number;
  #bytes: number;
  #tail = "";

  constructor(path: string, bytesMax = LOG_BYTES_MAX) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    this.#file = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#file).size;
  }

  write(data: Uint8Array): void {
    if (this.#bytes + data.length > this.#bytesMax) this.#turn();
    this.#bytes += writeSync(this.#file, data.subarray(0, this.#bytesMax));
    this.#tail = (this.#tail + Buffer.from(data).toString("utf8")).slice(-TAIL_CHARS);
  }

  /** The last lines that say something, as one. */
  lastWords(): string {
    const lines = this.#tail.split("\n").map((line) => line.trim());
    return lines
      .filter((line) => line !== "")
      .slice(-TAIL_LINES)
      .join(" | ");
  }

  close(): void {
    closeSync(this.#file);
  }

  #turn(): void {
    closeSync(this.#file);
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }
}
