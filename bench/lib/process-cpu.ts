/**
 * CPU time of a process and all that it started, by what each one is, from Linux's /proc. On a machine that others use as
 * well, it says what the work costs where a wall clock says only how busy the machine was.
 */
import { readFileSync } from "node:fs";

export type CpuByPart = Readonly<Record<string, number>>;

/** Clock ticks of /proc on every Linux that Node runs on (sysconf(_SC_CLK_TCK)). */
const TICK_MS = 10;
/** A grid has four processes and an engine per model; a cycle cannot happen, and is bounded all the same. */
const PROCESSES_MAX = 256;

const PARTS = [
  ["engine", /engine-child/],
  ["stage", /stage-child/],
  ["tokenizer", /tokenizer-child/],
  ["agent", /agent-run|main\.(ts|js)\0join/],
] as const;

/** Milliseconds by part; the process itself is `coordinator`. Empty where there is no /proc. */
export function cpuMsByPart(rootPid: number): CpuByPart {
  const spent: Record<string, number> = {};
  const waiting = [rootPid];
  for (let seen = 0; seen < PROCESSES_MAX; seen++) {
    const pid = waiting.shift();
    if (pid === undefined) break;
    const facts = readFacts(pid);
    if (facts === null) continue;
    const part = pid === rootPid ? "coordinator" : partOf(facts.commandLine);
    spent[part] = (spent[part] ?? 0) + facts.cpuMs;
    waiting.push(...facts.children);
  }
  return spent;
}

export function cpuSince(before: CpuByPart, after: CpuByPart): CpuByPart {
  return Object.fromEntries(Object.entries(after).map(([part, ms]) => [part, ms - (before[part] ?? 0)]));
}

function partOf(commandLine: string): string {
  return PARTS.find(([, pattern]) => pattern.test(commandLine))?.[0] ?? "other";
}

function readFacts(pid: number): { cpuMs: number; commandLine: string; children: readonly number[] } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the name in brackets, which may hold anything; utime and stime are the 14th and 15th.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const cpuMs = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
    return { cpuMs, commandLine, children };
  } catch {
    return null; // gone meanwhile, or no Linux
  }
}
