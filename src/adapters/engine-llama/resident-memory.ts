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
