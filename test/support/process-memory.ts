/** Memory of another process, as Linux tells it. */
import { readFileSync, writeFileSync } from "node:fs";

export const canReadMemory = process.platform === "linux";

/** The most that was resident since `forgetPeak`. */
export function peakBytes(pid: number): number {
  return statusBytes(pid, "VmHWM");
}

export function residentBytes(pid: number): number {
  return statusBytes(pid, "VmRSS");
}

/** From here on the peak is counted anew (proc(5), clear_refs). */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

function statusBytes(pid: number, name: string): number {
  const line = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (line?.[1] === undefined) throw new Error(`/proc/${pid}/status has no ${name}`);
  return Number(line[1]) * 1024;
}
