/** Requests through faults: the real dispatcher, registry and agents in virtual time, on scripted engines. */
import { beforeEach, describe, expect, test } from "vitest";
import { LIVENESS } from "../src/domain/node.ts";
import { DispatchGrid, endings, type GridAgent, PROMPT } from "./support/dispatch-grid.ts";

let grid: DispatchGrid;

async function gridOf(
  count: number,
  options: ConstructorParameters<typeof DispatchGrid>[0] = {},
): Promise<GridAgent[]> {
  grid = new DispatchGrid(options);
  await grid.start();
  const agents: GridAgent[] = [];
  for (let at = 0; at < count; at++) agents.push(await grid.addAgent());
  return agents;
}

describe("a request that nothing disturbs", () => {
  let agents: GridAgent[];
  beforeEach(async () => {
    agents = await gridOf(1);
  });

  test("waits while the model is loaded, then streams every token once and ends", async () => {
    const asked = grid.ask({ tokensMax: 60 });
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.servedBy()).toEqual([agents[0]?.nodeId]);
  });

  test("leaves one attempt with the node's signed statement", async () => {
    const asked = grid.ask({ tokensMax: 30 });
    await grid.untilOver(asked);
    const [record, ...others] = asked.generation.attempts();
    expect(others).toEqual([]);
    expect(record).toMatchObject({ acknowledgedTokens: 30, ending: "finished", detail: null });
    expect(JSON.parse(record?.statementJson ?? "null")).toMatchObject({
      outputTokens: 30,
      promptTokens: PROMPT.length,
    });
    expect(record?.signatureHex).toMatch(/^[0-9a-f]{128}$/);
  });

  test("ends at a stop token, which is counted", async () => {
    const asked = grid.ask({ tokensMax: 400, ignoreStopTokens: false });
    await grid.untilOver(asked);
    const expected = grid.undisturbed(asked.request);
    expect(expected.length).toBeLessThan(400);
    expect(asked.tokenIds()).toEqual(expected);
    expect(asked.outcome()).toEqual({ kind: "end", reason: "stop-token" });
  });

  test("gets its logprobs", async () => {
    const asked = grid.ask({ tokensMax: 3, topLogprobs: 0 });
    await grid.untilOver(asked);
    const tokens = asked.events.flatMap((event) => (event.kind === "tokens" ? event.tokens : []));
    expect(tokens.map(({ logprob }) => logprob)).toEqual([-0.5, -0.5, -0.5]);
  });

  test("an embedding comes back as unit vectors with its signed statement", async () => {
    const inputs = [
      [1, 2, 3],
      [4, 5],
    ];
    const outcome = await grid.settled(
      grid.dispatcher.embed({ terms: grid.terms(), inputs }, new AbortController().signal),
    );
    expect(outcome).toMatchObject({ ok: true, nodeId: agents[0]?.nodeId });
    const vectors = outcome.ok ? outcome.vectors : [];
    expect(vectors.map((vector) => Math.hypot(...vector))).toEqual([expect.closeTo(1, 5), expect.closeTo(1, 5)]);
    const [attempt] = outcome.attempts;
    expect(attempt).toMatchObject({ ending: "finished", acknowledgedTokens: 0 });
    expect(JSON.parse(attempt?.statementJson ?? "null")).toMatchObject({ reason: "embedded", promptTokens: 5 });
  });

  test("sixty-four at once share the node, and each is what it would be alone", async () => {
    const asked = Array.from({ length: 64 }, (_, at) => grid.ask({ choice: at, tokensMax: 20 }));
    await grid.until(() => asked.every((one) => one.outcome() !== null), "all answers");
    for (const one of asked) expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
    expect(grid.dispatcher.stats()).toMatchObject({ running: 0, waiting: 0, moved: 0, breaches: 0 });
  });
});

