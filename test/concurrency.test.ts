/** 64 clients stream from one replica at the same time; each gets what it would have got alone. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { field, list } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { adminGet, askStream, askText, expectBalanced, type Question } from "./support/grid-console.ts";

const STREAMS = 64;
const PROMPTS = ["In the beginning", "And God said unto Moses", "The king", "Now it came to pass", "A"] as const;
/** One of these alone takes some 50 ms on one core. */
const TOKENS = { least: 8, most: 40 } as const;

let grid: Grid;
beforeAll(async () => {
  grid = await startGrid({ args: ["--threads", "1"] });
});
afterAll(async () => {
  await grid.stop();
});

/** Different prompts, lengths and ways of sampling side by side, so that sequences begin and end at different steps. */
const QUESTIONS: readonly Question[] = Array.from({ length: STREAMS }, (_, at) => ({
  prompt: PROMPTS[at % PROMPTS.length] ?? "",
  tokens: TOKENS.least + (at % (TOKENS.most - TOKENS.least)),
  seed: 100 + at,
  temperature: at % 3 === 0 ? 0 : 0.9,
}));

describe(`${STREAMS} streams on one replica`, () => {
  it("each say what they say alone, and each is charged for its own tokens", async () => {
    const alone: string[] = [];
    for (const question of QUESTIONS) alone.push(await askText(grid, question));
    expect(new Set(alone).size, "the questions have different answers").toBeGreaterThan(STREAMS / 2);
    const together = await Promise.all(QUESTIONS.map((question) => askStream(grid, question)));
    expect(together.map(({ texts }) => texts[0])).toEqual(alone);
    expect(together.every(({ isDone, error }) => isDone && error === null)).toBe(true);
    expect(together.map(({ usage }) => usage?.completionTokens)).toEqual(QUESTIONS.map(({ tokens }) => tokens));
    expect(new Set(together.map(({ requestId }) => requestId)).size).toBe(STREAMS);
    const replicas = list(field(await adminGet(grid, "/replicas"), "replicas"));
    expect(replicas.filter((replica) => field(replica, "state") === "ready")).toHaveLength(1);
    await expectBalanced(grid);
  });
});
