/** CPU time of a process and all its threads, where the kernel tells it in nanoseconds (Linux); NaN elsewhere. */
import { readdirSync, readFileSync } from "node:fs";

const NS_PER_MS = 1e6;

export function cpuMsOf(processId: number): number {
  if (process.platform !== "linux") return Number.NaN;
  const folder = `/proc/${processId}/task`;
  return readdirSync(folder).reduce((sum, task) => {
    try {
      return sum + Number(readFileSync(`${folder}/${task}/schedstat`, "utf8").split(" ")[0]) / NS_PER_MS;
    } catch {
      return sum; // a thread that has just ended
    }
  }, 0);
}