describe("a stream whose node fails goes on elsewhere, and its text is the same", () => {
  test.each([1, 25, 50, 99])("when the agent is killed at token %i", async (at) => {
    const agents = await gridOf(3);
    const asked = grid.ask();
    await grid.untilTokens(asked, at);
    grid.kill(grid.serving(asked, agents));
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(new Set(asked.servedBy()).size).toBe(2);
    expect(endings(asked.generation.attempts())).toEqual(["node-lost", "finished"]);
    const acknowledged = asked.generation.attempts().map((record) => record.acknowledgedTokens);
    expect(acknowledged.reduce((sum, tokens) => sum + tokens, 0)).toBe(100);
  });

  test("within one network round trip when a second replica is warm", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    const lostAtMs = grid.timeline.nowMs;
    grid.kill(grid.serving(asked, agents));
    await grid.untilTokens(asked, 51);
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(100);
  });

  test("when the machine freezes: within the bound of suspicion", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    const frozenAtMs = grid.timeline.nowMs;
    grid.serving(asked, agents).host.freeze();
    await grid.untilTokens(asked, 53);
    expect(grid.timeline.nowMs - frozenAtMs).toBeLessThan(LIVENESS.suspectMs + LIVENESS.checkMs + 500);
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
  });

  test("when the owner comes back, and the node gets no more work", async () => {
    const agents = await gridOf(2);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    const serving = grid.serving(asked, agents);
    void serving.agent.yieldNow("the owner is back");
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(endings(asked.generation.attempts())).toEqual(["moved", "finished"]);
    expect(serving.engines.alive.size).toBe(0);
    const next = grid.ask({ tokensMax: 5 });
    await grid.untilOver(next);
    expect(next.servedBy()).not.toContain(serving.nodeId);
  });

  test("when the engine crashes; it starts again on its node", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    const serving = grid.serving(asked, agents);
    for (const engine of serving.engines.alive) engine.crash();
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(asked.generation.attempts()[0]).toMatchObject({
      ending: "failed",
      detail: expect.stringContaining("engine-crashed"),
    });
    await grid.run(5_000);
    expect(serving.agent.replicas()).toMatchObject([{ state: "ready" }]);
  });

  test("when the engine hangs without a word", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    for (const engine of grid.serving(asked, agents).engines.alive) engine.hang();
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(endings(asked.generation.attempts())).toEqual(["moved", "finished"]);
  });

  test("a hundred times slower than its own pace counts as a stall, three times does not", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const slow = grid.ask();
    await grid.untilTokens(slow, 20);
    const serving = grid.serving(slow, agents);
    for (const engine of serving.engines.alive) engine.slowDown(3);
    await grid.untilTokens(slow, 40);
    expect(slow.servedBy()).toHaveLength(1);
    for (const engine of serving.engines.alive) engine.slowDown(1_000);
    await grid.untilOver(slow);
    expect(slow.servedBy()).toHaveLength(2);
    expect(slow.tokenIds()).toEqual(grid.undisturbed(slow.request));
  });

  test("a slow lone node keeps its stream: there is nowhere to go", async () => {
    const agents = await gridOf(1);
    const asked = grid.ask({ tokensMax: 30 });
    await grid.untilTokens(asked, 5);
    for (const engine of grid.serving(asked, agents).engines.alive) engine.slowDown(200);
    await grid.run(12_000);
    expect(asked.servedBy()).toHaveLength(1);
    expect(asked.outcome()).toBeNull();
  });

  test("all streams of a dead node move at once", async () => {
    const agents = await gridOf(3, { warmReplicas: 3 });
    await grid.run(3_000);
    const asked = Array.from({ length: 60 }, (_, at) => grid.ask({ choice: at, tokensMax: 60 }));
    await grid.until(() => asked.every((one) => one.tokenIds().length >= 10), "ten tokens each");
    const [first] = agents;
    if (first !== undefined) grid.kill(first);
    await grid.until(() => asked.every((one) => one.outcome() !== null), "all answers");
    for (const one of asked) expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
    expect(grid.dispatcher.stats().moved).toBeGreaterThan(10);
  });

  test("a lone node that was silent takes its stream again when it is back, under a new lease", async () => {
    const [agent] = await gridOf(1);
    const asked = grid.ask();
    await grid.untilTokens(asked, 50);
    agent?.host.freeze();
    await grid.run(3_200);
    expect(grid.stateOf(agent?.nodeId ?? grid.registry.nodes()[0]?.nodeId ?? fail())).toBe("suspect");
    agent?.host.thaw();
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    const [before, after] = asked.generation.attempts();
    expect(before?.ending).toBe("node-lost");
    expect(after?.epoch).toBeGreaterThan(before?.epoch ?? Number.POSITIVE_INFINITY);
  });

  test("a node that dies between its last token and its end costs nothing", async () => {
    const agents = await gridOf(2);
    const asked = grid.ask({ tokensMax: 20 });
    await grid.until(() => asked.tokenIds().length >= 19, "all but one");
    const serving = grid.serving(asked, agents);
    await grid.until(() => asked.tokenIds().length === 20 || asked.outcome() !== null, "the last token");
    grid.kill(serving);
    await grid.untilOver(asked);
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
  });

  test("an embedding is asked again of another node", async () => {
    const agents = await gridOf(2, { warmReplicas: 2 });
    await grid.run(3_000);
    const inputs = [Array.from({ length: 400 }, (_, at) => at % 60)];
    const embedding = grid.dispatcher.embed({ terms: grid.terms(), inputs }, new AbortController().signal);
    await grid.run(60);
    const busy = agents.find(({ agent }) => agent.replicas().some(({ slotsBusy }) => slotsBusy > 0));
    if (busy !== undefined) grid.kill(busy);
    const outcome = await grid.settled(embedding);
    expect(outcome.ok).toBe(true);
    expect(endings(outcome.attempts)).toEqual(["node-lost", "finished"]);
  });
});

