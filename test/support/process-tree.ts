/** A process with all that it started, as Linux tells it: which they are, what they hold. */
import { readdirSync, readFileSync } from "node:fs";
import { residentBytes } from "./process-memory.ts";

/** A node has a handful; a cycle cannot happen, and is bounded all the same. */
const PROCESSES_MAX = 256;

export interface TreeProcess {
  readonly pid: number;
  /** Its file's name without the folder, or its program's. */
  readonly name: string;
}

/** The process itself comes first. */
export function processTree(rootPid: number): readonly TreeProcess[] {
  const found: TreeProcess[] = [];
  const waiting = [rootPid];
  for (let seen = 0; seen < PROCESSES_MAX; seen++) {
    const pid = waiting.shift();
    if (pid === undefined) break;
    const name = nameOf(pid);
    if (name === null) continue;
    found.push({ pid, name });
    waiting.push(...childrenOf(pid));
  }
  return found;
}

/** To each of them; those that are gone meanwhile are left out. */
export function signalTree(rootPid: number, signal: NodeJS.Signals): void {
  for (const { pid } of processTree(rootPid)) {
    try {
      process.kill(pid, signal);
    } catch {
      // gone meanwhile
    }
  }
}

export interface Holding {
  readonly residentBytes: number;
  readonly openFiles: number;
  readonly processes: number;
}

export function holdingOf(rootPid: number): Holding {
  const pids = processTree(rootPid).map(({ pid }) => pid);
  const each = pids.map((pid) => {
    try {
      return { bytes: residentBytes(pid), files: readdirSync(`/proc/${pid}/fd`).length };
    } catch {
      return { bytes: 0, files: 0 }; // gone meanwhile
    }
  });
  return {
    residentBytes: each.reduce((sum, { bytes }) => sum + bytes, 0),
    openFiles: each.reduce((sum, { files }) => sum + files, 0),
    processes: pids.length,
  };
}

function childrenOf(pid: number): readonly number[] {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`);
    return tasks.flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
    );
  } catch {
    return []; // gone meanwhile
  }
}

function nameOf(pid: number): string | null {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    const file = words.find((word) => /\.(ts|js|mjs)$/.test(word)) ?? words[0] ?? "";
    return file.split("/").at(-1) ?? "";
  } catch {
    return null; // gone, or no Linux
  }
}
