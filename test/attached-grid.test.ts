/** A grid with nodes that lend servers, as processes. More of it, for longer, is in test/soak/attached-nodes.test.ts. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startAttachedServer } from "./support/attached-servers.ts";
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
let client: OpenAI;

beforeAll(async () => {
  grid = await startGrid({ args: ["--no-agent", "--warm", "1"] });
  client = new OpenAI({ apiKey: grid.apiKey, baseURL: grid.apiUrl, maxRetries: 0 });
});

afterAll(async () => {
  await grid.stop();
});

const ASKED = { model: "tiny", prompt: "And God said unto Moses", temperature: 0, max_tokens: 120 } as const;
const LENT = (url: string) => ({ args: ["--engine-url", url, "--no-own-engine"] });

test("a stream whose server dies goes on in another node's engine, token for token", async () => {
  await using server = await startAttachedServer("vllm", ["--token-ms", "40"]);
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
  const home = makeHome();
  try {
    const port = await freePort();
    const gone = await runFallow(["join", grid.joinCode, "--engine-url", `http://127.0.0.1:${port}`, "--json"], {
      home,
    });
    expect(gone.code).not.toBe(0);
    expect(gone.stderr).toMatch(/does not answer.*(\n.*)*start the server/);
    const wrong = await runFallow(["join", grid.joinCode, "--engine-url", grid.baseUrl, "--json"], { home });
    expect(wrong.stderr).toMatch(/is none of llama-server, ollama/);
  } finally {
    removeHome(home);
  }
});
