/** A grid with nodes that lend servers, as processes: what they cannot do goes elsewhere, and what the agent started ends with it. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SERVER_ENTRY, startAttachedServer } from "../support/attached-servers.ts";
import { type Grid, makeHome, removeHome, startAgent, startGrid } from "../support/grid.ts";
import { freePort } from "../support/real-llama-server.ts";

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

test("a request that needs what a text server lacks is refused while nobody else is there, and nothing else is", async () => {
  await using server = await startAttachedServer("ollama", ["--name", "tiny:latest"]);
  await using _agent = await startAgent(grid.joinCode, LENT(server.url));
  const plain = await client.completions.create({ ...ASKED, max_tokens: 12 });
  expect(plain.choices[0]?.text.length).toBeGreaterThan(10);
  const ruled = client.chat.completions.create({
    model: "tiny",
    messages: [{ role: "user", content: "And" }],
    max_tokens: 30,
    response_format: { type: "json_object" },
  });
  await expect(ruled).rejects.toMatchObject({ status: 503, code: "no_capable_node" });
});

test("a server that the agent started serves, comes back when it is killed, and ends with an agent that is killed", async () => {
  const home = makeHome();
  try {
    const program = join(home, "llama-server");
    writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${SERVER_ENTRY}" llama-server "$@"\n`);
    chmodSync(program, 0o755);
    const launch = join(home, "launch.json");
    const model = join(import.meta.dirname, "../../models/tiny-q8_0.gguf");
    const port = await freePort();
    writeFileSync(launch, JSON.stringify({ kind: "llama-server", program, model, port, sequencesMax: 2 }));
    await using agent = await startAgent(grid.joinCode, { home, args: ["--engine-launch", launch, "--no-own-engine"] });
    const answer = await client.completions.create({ ...ASKED, max_tokens: 8 });
    expect(answer.usage?.completion_tokens).toBe(8);
    const [first] = serverPids(home);
    process.kill(first ?? 0, "SIGKILL");
    // Nobody may have noticed: a server that is back before the third look in vain was never away.
    while (serverPids(home).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    const [, second] = serverPids(home);
    expect((await client.completions.create({ ...ASKED, max_tokens: 8 })).usage?.completion_tokens).toBe(8);
    agent.child.kill("SIGKILL");
    await agent.exited;
    while (isThere(second ?? 0)) await new Promise((resolve) => setTimeout(resolve, 20));
    agent.killGroup("SIGKILL");
    expect(existsSync(join(home, "engine-server.log"))).toBe(true);
  } finally {
    removeHome(home);
  }
});

/** Of the servers that a launch started, in their order: each tells its own in its first line. */
function serverPids(home: string): readonly number[] {
  const path = join(home, "engine-server.log");
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
  return lines.filter((line) => line.startsWith("{")).map((line) => Number(JSON.parse(line).pid));
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
