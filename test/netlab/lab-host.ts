/** A host of a lab: an address and a namespace in which processes are started. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import type { Congestion, LanPortPlan, MachinePlan } from "./lab-plan.ts";
import { commandIn, ipBatch } from "./namespaces.ts";

const RUN_LIMIT_MS = 60_000;
/** Of what a command prints, no more is kept. */
const PRINTED_CHARS_MAX = 16 * 1024 * 1024;

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly input?: string;
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TcpSocket {
  readonly local: string;
  readonly remote: string;
  readonly congestion: string;
}

export interface LabHost {
  readonly name: string;
  readonly namespace: string;
  /** Its own: the LAN's where it is on one. */
  readonly address: string;
  /** As the internet sees it: its own or its router's; null without a way there. */
  readonly publicAddress: string | null;
  readonly congestion: Congestion | null;
  /** Starts a process in the host. The child is the command itself, so a signal reaches it. Without `env` it has ours. */
  spawn(command: string, args: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Runs a command to its end; killed after `timeoutMs` (default a minute). */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Runs a file on this Node, as `run`. */
  node(file: string, args?: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** The connected TCP sockets with what the kernel says controls them. */
  tcpSockets(): Promise<readonly TcpSocket[]>;
  /** Pulls the cable out of the LAN, or puts it back. */
  unplug(): Promise<void>;
  plug(): Promise<void>;
}

export function labHost(plan: MachinePlan, port: LanPortPlan | undefined): LabHost {
  const { name, namespace, address, publicAddress, congestion } = plan;
  const started: LabHost["spawn"] = (command, args, options = {}) =>
    spawn("ip", ["netns", "exec", namespace, command, ...args], options);
  const run: LabHost["run"] = (command, args, options = {}) => collected(started, { command, args, options });
  const setPort = async (state: "up" | "down"): Promise<void> => {
    if (port === undefined) throw new Error(`the host ${name} is on no LAN`);
    await ipBatch([`link set ${port.switchDevice} ${state}`], port.switchNamespace);
  };
  return {
    name,
    namespace,
    address,
    publicAddress,
    congestion,
    spawn: started,
    run,
    node: (file, args = [], options = {}) => run(process.execPath, [file, ...args], options),
    tcpSockets: async () =>
      parseSockets(await commandIn({ command: "ip", args: ["netns", "exec", namespace, "ss", "-tinOH"] })),
    unplug: () => setPort("down"),
    plug: () => setPort("up"),
  };
}

/** While something is measured: how often its connections are looked at. */
const CHECK_INTERVAL_MS = 1_000;

/**
 * Looks at a host's connections while something runs there. `stop` throws when one was controlled by something else than the
 * host was given, and says how many sightings there were, so that no result carries the wrong label.
 */
export function startCongestionCheck(host: LabHost): { stop(): Promise<number> } {
  let sightings = 0;
  const strangers = new Set<string>();
  const look = async (): Promise<void> => {
    const sockets = (await host.tcpSockets()).filter(({ local }) => !/^(127\.|\[::1\])/.test(local));
    sightings += sockets.length;
    for (const { local, remote, congestion } of sockets) {
      if (congestion !== host.congestion) strangers.add(`${local} to ${remote}: ${congestion}`);
    }
  };
  const ending = new AbortController();
  const looking = (async () => {
    while (!ending.signal.aborted) {
      await look();
      await setTimeout(CHECK_INTERVAL_MS, undefined, { signal: ending.signal }).catch(() => undefined); // it was stopped
    }
  })();
  looking.catch(() => undefined); // `stop` tells it
  return {
    stop: async () => {
      ending.abort();
      await looking;
      if (host.congestion !== null && strangers.size > 0) {
        throw new Error(`${host.name} was given ${host.congestion}, but the kernel says ${[...strangers].join("; ")}`);
      }
      return sightings;
    },
  };
}

async function collected(
  start: LabHost["spawn"],
  { command, args, options }: { command: string; args: readonly string[]; options: RunOptions },
): Promise<RunResult> {
  const { env, cwd, input, timeoutMs = RUN_LIMIT_MS } = options;
  const child = start(command, args, {
    stdio: "pipe",
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    ...(env === undefined ? {} : { env }),
    ...(cwd === undefined ? {} : { cwd }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (data) => {
    stdout = (stdout + String(data)).slice(-PRINTED_CHARS_MAX);
  });
  child.stderr?.on("data", (data) => {
    stderr = (stderr + String(data)).slice(-PRINTED_CHARS_MAX);
  });
  child.stdin?.on("error", () => undefined); // it ended without reading: its exit code says why
  child.stdin?.end(input ?? "");
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { code, stdout, stderr };
}

/** Lines of `ss -tinOH`: state, two queues, local and remote address, then words, of which the first names the control. */
function parseSockets(listed: string): readonly TcpSocket[] {
  return listed
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([state]) => state === "ESTAB")
    .map((words) => ({
      local: words[3] ?? "",
      remote: words[4] ?? "",
      congestion: words.slice(5).find((word) => /^(cubic|reno|bbr\d?)$/.test(word)) ?? "unknown",
    }));
}
