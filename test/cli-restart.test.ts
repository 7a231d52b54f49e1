/** Stopping, being killed, and starting again in the same home. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readStream } from "./support/exchange.ts";
import { type Grid, launchFallow, makeHome, removeHome, runFallow, startAgent, startGrid } from "./support/grid.ts";

let home: string;
let grid: Grid | null = null;
beforeEach(() => {
  home = makeHome();
});
afterEach(async () => {
  await grid?.stop();
  removeHome(home);
});

interface Facts {
  readonly gridId: string;
  readonly nodes: readonly { nodeId: string; state: string }[];
  readonly ledger: { availableMicroUsd: number; chargedMicroUsd: number };
  readonly requests: { settled: number };
}
const facts = async (): Promise<Facts> => (await runFallow(["status", "--json"], { home })).json as Facts;

test("after kill -9 the next start goes on with the same grid, key, node and money", async () => {
  grid = await startGrid({ home });
  await runFallow(["chat", "hello", "--max-tokens", "8"], { home });
  const before = await facts();
  expect(before.requests.settled).toBe(1);
  expect(before.ledger.chargedMicroUsd).toBeGreaterThan(0);
  const { apiKey } = grid;
  grid.child.kill("SIGKILL");
  await grid.exited;
  grid = await startGrid({ home });
  const after = await facts();
  expect(grid.apiKey).toBe(apiKey);
  expect(after.gridId).toBe(before.gridId);
  expect(after.nodes.map(({ nodeId }) => nodeId)).toEqual(before.nodes.map(({ nodeId }) => nodeId));
  expect(after.ledger).toEqual(before.ledger);
  expect((await runFallow(["chat", "hello", "--max-tokens", "8"], { home })).code).toBe(0);
  expect((await runFallow(["ledger", "check"], { home })).code).toBe(0);
});

test("Ctrl-C ends with 0 and leaves nothing behind that stands in the way of the next start", async () => {
  grid = await startGrid({ home });
  grid.child.kill("SIGINT");
  expect(await grid.exited).toBe(0);
  const { code, stderr } = await runFallow(["status"], { home });
  expect(code).toBe(3);
  expect(stderr).toContain("no grid runs");
  grid = await startGrid({ home });
  expect((await facts()).nodes).toHaveLength(1);
});

test("an answer that runs when Ctrl-C comes to every process of the terminal is finished first", async () => {
  grid = await startGrid({ home });
  const running = await fetch(`${grid.apiUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({
      model: "tiny",
      stream: true,
      max_tokens: 48,
      messages: [{ role: "user", content: "In the beginning" }],
    }),
  });
  interruptGroup(grid);
  expect(await running.text()).toContain("data: [DONE]");
  expect(await grid.exited).toBe(0);
});

/** What a terminal does at Ctrl-C: the coordinator, its agent, the engine and the tokenizer all get the signal. */
function interruptGroup(started: Grid): void {
  const { pid } = started.child;
  assert(pid !== undefined, "the grid has a process id");
  process.kill(-pid, "SIGINT");
}

test("a stop while the machine is still being measured ends with 0", async () => {
  const starting = launchFallow(["up", "--json", "--port", "0"], { home });
  await starting.waitForLog(/measuring this machine/);
  starting.child.kill("SIGTERM");
  expect(await starting.exited).toBe(0);
  expect(starting.events()).toEqual([]);
});

test("an answer that does not end in time after Ctrl-C ends with an error event that says why, and is not just cut off", async () => {
  grid = await startGrid({ home, args: ["--no-agent"] });
  await using agent = await startAgent(grid.joinCode, { args: ["--no-lan"] });
  const answer = await fetch(`${grid.apiUrl}/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", prompt: "Once", max_tokens: 400, ignore_eos: true, stream: true }),
  });
  const reader = (answer.body ?? new ReadableStream<Uint8Array>()).pipeThrough(new TextDecoderStream()).getReader();
  let body = (await reader.read()).value ?? "";
  agent.killGroup("SIGSTOP");
  grid.child.kill("SIGINT");
  for (let read = await reader.read(); !read.done; read = await reader.read()) body += read.value;
  agent.killGroup("SIGCONT");
  const { error, isDone, finishReasons } = readStream(body);
  expect(error).toMatchObject({ code: "draining", message: expect.stringContaining("shutting down") });
  expect(isDone).toBe(false);
  expect(finishReasons).toEqual([null]);
  expect(await grid.exited).toBe(0);
});
