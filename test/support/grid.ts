/**
 * A whole grid as a user starts it: `fallow up --json` as a real process on a free port with a home of its own, agents as
 * `fallow join --json`, commands as `fallow …`. Each process is a group of its own, so that a test can kill an agent together with
 * its engines. Whatever a test started must be stopped by it (`await using`, or `stop()` in `afterAll`).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
/** Two shared cores with other suites running: the bar for a first start is 60 s. */
const READY_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 15_000;
/** Enough of the log to see why a start failed. */
const LOG_CHARS_KEPT = 20_000;

/** One JSON line of stdout. */
export type GridEvent = Readonly<Record<string, unknown>> & { readonly event: string };

export interface FallowProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly home: string;
  /** The last part of what it wrote to stderr. */
  log(): string;
  /** Resolves with the first event that fits, also one that came before; rejects when the process ends first. */
  waitFor(fits: (event: GridEvent) => boolean, timeoutMs?: number): Promise<GridEvent>;
  /** Resolves when stderr holds it; rejects when the process ends first. */
  waitForLog(text: RegExp, timeoutMs?: number): Promise<void>;
  events(): readonly GridEvent[];
  /** Resolves when the process ended: exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** To the whole process group: the process and its children. */
  killGroup(signal: NodeJS.Signals): void;
  /** SIGTERM, SIGKILL when that does not end it in time, and the temporary home is removed. May be called twice. */
  stop(): Promise<number | string>;
}

export interface Grid extends FallowProcess {
  /** For an OpenAI client: ends in `/v1`. */
  readonly apiUrl: string;
  readonly baseUrl: string;
  readonly apiKey: string;
  readonly joinCode: string;
  readonly dashboardUrl: string;
  /** From the start of the process to the ready line. */
  readonly readyMs: number;
}

export interface AgentProcess extends FallowProcess {
  readonly nodeId: string;
}

export interface StartOptions {
  /** A home that the caller made and removes; without it a temporary one. */
  readonly home?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A command that runs the program as its last arguments, by `exec`, so that it keeps the process id. */
  readonly through?: readonly string[];
}

export function makeHome(): string {
  return mkdtempSync(join(tmpdir(), "fallow-test-"));
}

export function removeHome(home: string): void {
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}

export async function startGrid(options: StartOptions = {}): Promise<Grid> {
  const startedMs = performance.now();
  const running = launchFallow(["up", "--json", "--port", "0", ...(options.args ?? [])], options);
  const ready = await readyOrStopped(running, ({ event }) => event === "ready");
  return {
    ...running,
    apiUrl: String(ready["apiUrl"]),
    baseUrl: String(ready["baseUrl"]),
    apiKey: String(ready["apiKey"]),
    joinCode: String(ready["joinCode"]),
    dashboardUrl: String(ready["dashboardUrl"]),
    readyMs: performance.now() - startedMs,
  };
}

/** `joinCode` null: the home knows its grid. Resolves when a replica serves, or with `until: "online"` when it joined. */
export async function startAgent(
  joinCode: string | null,
  options: StartOptions & { until?: "online" | "serving" } = {},
): Promise<AgentProcess> {
  const code = joinCode === null ? [] : [joinCode];
  const running = launchFallow(["join", ...code, "--json", ...(options.args ?? [])], options);
  const online = await readyOrStopped(running, ({ event }) => event === "online");
  if (options.until !== "online") await readyOrStopped(running, ({ event }) => event === "serving");
  return { ...running, nodeId: String(online["nodeId"]) };
}

export interface Finished {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
  /** The last line of stdout as JSON; undefined when it is none. */
  readonly json: unknown;
}

/** Runs one command to its end. */
export async function runFallow(
  args: readonly string[],
  options: { home?: string; env?: Readonly<Record<string, string>>; input?: string } = {},
): Promise<Finished> {
  const env = environment(options.home ?? "/nonexistent/fallow-home", options.env);
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: "pipe" });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.end(options.input ?? "");
  const code = await new Promise<number | string>((resolve) => {
    child.once("close", (exit, signal) => resolve(exit ?? signal ?? "unknown"));
  });
  return { code, stdout, stderr, json: parseLine(stdout.trim().split("\n").at(-1) ?? "") };
}

function environment(home: string, more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { FALLOW_API_KEY: _key, FALLOW_URL: _url, FALLOW_PORT: _port, NODE_OPTIONS: _node, ...rest } = process.env;
  const { npm_lifecycle_event: _script, ...env } = rest; // a suite may itself be run by npm
  // A suite must not fetch engines where the machine that runs it has a GPU.
  return { ...env, FALLOW_HOME: home, FALLOW_ENGINE: "cpu", ...more };
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // a line for people
  }
}

function asEvent(value: unknown): GridEvent | null {
  if (typeof value !== "object" || value === null || !("event" in value) || typeof value.event !== "string")
    return null;
  return { ...value, event: value.event };
}

/** Any command that goes on until it is stopped. */
export function launchFallow(args: readonly string[], options: StartOptions = {}): FallowProcess {
  const home = options.home ?? makeHome();
  const [program = process.execPath, ...rest] = [...(options.through ?? []), process.execPath, MAIN, ...args];
  const child = spawn(program, rest, {
    env: environment(home, options.env),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const events: GridEvent[] = [];
  const onChange = new Set<() => void>();
  const changed = () => {
    for (const call of [...onChange]) call();
  };
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-LOG_CHARS_KEPT);
    changed();
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const event = asEvent(parseLine(line));
    if (event !== null) events.push(event);
    changed();
  });
  let ended: number | string | null = null;
  const exited = new Promise<number | string>((resolve) => {
    child.once("close", (code, signal) => {
      ended = code ?? signal ?? "unknown";
      resolve(ended);
      changed();
    });
  });
  const pid = child.pid ?? 0;
  const killGroup = (signal: NodeJS.Signals) => {
    try {
      process.kill(-pid, signal);
    } catch {
      // the group is gone already
    }
  };
  const wait = <T>(find: () => T | undefined, timeoutMs: number) =>
    new Promise<T>((resolve, reject) => {
      const settle = (finish: () => void) => {
        clearTimeout(timer);
        onChange.delete(look);
        finish();
      };
      const fail = (why: string) => settle(() => reject(new Error(`fallow ${args[0]}: ${why}\n${log}`)));
      const look = () => {
        const found = find();
        if (found !== undefined) settle(() => resolve(found));
        else if (ended !== null) fail(`ended (${ended}) before that came`);
      };
      const timer = setTimeout(() => fail(`that did not come within ${timeoutMs} ms`), timeoutMs);
      onChange.add(look);
      look();
    });
  const stop = async () => {
    if (ended === null) child.kill("SIGTERM");
    const timer = setTimeout(() => killGroup("SIGKILL"), STOP_TIMEOUT_MS);
    const code = await exited;
    clearTimeout(timer);
    killGroup("SIGKILL");
    if (options.home === undefined) removeHome(home);
    return code;
  };
  return {
    child,
    pid,
    home,
    log: () => log,
    waitFor: (fits, timeoutMs = READY_TIMEOUT_MS) => wait(() => events.find(fits), timeoutMs),
    waitForLog: (text, timeoutMs = READY_TIMEOUT_MS) =>
      wait(() => (text.test(log) ? null : undefined), timeoutMs).then(() => undefined),
    events: () => events,
    exited,
    killGroup,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

async function readyOrStopped(running: FallowProcess, fits: (event: GridEvent) => boolean): Promise<GridEvent> {
  try {
    return await running.waitFor(fits);
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}
