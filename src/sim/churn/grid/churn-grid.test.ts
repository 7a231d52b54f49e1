/** The grid in cases that can be counted by hand, and its laws under machines that come and go at random. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChurnPolicy, GridFacts } from "../policies/policy.ts";
import { routeOver } from "../policies/route-over.ts";
import type { SimModel } from "../policies/served-mix.ts";
import type { UpInterval } from "../scenario/availability.ts";
import type { GpuClass } from "../scenario/gpu-classes.ts";
import { type NodeDraw, REGION_RTT_MS, type RequestDraw, type Scenario } from "../scenario/scenario.ts";
import { TAIL_MS } from "../scenario/tier-bounds.ts";
import { ChurnGrid, WARM_UP_MS } from "./churn-grid.ts";
import type { Running, StagePlan } from "./grid-parts.ts";
import { prefillMs, stepMs, usableBytesOf } from "./stage-speed.ts";

const HOUR_MS = 3_600_000;
const END_MS = HOUR_MS;
const EVER: UpInterval = { fromMs: -WARM_UP_MS, toMs: END_MS + TAIL_MS, end: "owner" };
const MODEL: SimModel = {
  name: "small",
  layerCount: 10,
  layerBytes: 400e6,
  endsBytes: 0,
  kvBytesPerTokenLayer: 4_096,
  activationBytes: 8_192,
  flopsPerTokenLayer: 1e9,
};
const GPU: GpuClass = { name: "test", vramBytes: 12e9, memoryBytesPerSecond: 360e9, flops: 51e12 };

function machine(name: string, intervals: readonly UpInterval[]): NodeDraw {
  return {
    name,
    gpu: GPU,
    region: 0,
    owner: name,
    cohort: "test",
    zoneHours: 0,
    downBytesPerMs: 12_500,
    upBytesPerMs: 12_500,
    diskReadBytesPerMs: 1_000_000,
    diskBytes: 100e9,
    availability: { intervals, keepsDisk: true },
  };
}

function scenario(nodes: readonly NodeDraw[], requests: readonly RequestDraw[]): Scenario {
  return {
    kind: "owners",
    seed: 0,
    endMs: END_MS,
    historyMs: 0,
    startHourOfWeekUtc: 0,
    regionNames: ["here"],
    rttMs: [[REGION_RTT_MS]],
    models: [MODEL],
    nodes,
    requests,
  };
}

/** Every machine holds its part of the model; requests take the first way there is. */
class FixedPolicy implements ChurnPolicy {
  readonly replaysLostStagesOnly = false;
  readonly planEveryMs = 60_000;
  readonly planDelayMs = 0;
  readonly seen: Running[] = [];
  readonly #stages: readonly { first: number; end: number }[];

  constructor(stages: readonly { first: number; end: number }[]) {
    this.#stages = stages;
  }

  observe(): void {
    // It learns nothing.
  }

  plan(facts: GridFacts): ReadonlyMap<number, readonly StagePlan[]> {
    return new Map(
      facts.nodes.map(({ index, draw }) => {
        const stage = this.#stages[index % this.#stages.length] ?? { first: 0, end: MODEL.layerCount };
        return [index, [{ model: 0, ...stage, memoryBytes: usableBytesOf(draw.gpu) }]];
      }),
    );
  }

  route(running: Running, facts: GridFacts) {
    if (!this.seen.includes(running)) this.seen.push(running);
    const ready = facts.nodes
      .flatMap(({ stages }) => stages)
      .filter(({ state, isClosed, kvTokens, kvTokensMax, sequences }) => {
        const need = running.draw.promptTokens + running.draw.outputTokens;
        return state === "ready" && !isClosed && kvTokens + need <= kvTokensMax && sequences.size < 16;
      });
    return routeOver(ready, MODEL.layerCount, { hop: (_, hop) => hop.stage.node.index, last: () => 0, hopsMax: 4 });
  }
}

const WHOLE = [{ first: 0, end: MODEL.layerCount }];
const asked = (atMs: number, change: Partial<RequestDraw> = {}): RequestDraw => ({
  atMs,
  model: 0,
  tier: "default",
  promptTokens: 1_000,
  outputTokens: 101,
  ...change,
});

function run(of: Scenario, policy: FixedPolicy) {
  const grid = new ChurnGrid(of, policy, () => 0);
  grid.run();
  return { grid, figures: grid.fates.figures(of.requests.length, of.endMs) };
}

