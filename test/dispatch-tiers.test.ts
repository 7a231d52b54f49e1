/** Tiers and tenants: fair shares, preemption and hedges, with the real dispatcher and agents in virtual time. */
import { describe, expect, test } from "vitest";
import { tenantId } from "../src/domain/ids.ts";
import { LIVENESS } from "../src/domain/node.ts";
import type { ServiceTier } from "../src/domain/tier.ts";
import { PREEMPTIONS_MAX } from "../src/scheduler/admission/preemption.ts";
import { jainIndex } from "../src/scheduler/admission/tenant-shares.ts";
import { type Asked, DispatchGrid, endings, type GridAgent } from "./support/dispatch-grid.ts";

const SLOTS = 64;

async function gridOf(count: number, options: ConstructorParameters<typeof DispatchGrid>[0] = {}) {
  const grid = new DispatchGrid(options);
  await grid.start();
  const agents: GridAgent[] = [];
  for (let at = 0; at < count; at++) agents.push(await grid.addAgent());
  await grid.run(3_000);
  return { grid, agents };
}

/** Every slot of a lone node taken, each stream with some tokens. */
async function fullGrid(tier: ServiceTier | ((at: number) => ServiceTier), tokensMax = 300) {
  const { grid } = await gridOf(1, { warmReplicas: 1 });
  const tierOf = typeof tier === "string" ? () => tier : tier;
  const streams = Array.from({ length: SLOTS }, (_, at) =>
    grid.ask({ choice: at, tokensMax, terms: { tier: tierOf(at) } }),
  );
  await grid.until(() => streams.every((one) => one.tokenIds().length >= 5), "five tokens each");
  return { grid, streams };
}

const moved = (streams: readonly Asked[]) => streams.filter((one) => one.generation.attempts().length > 0);
const delivered = (asked: Asked) =>
  asked.generation.attempts().reduce((sum, { acknowledgedTokens }) => sum + acknowledgedTokens, 0);

