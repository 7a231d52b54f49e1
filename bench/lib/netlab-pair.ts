/**
 * A server in one host of a lab and a client in another, for measuring whatever the two are. The server prints one line of JSON
 * when it is ready, which the client is given; the client's last line of JSON is the result. Both end with the pair.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type LabHost, type RunOptions, startCongestionCheck } from "../../test/netlab/lab-host.ts";

const READY_LIMIT_MS = 30_000;
const CLIENT_LIMIT_MS = 120_000;

export interface PairScript {
  readonly host: LabHost;
  readonly file: string;
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export interface RunningServer {
  /** What it printed when it was ready, for a schema to read. */
  readonly ready: unknown;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts a script on this Node in a host and waits for its first line. */
export async function startServer({ host, file, args = [], env }: PairScript): Promise<RunningServer> {
  const child = host.spawn(process.execPath, [file, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    ...(env === undefined ? {} : { env }),
  });
  if (child.stdout === null) throw new Error("the server's output is a pipe");
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const line = await Promise.race([
    once(lines, "line", { signal: AbortSignal.timeout(READY_LIMIT_MS) }).then(([text]) => String(text)),
    exited.then(([code]) => Promise.reject(new Error(`${file} ended with ${code} before it was ready`))),
  ]);
  lines.on("line", (more) => process.stderr.write(`${more}\n`));
  return {
    ready: JSON.parse(line),
    pid: child.pid ?? 0,
    stop: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** Runs a script on this Node in a host to its end and gives its last line of output, read as JSON. */
export async function runClient({ host, file, args = [], env }: PairScript, limitMs?: number): Promise<unknown> {
  const options: RunOptions = { timeoutMs: limitMs ?? CLIENT_LIMIT_MS, ...(env === undefined ? {} : { env }) };
  const { code, stdout, stderr } = await host.node(file, args, options);
  const last = stdout.trim().split("\n").at(-1) ?? "";
  if (code !== 0 || last === "") throw new Error(`${file} in ${host.name} ended with ${code}: ${stderr.slice(-2_000)}`);
  return JSON.parse(last);
}

/**
 * One pair: `clientArgs` gets the server's address and what it printed. In a lab with a chosen congestion control it throws when
 * the kernel says that a connection of either end had another.
 */
export async function runPair(pair: {
  readonly server: PairScript;
  readonly client: PairScript;
  readonly clientArgs: (server: { readonly address: string; readonly ready: unknown }) => readonly string[];
  readonly limitMs?: number;
}): Promise<{ readonly ready: unknown; readonly result: unknown }> {
  const server = await startServer(pair.server);
  const checks = [pair.server.host, pair.client.host].map(startCongestionCheck);
  try {
    const { address } = pair.server.host;
    const args = [...(pair.client.args ?? []), ...pair.clientArgs({ address, ready: server.ready })];
    const result = await runClient({ ...pair.client, args }, pair.limitMs);
    await Promise.all(checks.map((check) => check.stop()));
    return { ready: server.ready, result };
  } finally {
    await Promise.allSettled(checks.map((check) => check.stop()));
    await server.stop();
  }
}
