/** What a test asks of a running grid as its operator and as a client. */
import { expect } from "vitest";
import { exchange, field, list, parsed, readStream, type StreamRead } from "./exchange.ts";
import type { Grid } from "./grid.ts";

/** How often a condition is looked at, and for how long; every condition of the tests comes within a few seconds. */
const LOOK_MS = 50;
const LOOKS_MAX = 600;

/** Resolves as soon as the condition holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let look = 0; look < LOOKS_MAX; look++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`did not come true within ${(LOOKS_MAX * LOOK_MS) / 1000} s: ${what}`);
}

export async function adminGet(grid: Grid, path: string): Promise<unknown> {
  const answer = await exchange({ url: `${grid.baseUrl}/admin/v1${path}`, key: grid.apiKey });
  expect(answer.status, `${path}: ${answer.body.slice(0, 300)}`).toBe(200);
  return parsed(answer.body);
}

export async function adminPost(grid: Grid, path: string, body: unknown): Promise<unknown> {
  const answer = await exchange({ url: `${grid.baseUrl}/admin/v1${path}`, key: grid.apiKey, body });
  expect([200, 201], `${path}: ${answer.body.slice(0, 300)}`).toContain(answer.status);
  return parsed(answer.body);
}

export async function makeJoinCode(grid: Grid, usesMax = 1): Promise<string> {
  return String(field(await adminPost(grid, "/join-codes", { usesMax }), "joinCode"));
}

/** Resolves when the node's replica of the model takes requests. */
export async function untilReady(grid: Grid, nodeId: string, modelId = "tiny"): Promise<void> {
  await until(`${nodeId} serves ${modelId}`, async () =>
    list(field(await adminGet(grid, "/replicas"), "replicas")).some(
      (replica) =>
        field(replica, "nodeId") === nodeId &&
        field(replica, "modelId") === modelId &&
        field(replica, "state") === "ready",
    ),
  );
}

export async function expectBalanced(grid: Grid): Promise<void> {
  expect(field(await adminGet(grid, "/ledger/check"), "problems")).toEqual([]);
}

export interface Question {
  readonly prompt?: string;
  readonly tokens?: number;
  readonly seed?: number;
  readonly temperature?: number;
  readonly model?: string;
}

export function streamBody(question: Question): Record<string, unknown> {
  return {
    model: question.model ?? "tiny",
    prompt: question.prompt ?? "And God said unto Moses",
    max_tokens: question.tokens ?? 48,
    seed: question.seed ?? 7,
    temperature: question.temperature ?? 0.8,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  };
}

export interface Streamed extends StreamRead {
  readonly status: number | null;
  readonly requestId: string | null;
  readonly body: string;
}

/** One stream from beginning to end. */
export async function askStream(grid: Grid, question: Question = {}): Promise<Streamed> {
  const { status, body, requestId } = await exchange({
    url: `${grid.apiUrl}/completions`,
    key: grid.apiKey,
    body: streamBody(question),
  });
  return { ...readStream(status === 200 ? body : ""), status, body, requestId };
}

/** The text of a stream that must end well. */
export async function askText(grid: Grid, question: Question = {}): Promise<string> {
  const answer = await askStream(grid, question);
  expect(answer.status, answer.body.slice(0, 500)).toBe(200);
  expect(answer.error, answer.body.slice(-500)).toBe(null);
  expect(answer.isDone).toBe(true);
  return answer.texts[0] ?? "";
}
