/** Matching in the product: the real dispatcher, registry and agents in virtual time, and what is told of each decision. */
import { describe, expect, test } from "vitest";
import type { ExplainedRequest } from "../src/coordinator/dispatch/explain-ring.ts";
import { EXPLAINED_REQUESTS_MAX, ExplainRing } from "../src/coordinator/dispatch/explain-ring.ts";
import { GenerationWork } from "../src/coordinator/dispatch/generation-work.ts";
import { assert } from "../src/domain/assert.ts";
import type { RequestConstraints } from "../src/domain/generation.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import { type Asked, DispatchGrid, type GridAgent, PROMPT } from "./support/dispatch-grid.ts";

async function gridOf(count: number, options: ConstructorParameters<typeof DispatchGrid>[0] = {}) {
  const grid = new DispatchGrid(options);
  await grid.start();
  const agents: GridAgent[] = [];
  for (let at = 0; at < count; at++) agents.push(await grid.addAgent());
  return { grid, agents };
}

function explained(grid: DispatchGrid, asked: Asked): ExplainedRequest {
  const found = grid.dispatcher.matchLog.explains.find(asked.request.terms.requestId);
  assert(found !== null, "the request is among the last ones");
  return found;
}

const rules = (change: Partial<RequestConstraints>): RequestConstraints => ({
  regions: null,
  trustMin: null,
  priceMicroUsdPerHourMax: null,
  ...change,
});

describe("an explanation", () => {
  test("tells of a request's wait for its model, its lease and its end", async () => {
    const { grid, agents } = await gridOf(1);
    const asked = grid.ask({ tokensMax: 5 });
    await grid.untilOver(asked);
    const [choice, ...others] = explained(grid, asked).choices;
    expect(others).toEqual([]);
    expect(choice).toMatchObject({ state: "done", attempts: ["finished"], tokensNeeded: 45 });
    const [waits, leased, ...more] = choice?.decisions ?? [];
    expect(more).toEqual([]);
    expect(waits).toMatchObject({ kind: "waits", nodeId: null, because: null, match: { candidates: [] } });
    expect(leased).toMatchObject({ kind: "leased", nodeId: agents[0]?.nodeId, times: 1 });
    expect(leased?.match.candidates[0]).toMatchObject({ nodeId: agents[0]?.nodeId, slotsLeased: 0 });
    expect(choice?.waitedMs).toBe(leased?.afterMs);
    expect(leased?.leaseId).toBe(asked.generation.attempts()[0]?.leaseId);
  });

  test("tells why a stream moved, and which rule kept its first node out", async () => {
    const { grid, agents } = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const asked = grid.ask({ tokensMax: 60 });
    await grid.untilTokens(asked, 20);
    for (const engine of grid.serving(asked, agents).engines.alive) engine.crash();
    await grid.untilOver(asked);
    const decisions = explained(grid, asked).choices[0]?.decisions ?? [];
    const [first, second] = decisions.filter(({ kind }) => kind === "leased");
    expect(first?.match.candidates).toHaveLength(2);
    expect(second?.because).toContain("engine-crashed");
    expect(second?.nodeId).not.toBe(first?.nodeId);
    expect([...(second?.match.turnedAway.keys() ?? [])]).not.toEqual([]);
  });

  test("of a request that is refused at once says why", async () => {
    const { grid } = await gridOf(0);
    const asked = grid.ask();
    await grid.untilOver(asked);
    expect(explained(grid, asked).choices[0]?.state).toMatch(/^no-capable-node: no node of the grid can run/);
  });

  test("is kept for the last requests only", () => {
    const { grid, works } = manyWorks(EXPLAINED_REQUESTS_MAX + 2);
    const ring = new ExplainRing(grid.clock);
    for (const work of works) ring.asked(work);
    expect(ring.size).toBe(EXPLAINED_REQUESTS_MAX);
    const [oldest, , kept] = works;
    expect(oldest && ring.find(oldest.terms.requestId)).toBeNull();
    expect(kept && ring.find(kept.terms.requestId)).not.toBeNull();
  });
});

describe("rules of a request", () => {
  test("that no node keeps refuse it at once, with the counts", async () => {
    const { grid } = await gridOf(2, { warmReplicas: 1 });
    await grid.run(3_000);
    const asked = grid.ask({ terms: { constraints: rules({ regions: ["eu-north"] }) } });
    await grid.untilOver(asked);
    expect(asked.outcome()).toMatchObject({
      kind: "failed",
      reason: { code: "no-capable-node", message: expect.stringContaining("region-not-allowed: 2") },
    });
  });

  test("that unknown nodes keep do not stand in its way", async () => {
    const { grid } = await gridOf(1);
    const constraints = rules({ trustMin: 0.9, priceMicroUsdPerHourMax: 1 });
    const asked = grid.ask({ tokensMax: 5, terms: { constraints } });
    await grid.untilOver(asked);
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(explained(grid, asked).constraints).toEqual(constraints);
  });
});

describe("what the index knows", () => {
  test("a node that drains gets nothing new, and gets work again when the drain is lifted", async () => {
    const { grid, agents } = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const [first, second] = agents;
    assert(first !== undefined && second !== undefined, "two nodes are there");
    const servedBy = async () => {
      const promptTokenIds = PROMPT.slice(0, 10);
      const asked = Array.from({ length: 10 }, (_, at) => grid.ask({ choice: at, tokensMax: 5, promptTokenIds }));
      await grid.until(() => asked.every((one) => one.outcome() !== null), "all answers");
      return new Set(asked.flatMap((one) => one.servedBy()));
    };
    void grid.registry.drain(first.nodeId, true);
    await grid.run(100);
    expect(await servedBy()).toEqual(new Set([second.nodeId]));
    void grid.registry.drain(first.nodeId, false);
    await grid.run(100);
    expect(await servedBy()).toEqual(new Set([first.nodeId, second.nodeId]));
  });

  test("leases count from the moment they are granted: a burst is shared evenly", async () => {
    const { grid } = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    // Shorter than a block of the prefix hints: no replica knows the prompt's head.
    const promptTokenIds = PROMPT.slice(0, 10);
    const asked = Array.from({ length: 40 }, (_, at) => grid.ask({ choice: at, tokensMax: 20, promptTokenIds }));
    await grid.until(() => asked.every((one) => one.outcome() !== null), "all answers");
    const served = new Map<string, number>();
    for (const one of asked) for (const nodeId of one.servedBy()) served.set(nodeId, (served.get(nodeId) ?? 0) + 1);
    expect([...served.values()]).toEqual([20, 20]);
  });
});

function manyWorks(count: number) {
  const grid = new DispatchGrid();
  const works = Array.from({ length: count }, () => {
    const terms = grid.terms();
    return new GenerationWork(
      {
        terms,
        choice: 0,
        promptTokenIds: [1],
        tokensMax: 1,
        sampling: DEFAULT_SAMPLING,
        seed: sha256Hex("22".repeat(32)),
        stopStrings: [],
        grammar: null,
        cacheScope: "33".repeat(16),
        ignoreStopTokens: true,
        topLogprobs: null,
      },
      { nowMs: 0, vocabSize: 10, stopTokenIds: [], onEvent: () => undefined },
    );
  });
  return { grid, works };
}
