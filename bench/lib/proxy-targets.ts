/** What bench/gateway-proxy.bench.ts asks in turns: the provider itself, Portkey's gateway before it, and a coordinator before it. */
import { execFileSync, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { startGrid } from "../../test/support/grid.ts";

export const MODEL = "bench/cloud";
const FOLDER = new URL("../portkey/", import.meta.url);
const SERVER = new URL("node_modules/@portkey-ai/gateway/build/start-server.js", FOLDER);
const START_TRIES = 200;
const START_PAUSE_MS = 50;
const portSchema = z.object({ port: z.number() });

export interface ProxyTarget {
  readonly name: "direct" | "portkey" | "fallow";
  readonly pid: number;
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

export function hasPortkey(): boolean {
  return existsSync(SERVER);
}

/** From its own lockfile; no script of any package runs. */
export function installPortkey(): void {
  if (hasPortkey()) return;
  execFileSync("npm", ["ci", "--ignore-scripts"], { cwd: fileURLToPath(FOLDER), stdio: "inherit" });
}

export async function startUpstream(tokens: number): Promise<ProxyTarget> {
  const child = fork(new URL("proxy-upstream-process.ts", import.meta.url), [String(tokens)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [message]: unknown[] = await once(child, "message");
  const { port } = portSchema.parse(message);
  const stop = async () => {
    const ended = once(child, "exit");
    child.disconnect();
    await ended;
  };
  return { name: "direct", pid: child.pid ?? 0, port, path: "/v1/chat/completions", headers: {}, stop };
}

/** As its README starts it on Node, in production, without its console. */
export async function startPortkey(upstream: ProxyTarget): Promise<ProxyTarget> {
  const port = await freePort();
  const child = spawn(process.execPath, [fileURLToPath(SERVER), `--port=${port}`, "--headless"], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, NODE_ENV: "production" },
  });
  const ended = once(child, "exit");
  const stop = async () => {
    child.kill();
    await ended;
  };
  for (let tries = 1; ; tries++) {
    const isUp = await fetch(`http://127.0.0.1:${port}/`).then(
      (response) => response.text().then(() => true),
      () => false,
    );
    if (isUp) break;
    if (tries < START_TRIES && child.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, START_PAUSE_MS));
      continue;
    }
    await stop();
    throw new Error("Portkey's gateway did not start");
  }
  const headers = {
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${upstream.port}/v1`,
    authorization: "Bearer sk-bench",
  };
  return { name: "portkey", pid: child.pid ?? 0, port, path: "/v1/chat/completions", headers, stop };
}

/** As `npm start` starts it, without an agent; everything on: keys, holds, settlement on the disk, receipts. */
export async function startFallow(upstream: ProxyTarget): Promise<ProxyTarget> {
  const grid = await startGrid({
    args: ["--no-agent"],
    env: {
      BENCH_PROVIDER_KEY: "sk-bench-0123456789",
      NODE_OPTIONS: "--max-semi-space-size=4",
    },
  });
  const stop = async () => {
    await grid.stop();
  };
  const price = { inputMicroUsdPerMtok: 1_000, outputMicroUsdPerMtok: 2_000 };
  const response = await fetch(`${grid.baseUrl}/admin/v1/providers/bench`, {
    method: "PUT",
    headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({
      providerId: "bench",
      name: "Bench",
      baseUrl: `http://127.0.0.1:${upstream.port}/v1`,
      credential: { kind: "environment", variable: "BENCH_PROVIDER_KEY" },
      regions: [],
      dataPolicy: { collectsData: true, isZeroRetention: false },
      requestsPerMinuteMax: null,
      tokensPerMinuteMax: null,
      concurrencyMax: 256,
      models: [
        {
          modelId: MODEL,
          upstreamModel: "bench-upstream",
          cost: price,
          price,
          contextTokensMax: 32_768,
          outputTokensMax: null,
          quantisation: null,
        },
      ],
      isEnabled: true,
    }),
  });
  if (!response.ok) {
    await stop();
    throw new Error(`the provider was not taken: ${response.status} ${await response.text()}`);
  }
  const { port } = new URL(grid.baseUrl);
  const headers = { authorization: `Bearer ${grid.apiKey}` };
  return { name: "fallow", pid: grid.pid, port: Number(port), path: "/v1/chat/completions", headers, stop };
}

/** Portkey's gateway takes no port 0. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  server.close();
  await once(server, "close");
  return port;
}