describe("a stream that nothing can take over", () => {
  test("fails as upstream-lost when no node is left within the wait bound, with all that was delivered on record", async () => {
    const [agent] = await gridOf(1, { dispatch: { orphanWaitMs: 8_000 } });
    const asked = grid.ask({ terms: { deadlineMs: 60_000 } });
    await grid.untilTokens(asked, 40);
    if (agent !== undefined) grid.kill(agent);
    const lostAtMs = grid.timeline.nowMs;
    await grid.untilOver(asked);
    expect(asked.outcome()).toMatchObject({ kind: "failed", reason: { code: "upstream-lost" } });
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(10_000);
    expect(asked.generation.attempts()[0]?.acknowledgedTokens).toBe(asked.tokenIds().length);
  });

  test("fails at its deadline at the latest", async () => {
    const [agent] = await gridOf(1);
    const asked = grid.ask({ terms: { deadlineMs: 3_000 } });
    await grid.untilTokens(asked, 40);
    agent?.host.freeze();
    await grid.untilOver(asked);
    expect(asked.outcome()).toMatchObject({ kind: "failed", reason: { code: "deadline-exceeded" } });
    expect(grid.timeline.nowMs - (asked.atMs[0] ?? 0)).toBeLessThan(3_500);
  });

  test("a request that kills engines is given up before it has killed them all", async () => {
    const agents = await gridOf(5, { warmReplicas: 5 });
    await grid.run(3_000);
    const asked = grid.ask({ tokensMax: 400 });
    for (let crashes = 0; crashes < 5 && asked.outcome() === null; crashes++) {
      const served = asked.servedBy().length;
      const tokens = asked.tokenIds().length;
      await grid.until(() => asked.servedBy().length > served || asked.tokenIds().length > tokens, "more tokens");
      await grid.until(() => asked.tokenIds().length > tokens, "more tokens");
      for (const engine of grid.serving(asked, agents).engines.alive) engine.crash();
      await grid.run(20);
    }
    expect(asked.outcome()).toMatchObject({ kind: "failed", reason: { code: "upstream-lost" } });
    expect(asked.generation.attempts()).toHaveLength(3);
  });
});

