/**
 * The promise of the grid with real processes: three agents, an answer of 200 tokens, and the agent that gives it killed or
 * stopped, with its engines, at token 50. The client sees one text, the same as without the fault, and pays once.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { type AgentProcess, type Grid, startAgent, startGrid } from "./support/grid.ts";
import { type TimedStream, timedCompletion } from "./support/timed-stream.ts";

const PROMPT = "In the beginning God created the heaven and the earth.";
const TOKENS = 200;
const FAULT_AT = 50;
/** Beside the first stream, so that 150 tokens of it take longer than the test needs to send a signal. */
const OTHERS = 11;

const requestOf = (seed: number) => ({ model: "tiny", prompt: PROMPT, max_tokens: TOKENS, ignore_eos: true, seed });

const receiptSchema = z.object({
  body: z.object({
    choices: z.array(z.object({ outputTokens: z.number() })),
    attempts: z.array(
      z.object({ nodeId: z.string(), ending: z.string(), acknowledgedTokens: z.number(), statement: z.unknown() }),
    ),
  }),
});
type ReceiptBody = z.infer<typeof receiptSchema>["body"];

let grid: Grid | undefined;
const agents: AgentProcess[] = [];
let undisturbed: readonly TimedStream[];

beforeAll(async () => {
  grid = await startGrid({ args: ["--no-agent", "--warm", "1", "--threads", "1"] });
  for (const until of ["serving", "online", "online"] as const) {
    agents.push(await startAgent(opened().joinCode, { args: ["--threads", "1"], until }));
  }
  undisturbed = await streams();
}, 240_000);

afterAll(async () => {
  for (const agent of agents) {
    agent.killGroup("SIGCONT");
    await agent.stop();
  }
  // A grid that did not start has nothing to stop; beforeAll said why.
  if (grid !== undefined) await grid.stop();
});

function opened(): Grid {
  if (grid === undefined) throw new Error("the grid is open");
  return grid;
}

/** The first is watched: at token 50 the agent that gives it is struck. */
function streams(signal: "SIGKILL" | "SIGSTOP" | null = null): Promise<readonly TimedStream[]> {
  let isStruck = signal === null;
  const watch = (count: number, nodeId: string) => {
    if (count < FAULT_AT || isStruck || signal === null) return;
    isStruck = true;
    const serving = agents.find((agent) => agent.nodeId === nodeId);
    if (serving === undefined) throw new Error(`${nodeId} is one of the agents`);
    serving.killGroup(signal);
  };
  return Promise.all(
    Array.from({ length: 1 + OTHERS }, (_, at) =>
      timedCompletion(opened(), requestOf(at + 1), at === 0 ? watch : undefined),
    ),
  );
}

async function authorised(path: string): Promise<unknown> {
  const response = await fetch(`${opened().baseUrl}${path}`, {
    headers: { authorization: `Bearer ${opened().apiKey}` },
  });
  return await response.json();
}

async function receiptOf(stream: TimedStream | undefined): Promise<ReceiptBody> {
  return receiptSchema.parse(await authorised(`/v1/grid/receipts/${stream?.receiptId}`)).body;
}

test("undisturbed, one node gives all 200 tokens of each", async () => {
  for (const stream of undisturbed) {
    expect(stream).toMatchObject({ completionTokens: TOKENS, finishReason: "length", error: null });
    const { attempts } = await receiptOf(stream);
    expect(attempts).toMatchObject([{ ending: "finished", acknowledgedTokens: TOKENS, nodeId: stream.firstNodeId }]);
  }
  expect(new Set(undisturbed.map(({ text }) => text)).size).toBe(1 + OTHERS);
});

test.each(["SIGKILL", "SIGSTOP"] as const)(
  "after %s of the serving agent's process group the text, the count and the charge of every stream are the same",
  async (signal) => {
    const disturbed = await streams(signal);
    for (const [at, stream] of disturbed.entries()) {
      expect(stream.error).toBeNull();
      expect(stream.text).toBe(undisturbed[at]?.text);
      expect(stream).toMatchObject({
        completionTokens: TOKENS,
        finishReason: "length",
        costUsd: undisturbed[at]?.costUsd,
      });
    }
    const [first] = disturbed;
    const { attempts, choices } = await receiptOf(first);
    expect(attempts.map(({ ending }) => ending)).toEqual(["node-lost", "finished"]);
    expect(new Set(attempts.map(({ nodeId }) => nodeId)).size).toBe(2);
    expect(attempts[0]?.acknowledgedTokens).toBeGreaterThanOrEqual(FAULT_AT);
    expect(attempts.reduce((sum, attempt) => sum + attempt.acknowledgedTokens, 0)).toBe(TOKENS);
    expect(choices).toMatchObject([{ outputTokens: TOKENS }]);
  },
);

test("the ledger shows one charge for each request, and balances", async () => {
  const usage = z
    .object({ data: z.array(z.object({ requests: z.number(), completion_tokens: z.number() })) })
    .parse(await authorised("/v1/grid/usage"));
  const requests = 3 * (1 + OTHERS);
  expect(usage.data.reduce((sum, row) => sum + row.requests, 0)).toBe(requests);
  expect(usage.data.reduce((sum, row) => sum + row.completion_tokens, 0)).toBe(requests * TOKENS);
  expect(await authorised("/admin/v1/ledger/check")).toMatchObject({ isBalanced: true, openHolds: 0 });
});
