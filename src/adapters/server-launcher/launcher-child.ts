/**
 * Keeps one server for the agent. The server is a process group of its own (vLLM is many processes); when the channel to the agent closes, which it
 * does however the agent ended, the group ends too: asked first, killed after `STOP_MS`. A Ctrl-C in a terminal is the agent's affair.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { BoundedLog } from "./bounded-log.ts";
import type { LauncherNews, LauncherOrder } from "./launcher-protocol.ts";

/** A server that frees its GPUs takes a second or two. */
const STOP_MS = 5_000;
const LOOK_MS = 50;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

let server: ChildProcess | null = null;
let isEnding = false;

process.once("disconnect", () => void endAll());
process.once("message", (order: LauncherOrder) => start(order));
// The agent may have gone while this program was being loaded.
if (!process.connected) process.exit(0);

function start({ program, args, logPath }: LauncherOrder): void {
  const log = new BoundedLog(logPath);
  const started = spawn(program, [...args], { stdio: ["ignore", "pipe", "pipe"], detached: true });
  server = started;
  for (const stream of [started.stdout, started.stderr]) stream?.on("data", (data: Buffer) => log.write(data));
  started.once("spawn", () => tell({ kind: "started", processId: started.pid ?? 0 }));
  started.once("error", (cause) => tell({ kind: "failed", message: `${program} does not start: ${cause.message}` }));
  started.once("exit", (code, signal) => {
    const how = signal === null ? `exit code ${code}` : `ended by ${signal}`;
    const words = log.lastWords();
    // Processes of its own that outlive it hold the GPU.
    killGroup("SIGKILL");
    tell({ kind: "ended", detail: words === "" ? how : `${how}: ${words}` });
    if (isEnding || !process.connected) process.exit(0);
  });
}

async function endAll(): Promise<void> {
  isEnding = true;
  killGroup("SIGTERM");
  const untilMs = performance.now() + STOP_MS;
  while (isGroupThere() && performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  killGroup("SIGKILL");
  process.exit(0);
}

function isGroupThere(): boolean {
  return server?.pid !== undefined && signalled(server.pid, 0);
}

function killGroup(signal: NodeJS.Signals): void {
  if (server?.pid !== undefined) signalled(server.pid, signal);
}

/** False when nobody of the group is left. */
function signalled(groupId: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch {
    return false;
  }
}

function tell(news: LauncherNews): void {
  if (process.connected) process.send?.(news, undefined, undefined, () => undefined);
}