describe("a request that cannot run", () => {
  test("is refused at once when there is no node, and told so", async () => {
    await gridOf(0);
    const asked = grid.ask();
    await grid.run(1);
    expect(asked.outcome()).toMatchObject({
      kind: "failed",
      reason: {
        code: "no-capable-node",
        message: expect.stringContaining("no-node: 1"),
        retryAfterMs: expect.any(Number),
      },
    });
  });

  test("is refused at once when no node has the memory, with the count", async () => {
    grid = new DispatchGrid();
    await grid.start();
    const { CAPABILITIES } = await import("./support/membership-grid.ts");
    const devices = CAPABILITIES.devices.map((device) => ({ ...device, memoryBytes: 2_050_000_000 }));
    await grid.addAgent({ capabilities: { ...CAPABILITIES, devices } });
    const asked = grid.ask();
    await grid.run(1);
    expect(asked.outcome()).toMatchObject({
      kind: "failed",
      reason: { code: "no-capable-node", message: expect.stringContaining("memory-too-small: 1") },
    });
  });

  test("waits its turn when every slot is busy, and is turned away when the queue is full", async () => {
    await gridOf(1, { dispatch: { queueLengthMax: 2 } });
    const running = Array.from({ length: 1 }, () => grid.ask({ tokensMax: 5 }));
    await grid.until(() => running.every((one) => one.outcome() !== null), "a loaded model");
    const asked = Array.from({ length: 67 }, (_, at) => grid.ask({ choice: at, tokensMax: 20 }));
    await grid.run(5);
    const turnedAway = asked.filter((one) => one.outcome() !== null);
    expect(turnedAway).toHaveLength(1);
    expect(turnedAway[0]?.outcome()).toMatchObject({
      reason: { code: "queue-full", retryAfterMs: expect.any(Number) },
    });
    await grid.until(() => asked.every((one) => one.outcome() !== null), "all answers");
    expect(asked.filter((one) => one.outcome()?.kind === "end")).toHaveLength(66);
  });

  test("of a drained grid is refused, and what runs may end", async () => {
    await gridOf(1);
    const running = grid.ask({ tokensMax: 30 });
    await grid.untilTokens(running, 3);
    const drained = grid.dispatcher.drain(60_000);
    const late = grid.ask();
    await grid.settled(drained);
    expect(running.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(late.outcome()).toMatchObject({ reason: { code: "draining" } });
  });
});

describe("finish", () => {
  test("stops the node, pays for what was delivered, and brings the signed statement", async () => {
    await gridOf(1);
    const asked = grid.ask();
    await grid.untilTokens(asked, 30);
    const delivered = asked.tokenIds().length;
    const askedAtMs = grid.timeline.nowMs;
    const records = await grid.settled(asked.generation.finish("cancelled"));
    expect(grid.timeline.nowMs - askedAtMs).toBeLessThan(100);
    expect(records).toMatchObject([
      { ending: "cancelled", acknowledgedTokens: delivered, statementJson: expect.any(String) },
    ]);
    await grid.run(1_000);
    expect(asked.tokenIds()).toHaveLength(delivered);
    expect(asked.outcome()).toBeNull();
    expect(grid.dispatcher.stats()).toMatchObject({ running: 0, breaches: 0 });
  });

  test("waits no longer than its bound for a node that froze", async () => {
    const [agent] = await gridOf(1);
    const asked = grid.ask();
    await grid.untilTokens(asked, 30);
    agent?.host.freeze();
    const askedAtMs = grid.timeline.nowMs;
    const records = await grid.settled(asked.generation.finish("stop-string"));
    expect(grid.timeline.nowMs - askedAtMs).toBeLessThan(700);
    expect(records).toMatchObject([{ ending: "finished", statementJson: null }]);
  });

  test("may be called while waiting, twice, and after the end", async () => {
    await gridOf(1);
    const waiting = grid.ask();
    await grid.run(1);
    expect(await grid.settled(waiting.generation.finish("cancelled"))).toEqual([]);
    expect(await grid.settled(waiting.generation.finish("cancelled"))).toEqual([]);
    const ended = grid.ask({ tokensMax: 3 });
    await grid.untilOver(ended);
    expect(endings(await grid.settled(ended.generation.finish("cancelled")))).toEqual(["finished"]);
    expect(waiting.events).toEqual([]);
  });
});

function fail(): never {
  throw new Error("there is a node");
}
