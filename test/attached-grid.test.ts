/** A grid with nodes that lend servers, as processes. More of it, for longer, is in test/soak/attached-nodes.test.ts. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunningServer, startAttachedServer } from "./support/attached-servers.ts";
import {
  type AgentProcess,
  type Grid,
  makeHome,
  removeHome,
  runFallow,
  startAgent,
  startGrid,
} from "./support/grid.ts";
import { freePort } from "./support/real-llama-server.ts";

let grid: Grid;
let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  [grid, server] = await Promise.all([
    startGrid({ args: ["--no-agent", "--warm", "1"] }),
    startAttachedServer("vllm", ["--token-ms", "40"]),
  ]);
  client = new OpenAI({ apiKey: grid.apiKey, baseURL: grid.apiUrl, maxRetries: 0 });
});

afterAll(async () => {
  await Promise.all([grid.stop(), server[Symbol.asyncDispose]()]);
});

const ASKED = { model: "tiny", prompt: "And God said unto Moses", temperature: 0, max_tokens: 120 } as const;
const LENT = (url: string) => ({ args: ["--engine-url", url, "--no-own-engine"] });

test("a stream whose server dies goes on in another node's engine, token for token", async () => {
  await using agent = await startAgent(grid.joinCode, LENT(server.url));
  let native: AgentProcess | null = null;
  let text = "";
  let chunks = 0;
  try {
    const stream = await client.completions.create({ ...ASKED, stream: true });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      chunks += 1;
      if (chunks !== 3) continue;
      const nodes = await runFallow(["nodes", "--url", grid.baseUrl, "--key", grid.apiKey]);
      expect(nodes.stdout).toContain("cpu + vllm");
      native = await startAgent(grid.joinCode, { until: "online" });
      server.child.kill("SIGKILL");
    }
    expect(agent.events().some(({ event }) => event === "attached")).toBe(true);
    const whole = await client.completions.create(ASKED);
    expect(text).toBe(whole.choices[0]?.text);
    expect(chunks).toBeGreaterThan(20);
  } finally {
    await native?.stop();
  }
});

test("a server that is not there, or is none, is told with what to do", async () => {
  const [home, other] = [makeHome(), makeHome()];
  try {
    const port = await freePort();
    const join = (url: string, at: string) =>
      runFallow(["join", grid.joinCode, "--engine-url", url, "--json"], { home: at });
    const [gone, wrong] = await Promise.all([join(`http://127.0.0.1:${port}`, home), join(grid.baseUrl, other)]);
    expect(gone.code).not.toBe(0);
    expect(gone.stderr).toMatch(/does not answer.*(\n.*)*start the server/);
    expect(wrong.stderr).toMatch(/is none of llama-server, ollama/);
  } finally {
    removeHome(home);
    removeHome(other);
  }
});
