/**
 * What agents that do nothing cost the coordinator: 1,000 real memberships over real WebSockets, each with its own key, joined to
 * a whole coordinator process; then its memory and CPU while they only beat. Once in clear on loopback and once over TLS.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { compileCacheFolder } from "../src/cli/compile-cache.ts";
import { openBench } from "./lib/bench-run.ts";

const bench = openBench("agents");
const agents = bench.isSmoke ? 50 : 1_000;
const perProcess = bench.isSmoke ? 50 : 250;
const settleMs = bench.isSmoke ? 1_000 : 10_000;
const windowMs = bench.isSmoke ? 2_000 : 30_000;
/** What `npm start` sets for Node: a limit on V8's young generation; and, as the command line does, a cache of compiled code. */
const startScript: string = z
  .object({ scripts: z.object({ start: z.string() }) })
  .parse(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))).scripts.start;
const nodeFlags = startScript.match(/--max-semi-space-size=\d+/g) ?? [];
const environment = { ...process.env, NODE_COMPILE_CACHE: compileCacheFolder() };
/** Joining is slow on a busy machine: each agent costs both sides a signature and, over TLS, a handshake. */
const JOIN_MS_MAX = 240_000;

const readySchema = z.object({ kind: z.literal("ready"), joining: z.object({ url: z.string() }).loose() });
const measuredSchema = z.object({
  kind: z.literal("measured"),
  online: z.number(),
  suspected: z.number(),
  gone: z.number(),
  rssBytes: z.number(),
  heapUsedBytes: z.number(),
  cpuMs: z.number(),
  atMs: z.number(),
});
type Measured = z.infer<typeof measuredSchema>;

const script = (name: string) => fileURLToPath(new URL(`./lib/${name}`, import.meta.url));
const megabytes = (bytes: number) => Math.round(bytes / 1e6);

function answer<T>(child: ChildProcess, schema: z.ZodType<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null) => reject(new Error(`the process ended with ${code}`));
    const onMessage = (message: unknown) => {
      const parsed = schema.safeParse(message);
      if (!parsed.success) return;
      child.off("message", onMessage);
      child.off("exit", onExit);
      resolve(parsed.data);
    };
    child.on("message", onMessage);
    child.once("exit", onExit);
  });
}

function measure(coordinator: ChildProcess): Promise<Measured> {
  const measured = answer(coordinator, measuredSchema);
  coordinator.send("measure");
  return measured;
}

async function run(host: string): Promise<Record<string, number>> {
  const home = mkdtempSync(join(tmpdir(), "fallow-bench-agents-"));
  const children: ChildProcess[] = [];
  try {
    const coordinator = fork(script("coordinator-process.ts"), [home, host], { execArgv: nodeFlags, env: environment });
    children.push(coordinator);
    const { joining } = await answer(coordinator, readySchema);
    const empty = await measure(coordinator);
    const startMs = performance.now();
    for (let started = 0; started < agents; started += perProcess) {
      const count = String(Math.min(perProcess, agents - started));
      children.push(fork(script("idle-agents-process.ts"), [JSON.stringify(joining), count]));
    }
    for (let now = empty; now.online < agents; now = await measure(coordinator)) {
      if (performance.now() - startMs > JOIN_MS_MAX) throw new Error(`only ${now.online} of ${agents} agents joined`);
      await sleep(100);
    }
    const joinMs = Math.round(performance.now() - startMs);
    await sleep(settleMs);
    const before = await measure(coordinator);
    await sleep(windowMs);
    const after = await measure(coordinator);
    return {
      agents: after.online,
      joinMs,
      emptyRssMegabytes: megabytes(empty.rssBytes),
      rssMegabytes: megabytes(after.rssBytes),
      heapUsedMegabytes: megabytes(after.heapUsedBytes),
      cpuCorePercent: Number((((after.cpuMs - before.cpuMs) / (after.atMs - before.atMs)) * 100).toFixed(1)),
      suspectedInWindow: after.suspected - before.suspected,
      goneInWindow: after.gone - before.gone,
    };
  } finally {
    for (const child of children) child.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
}

/** The first start of all compiles; every later one finds the compiled code, as a grid that was started before does. */
async function warmUp(): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "fallow-bench-agents-"));
  const coordinator = fork(script("coordinator-process.ts"), [home], { execArgv: nodeFlags, env: environment });
  await answer(coordinator, readySchema);
  coordinator.disconnect();
  await once(coordinator, "exit");
  rmSync(home, { recursive: true, force: true });
}

await warmUp();
const plain = await run("127.0.0.1");
bench.say(`plain on loopback: ${JSON.stringify(plain)}`);
const tls = await run("0.0.0.0");
bench.say(`over TLS: ${JSON.stringify(tls)}`);
bench.keep({
  bars: [
    {
      name: `MB of coordinator RSS with ${agents} idle agents`,
      value: plain["rssMegabytes"] ?? 0,
      wanted: "at-most",
      limit: 250,
    },
    {
      name: `MB of coordinator RSS with ${agents} idle agents over TLS`,
      value: tls["rssMegabytes"] ?? 0,
      wanted: "at-most",
      limit: 250,
    },
    {
      name: "nodes lost while idle",
      value: (plain["goneInWindow"] ?? 0) + (tls["goneInWindow"] ?? 0),
      wanted: "at-most",
      limit: 0,
    },
  ],
  measured: { agents, windowMs, plain, tls },
});
process.exit(0);
