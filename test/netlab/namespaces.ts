/**
 * Network namespaces of labs. Each carries in its name the process that owns the lab: its pid and the tick at which it was
 * started, so that a pid used again is not taken for it. Whoever starts a lab first removes what dead owners left behind.
 */
import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const FOLDER = "/var/run/netns";
const NAME = /^fl(\d+)x([0-9a-z]+)l\d+-/;
/** Of /proc/PID/stat, counted after the name in brackets. */
const START_TIME_FIELD = 19;
/** A process may start another one while it is being ended. */
const KILL_ROUNDS_MAX = 5;
const COMMAND_LIMIT_MS = 20_000;

let labs = 0;

/** The start of every namespace's name of a fresh lab of this process. */
export function freshPrefix(): string {
  const owner = `fl${process.pid}x${startTick(process.pid) ?? "0"}`;
  // This module may be loaded again in a process whose earlier labs still stand.
  do labs++;
  while (namespacesWithPrefix(`${owner}l${labs}-`).length > 0);
  return `${owner}l${labs}-`;
}

export function namespacesWithPrefix(prefix: string): readonly string[] {
  return allNamespaces().filter((name) => name.startsWith(prefix));
}

/** Removes the labs of owners that are gone, and says which. */
export function sweepDeadOwners(): readonly string[] {
  const dead = allNamespaces().filter((name) => {
    const match = NAME.exec(name);
    return match !== null && startTick(Number(match[1])) !== match[2];
  });
  removeNamespaces(dead);
  return dead;
}

/** Ends every process in these namespaces and removes them. May be called twice, also by two processes at once. */
export function removeNamespaces(names: readonly string[]): void {
  for (const name of names) {
    for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
      const pids = ipSync(["netns", "pids", name]).split("\n").filter(Boolean).map(Number);
      if (pids.length === 0) break;
      for (const pid of pids) kill(pid);
    }
    ipSync(["netns", "del", name]);
  }
}

/** Runs `ip` over a list of commands, in a namespace or in that of the machine. */
export async function ipBatch(lines: readonly string[], namespace?: string): Promise<void> {
  if (lines.length === 0) return;
  const where = namespace === undefined ? [] : ["-n", namespace];
  await commandIn({ command: "ip", args: [...where, "-batch", "-"], input: `${lines.join("\n")}\n` });
}

/** Runs a command to its end and gives what it printed; throws with what it complained about. */
export async function commandIn(run: { command: string; args: readonly string[]; input?: string }): Promise<string> {
  const child = spawn(run.command, run.args, { stdio: "pipe", timeout: COMMAND_LIMIT_MS });
  const [out, err]: string[] = ["", ""];
  const printed = { out: out ?? "", err: err ?? "" };
  child.stdout.on("data", (data) => {
    printed.out += String(data);
  });
  child.stderr.on("data", (data) => {
    printed.err += String(data);
  });
  child.stdin.on("error", () => undefined); // it ended without reading: its exit code says why
  child.stdin.end(run.input ?? "");
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) {
    const given = run.input === undefined ? "" : `, given:\n${run.input}`;
    throw new Error(`${run.command} ${run.args.join(" ")} ended with ${code}: ${printed.err.trim()}${given}`);
  }
  return printed.out;
}

function allNamespaces(): readonly string[] {
  try {
    return readdirSync(FOLDER).filter((name) => NAME.test(name));
  } catch {
    return []; // the folder comes with the first namespace
  }
}

function startTick(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(fields[START_TIME_FIELD]).toString(36);
  } catch {
    return null; // no such process
  }
}

function ipSync(args: readonly string[]): string {
  try {
    return execFileSync("ip", args, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: COMMAND_LIMIT_MS,
    });
  } catch {
    return ""; // the namespace is gone already
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}