describe("a priority request that finds every slot taken", () => {
  test("gets the slot of one flex stream at once, which goes on later with the same text and is paid for once", async () => {
    const { grid, streams } = await fullGrid((at) => (at % 2 === 0 ? "default" : "flex"));
    const askedAtMs = grid.timeline.nowMs;
    const urgent = grid.ask({ tokensMax: 20, terms: { tier: "priority" } });
    await grid.untilTokens(urgent, 1);
    expect(grid.timeline.nowMs - askedAtMs).toBeLessThan(300);
    expect(moved(streams)).toHaveLength(1);
    const [flex] = moved(streams);
    expect(flex?.request.terms.tier).toBe("flex");
    expect(flex?.generation.attempts()).toMatchObject([
      { ending: "moved", detail: expect.stringContaining(urgent.request.terms.requestId) },
    ]);
    await grid.until(() => [urgent, ...streams].every((one) => one.outcome() !== null), "all answers");
    for (const one of [urgent, ...streams]) {
      expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
      expect(delivered(one)).toBe(one.tokenIds().length);
    }
    expect(flex === undefined ? [] : endings(flex.generation.attempts())).toEqual(["moved", "finished"]);
    expect(grid.dispatcher.stats()).toMatchObject({ preempted: 1, moved: 0, failed: 0, breaches: 0 });
  });

  test("takes default streams when there is no flex one, and as many as there are priority requests", async () => {
    const { grid, streams } = await fullGrid("default");
    const urgent = Array.from({ length: 3 }, () => grid.ask({ tokensMax: 10, terms: { tier: "priority" } }));
    await grid.until(() => urgent.every((one) => one.outcome() !== null), "the urgent answers");
    expect(grid.dispatcher.stats().preempted).toBe(3);
    await grid.until(() => streams.every((one) => one.outcome() !== null), "all answers");
    for (const one of streams) expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
  });

  test("never takes the slot of a priority stream, whatever it pays", async () => {
    const { grid, streams } = await fullGrid("priority", 60);
    const price = { inputMicroUsdPerMtok: 10 ** 9, outputMicroUsdPerMtok: 10 ** 9 };
    const urgent = grid.ask({ tokensMax: 10, terms: { tier: "priority", price } });
    await grid.untilOver(urgent);
    expect(urgent.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(moved(streams).filter((one) => endings(one.generation.attempts()).includes("moved"))).toEqual([]);
    expect(grid.dispatcher.stats().preempted).toBe(0);
  });

  test("leaves alone who was preempted often enough, and default and flex requests preempt nobody", async () => {
    const { grid, streams } = await fullGrid("flex", 400);
    for (let round = 0; round < 12; round++) {
      const urgent = Array.from({ length: SLOTS / 4 }, (_, at) =>
        grid.ask({ choice: at, tokensMax: 3, terms: { tier: "priority" } }),
      );
      grid.ask({ tokensMax: 3, terms: { tier: "default" } });
      await grid.until(() => urgent.every((one) => one.outcome() !== null), "the urgent answers");
    }
    await grid.until(() => streams.every((one) => one.outcome() !== null), "all answers");
    for (const one of streams) {
      const times = endings(one.generation.attempts()).filter((ending) => ending === "moved").length;
      expect(times).toBeLessThanOrEqual(PREEMPTIONS_MAX);
      expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
      for (const { detail } of one.generation.attempts().filter(({ ending }) => ending === "moved")) {
        expect(detail).toContain("for the priority request");
      }
    }
    expect(grid.dispatcher.stats().preempted).toBeGreaterThan(SLOTS / 4);
  });
});

describe("a priority request whose first token is late", () => {
  async function learnt() {
    const { grid, agents } = await gridOf(2, { warmReplicas: 2 });
    for (let count = 0; count < 30; count++) await grid.untilOver(grid.ask({ tokensMax: 2 }));
    return { grid, agents };
  }

  test("gets a second attempt on another node, long before the first one is suspected, and pays for one", async () => {
    const { grid, agents } = await learnt();
    const asked = grid.ask({ tokensMax: 40, terms: { tier: "priority" } });
    await grid.until(() => asked.servedBy().length === 1, "a start");
    const askedAtMs = grid.timeline.nowMs;
    grid.serving(asked, agents).host.freeze();
    await grid.untilTokens(asked, 1);
    expect(grid.timeline.nowMs - askedAtMs).toBeLessThan(LIVENESS.suspectMs / 3);
    await grid.untilOver(asked);
    expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
    expect(new Set(asked.servedBy()).size).toBe(2);
    expect(asked.generation.attempts()).toMatchObject([
      { ending: "cancelled", acknowledgedTokens: 0, detail: expect.stringContaining("first token") },
      { ending: "finished", acknowledgedTokens: 40 },
    ]);
    expect(grid.dispatcher.stats()).toMatchObject({ hedgesWon: 1, hedgesLost: 0, running: 0 });
  });

  test("keeps its first attempt when that one is first after all, and the other is cancelled and forgotten", async () => {
    const { grid, agents } = await learnt();
    const [first, second] = agents;
    for (const engine of first?.engines.alive ?? []) engine.slowDown(8);
    for (const engine of second?.engines.alive ?? []) engine.slowDown(60);
    const asked: Asked[] = [];
    for (let count = 0; count < 12 && grid.dispatcher.stats().hedgesLost === 0; count++) {
      const one = grid.ask({ tokensMax: 6, terms: { tier: "priority" } });
      asked.push(one);
      await grid.untilOver(one);
    }
    expect(grid.dispatcher.stats().hedgesLost).toBeGreaterThan(0);
    for (const one of asked) {
      expect(one.tokenIds()).toEqual(grid.undisturbed(one.request));
      expect(delivered(one)).toBe(6);
    }
    await grid.run(2_000);
    expect(grid.dispatcher.stats()).toMatchObject({ running: 0, waiting: 0, breaches: 0 });
    expect(agents.flatMap(({ agent }) => agent.replicas().map(({ slotsBusy }) => slotsBusy))).toEqual([0, 0]);
  });

  test("loses neither attempt's chance when one of the two nodes dies", async () => {
    for (const dying of ["first", "second"] as const) {
      const { grid, agents } = await learnt();
      for (const { engines } of agents) for (const engine of engines.alive) engine.slowDown(40);
      const asked = grid.ask({ tokensMax: 10, terms: { tier: "priority" } });
      const busy = () => agents.filter(({ agent }) => agent.replicas().some(({ slotsBusy }) => slotsBusy > 0));
      await grid.until(() => busy().length === 2, "two attempts");
      const first = grid.serving(asked, agents);
      const second = agents.find((agent) => agent !== first);
      if (second !== undefined) grid.kill(dying === "first" ? first : second);
      await grid.untilOver(asked);
      expect(asked.tokenIds()).toEqual(grid.undisturbed(asked.request));
      expect(endings(asked.generation.attempts())).toEqual(["node-lost", "finished"]);
      expect(delivered(asked)).toBe(10);
    }
  });

  test("is not hedged in other tiers", async () => {
    const { grid, agents } = await learnt();
    const asked = grid.ask({ tokensMax: 5 });
    await grid.until(() => asked.servedBy().length === 1, "a start");
    grid.serving(asked, agents).host.freeze();
    await grid.run(1_000);
    expect(grid.dispatcher.stats()).toMatchObject({ running: 1, hedgesWon: 0 });
  });

  test("ends both attempts when the caller leaves", async () => {
    const { grid, agents } = await learnt();
    for (const { engines } of agents) for (const engine of engines.alive) engine.slowDown(40);
    const asked = grid.ask({ tokensMax: 10, terms: { tier: "priority" } });
    await grid.until(() => grid.dispatcher.stats().running === 2, "two attempts");
    const records = await grid.settled(asked.generation.finish("cancelled"));
    expect(endings(records)).toEqual(["cancelled", "cancelled"]);
    expect(delivered(asked)).toBe(0);
    await grid.run(2_000);
    expect(agents.flatMap(({ agent }) => agent.replicas().map(({ slotsBusy }) => slotsBusy))).toEqual([0, 0]);
  });
});

describe("tenants that ask for very different things", () => {
  test("get the same device time while all of them wait", async () => {
    const { grid } = await gridOf(1, { warmReplicas: 1, dispatch: { queueLengthMax: 4_096 } });
    const sizes = [
      { digit: "1", tokensMax: 200, count: 60 },
      { digit: "2", tokensMax: 40, count: 250 },
      { digit: "3", tokensMax: 8, count: 1_200 },
    ];
    const asked: Asked[][] = sizes.map(() => []);
    for (let round = 0; round < 1_200; round++) {
      for (const [at, { digit, tokensMax, count }] of sizes.entries()) {
        if (round >= count) continue;
        const terms = { tenantId: tenantId(`ten_${digit.repeat(26)}`), deadlineMs: 600_000 };
        asked[at]?.push(grid.ask({ tokensMax, terms }));
      }
    }
    // 64 slots of 50 tokens a second: some 25,000 tokens.
    await grid.run(8_000);
    for (const ones of asked) expect(ones.some((one) => one.servedBy().length === 0)).toBe(true);
    const tokens = asked.map((ones) => ones.reduce((sum, one) => sum + one.tokenIds().length, 0));
    expect(tokens.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(15_000);
    expect(jainIndex(tokens)).toBeGreaterThanOrEqual(0.95);
    const { tenants, jainIndex: index } = grid.dispatcher.admission.shares();
    expect([tenants, index > 0.9]).toEqual([3, true]);
  });

  test("one that floods the queue is turned away and told when to come back and what it would cost; others get in", async () => {
    const { grid } = await gridOf(1, { warmReplicas: 1, dispatch: { queueLengthMax: 8 } });
    const of = (digit: string) => ({ tenantId: tenantId(`ten_${digit.repeat(26)}`) });
    const flood = Array.from({ length: SLOTS + 10 }, () => grid.ask({ tokensMax: 100, terms: of("1") }));
    await grid.run(1);
    const refused = flood.filter((one) => one.outcome() !== null);
    expect(refused).toHaveLength(4);
    expect(refused[0]?.outcome()).toMatchObject({
      reason: {
        code: "queue-full",
        message: expect.stringMatching(
          /6 requests of this tenant .* in about [\d.]+ s and cost at most 0\.0000\d\d USD/,
        ),
        retryAfterMs: expect.any(Number),
      },
    });
    const modest = grid.ask({ tokensMax: 5, terms: of("2") });
    await grid.untilOver(modest);
    expect(modest.outcome()).toEqual({ kind: "end", reason: "length" });
  });
});

describe("a flex request that finds every slot taken", () => {
  test("is refused, uncharged, when it has not started within the time that it waits, and told what helps", async () => {
    const { grid, streams } = await fullGrid("default", 400);
    const flex = grid.ask({ tokensMax: 5, terms: { tier: "flex", startWithinMs: 400 } });
    await grid.untilOver(flex);
    expect(streams.every((one) => one.outcome() === null)).toBe(true);
    expect(flex.outcome()).toMatchObject({
      kind: "failed",
      reason: {
        code: "resource-unavailable",
        message: expect.stringMatching(
          /within the 0\.[45] s that it waits; .* in about [\d.]+ s\. Nothing is charged\. What helps: /,
        ),
        retryAfterMs: expect.any(Number),
      },
    });
    expect(flex.generation.attempts()).toEqual([]);
  });

  test("waits for its own bound, and one that has started is not turned away by it when it lost its slot", async () => {
    const { grid, streams } = await fullGrid((at) => (at === 0 ? "flex" : "default"), 200);
    const [first] = streams;
    const patient = grid.ask({ tokensMax: 5, terms: { tier: "flex", startWithinMs: 60_000 } });
    const urgent = grid.ask({ tokensMax: 100, terms: { tier: "priority" } });
    await grid.until(() => [patient, urgent, ...streams].every((one) => one.outcome() !== null), "all answers");
    expect(first === undefined ? [] : endings(first.generation.attempts())).toEqual(["moved", "finished"]);
    expect(patient.outcome()).toMatchObject({ kind: "end" });
  });

  test("is answered with the code of OpenAI's flex, not with that of a full queue, when its queue is full", async () => {
    const { grid } = await gridOf(1, { warmReplicas: 1, dispatch: { queueLengthMax: 2 } });
    const asked = Array.from({ length: SLOTS + 6 }, () => grid.ask({ tokensMax: 50, terms: { tier: "flex" } }));
    await grid.run(1);
    const refused = asked.filter((one) => one.outcome() !== null);
    expect(refused.length).toBeGreaterThan(0);
    for (const one of refused) expect(one.outcome()).toMatchObject({ reason: { code: "resource-unavailable" } });
  });
});