describe("by hand", () => {
  const promptMs = prefillMs(GPU, MODEL, { layers: 10, tokens: 1_000 });
  const oneStepMs = stepMs(GPU, MODEL, { layers: 10, sequences: 1 });

  test("one request on one machine: a round trip, its prompt, and a step for each token after the first", () => {
    const policy = new FixedPolicy(WHOLE);
    const { figures } = run(scenario([machine("a", [EVER])], [asked(1_000)]), policy);
    expect(figures).toMatchObject({ completed: 1, failed: 0, refused: 0, coldStarts: 0, lostTokens: 0, hopsMean: 1 });
    const [one] = policy.seen;
    expect(one?.firstTokenAtMs).toBeCloseTo(1_000 + REGION_RTT_MS + promptMs, 6);
    expect(one?.endedAtMs).toBeCloseTo(1_000 + REGION_RTT_MS + promptMs + 100 * oneStepMs, 6);
    expect(figures.goodputTokPerSecond).toBeCloseTo(101 / 3_600, 9);
  });

  test("its owner comes back after 40 steps: the other machine computes prompt and 41 tokens again, and goes on", () => {
    const startMs = 1_000 + REGION_RTT_MS + promptMs;
    const backMs = startMs + 40.5 * oneStepMs;
    const nodes = [machine("a", [{ ...EVER, toMs: backMs }]), machine("b", [EVER])];
    const policy = new FixedPolicy(WHOLE);
    const { figures } = run(scenario(nodes, [asked(1_000)]), policy);
    expect(figures).toMatchObject({ completed: 1, lostTokens: 1_041 });
    const again = prefillMs(GPU, MODEL, { layers: 10, tokens: 1_041 });
    const resumedMs = backMs + REGION_RTT_MS + again;
    // The 42nd token comes with the prompt, 59 are left.
    expect(policy.seen[0]?.endedAtMs).toBeCloseTo(resumedMs + 59 * oneStepMs, 6);
  });

  test("a machine that vanishes is noticed later than an owner who comes back", () => {
    const startMs = 1_000 + REGION_RTT_MS + promptMs;
    const at = startMs + 40.5 * oneStepMs;
    const ended = (end: UpInterval["end"]) => {
      const policy = new FixedPolicy(WHOLE);
      run(scenario([machine("a", [{ ...EVER, toMs: at, end }]), machine("b", [EVER])], [asked(1_000)]), policy);
      return policy.seen[0]?.endedAtMs ?? 0;
    };
    expect(ended("vanished") - ended("owner")).toBeCloseTo(2_625, 6);
  });

  test("a machine that comes late fetches at the speed of its line, loads, and serves who waited", () => {
    const nodes = [machine("a", [{ ...EVER, fromMs: 0 }])];
    const policy = new FixedPolicy(WHOLE);
    const { grid, figures } = run(scenario(nodes, [asked(10, { tier: "flex" })]), policy);
    expect(figures).toMatchObject({ completed: 1, coldStarts: 1 });
    expect(grid.movedBytes).toBe(4e9);
    expect(grid.loads).toBe(1);
    const readyMs = 4e9 / 12_500 + 3_000 + 4e9 / 1_000_000;
    expect(policy.seen[0]?.firstTokenAtMs).toBeCloseTo(readyMs + REGION_RTT_MS + promptMs, 6);
  });

  test("what was fetched before an owner's short return is not fetched again", () => {
    const away = [
      { ...EVER, toMs: 600_000 },
      { ...EVER, fromMs: 1_200_000 },
    ];
    const { grid } = run(scenario([machine("a", away)], []), new FixedPolicy(WHOLE));
    expect(grid.movedBytes).toBe(0);
    expect(grid.loads).toBe(1);
    expect(grid.losses).toBe(1);
  });

  test("through two stages the prompt goes over the line between them", () => {
    const halves = [
      { first: 0, end: 5 },
      { first: 5, end: 10 },
    ];
    const policy = new FixedPolicy(halves);
    run(scenario([machine("a", [EVER]), machine("b", [EVER])], [asked(1_000)]), policy);
    const half = prefillMs(GPU, MODEL, { layers: 5, tokens: 1_000 });
    const between = REGION_RTT_MS / 2 + (1_000 * MODEL.activationBytes) / 12_500;
    expect(policy.seen[0]?.firstTokenAtMs).toBeCloseTo(1_000 + REGION_RTT_MS + 2 * half + between, 6);
  });
});

describe("laws", () => {
  const interval = fc.tuple(fc.integer({ min: 10_000, max: 900_000 }), fc.integer({ min: 10_000, max: 900_000 }));
  const comings = fc.array(interval, { minLength: 1, maxLength: 6 }).map((pairs) => {
    const intervals: UpInterval[] = [];
    let atMs = -WARM_UP_MS / 4;
    for (const [upMs, awayMs] of pairs) {
      intervals.push({ fromMs: atMs, toMs: atMs + upMs, end: upMs % 2 === 0 ? "owner" : "vanished" });
      atMs += upMs + awayMs;
    }
    return intervals;
  });
  const requests = fc
    .array(
      fc.record({
        atMs: fc.nat(END_MS - 1),
        tier: fc.constantFrom("priority", "default", "flex"),
        promptTokens: fc.integer({ min: 1, max: 4_000 }),
        outputTokens: fc.integer({ min: 1, max: 900 }),
      }),
      { maxLength: 60 },
    )
    .map((drawn) => drawn.map((one): RequestDraw => ({ ...one, model: 0 })).sort((a, b) => a.atMs - b.atMs));

  test("every request ends once, in time, and a replay gives every one the same fate", () => {
    fc.assert(
      fc.property(fc.array(comings, { minLength: 1, maxLength: 5 }), requests, fc.boolean(), (all, drawn, isSplit) => {
        const nodes = all.map((intervals, index) => machine(`m${index}`, intervals));
        const of = scenario(nodes, drawn);
        const stages = isSplit
          ? [
              { first: 0, end: 4 },
              { first: 3, end: 10 },
            ]
          : WHOLE;
        const digests = [0, 1].map(() => {
          const policy = new FixedPolicy(stages);
          const { grid, figures } = run(of, policy);
          expect(figures.completed + figures.failed + figures.refused).toBe(drawn.length);
          for (const { endedAtMs, generated, draw } of policy.seen) {
            expect(endedAtMs).not.toBeNull();
            expect(generated).toBeLessThanOrEqual(draw.outputTokens);
          }
          return grid.fates.digest("");
        });
        expect(digests[0]).toBe(digests[1]);
      }),
      { numRuns: 60 },
    );
  });
});
