/** Main memory that a process holds, where the system tells it by a file; 0 elsewhere. */
import { readFileSync } from "node:fs";

const KIB = 1024;

export function readResidentBytes(processId: number): number {
  if (process.platform !== "linux") return 0;
  try {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${processId}/status`, "utf8"));
    return match === null ? 0 : Number(match[1]) * KIB;
  } catch {
    // The process has just ended: it holds nothing.
    return 0;
  }
}

/** It changes slowly, and asking takes the kernel longer than a token takes on its way through a process. */
const KNOWN_MS = 500;

/** Of one process, read anew when it was read half a second ago. */
export class ResidentMemory {
  readonly #processId: number;
  #bytes = 0;
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(processId: number) {
    this.#processId = processId;
  }

  bytes(): number {
    const nowMs = performance.now();
    if (nowMs - this.#readAtMs < KNOWN_MS) return this.#bytes;
    this.#readAtMs = nowMs;
    this.#bytes = readResidentBytes(this.#processId);
    return this.#bytes;
  }
}
