import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type TinySettings, tinyCluster } from "../../../test/support/tiny-clusters.ts";
import { layoutGraph } from "../../scheduler/routing/layout-graph.ts";
import { openRouter } from "../../scheduler/routing/open-router.ts";
import { ROUTER_NAMES, type RouterName } from "../../scheduler/routing/router.ts";
import type { Arrival } from "./arrivals.ts";
import { ServingWorld } from "./serving-world.ts";

const LONG_S = 100_000;

function run(
  settings: TinySettings,
  arrivals: readonly Arrival[],
  router: RouterName = "helix",
  untilS = LONG_S,
): ServingWorld {
  const { cluster, layout } = tinyCluster(settings);
  const graph = layoutGraph(cluster, layout);
  const world = new ServingWorld({
    graph,
    router: openRouter(router, { graph, mode: "online", draw: () => 0.3, offlineRequests: null }),
    window: { startS: 0, endS: untilS },
    arrivals,
    offline: null,
  });
  world.run();
  return world;
}

const ONE_NODE: TinySettings = {
  layerCount: 2,
  nodes: [{ id: "a", holds: [0, 2] }],
  links: { "a>sink": { latencySeconds: 0.2 } },
};

describe("one request, worked out by hand", () => {
  test("on one node takes the two links, the layers and nothing else", () => {
    const world = run(ONE_NODE, [{ atS: 5, promptTokens: 100, outputTokens: 2 }]);
    // 100 bytes out 0.1 + 0.1, two layers of 0.1, 100 bytes back 0.1 + 0.2.
    expect([...world.promptLatencies.sorted()]).toEqual([expect.closeTo(0.7, 9)]);
    // 1 byte 0.001 + 0.1, two layers of 5 ms, 1 byte 0.001 + 0.2; twice.
    expect([...world.decodeLatencies.sorted()]).toEqual([expect.closeTo(0.312, 9), expect.closeTo(0.312, 9)]);
    expect(world.counts).toMatchObject({ came: 1, ended: 1, decodeTokensInAll: 2, promptTokens: 100 });
  });

  test("on two stages adds the link between them, with the weight of activations, and the copying in", () => {
    const world = run(
      {
        layerCount: 3,
        nodes: [
          { id: "a", holds: [0, 1] },
          { id: "b", holds: [1, 3] },
        ],
        activationBytes: 9,
        links: { "a>b": { bytesPerSecond: 10_000, latencySeconds: 1 } },
      },
      [{ atS: 0, promptTokens: 100, outputTokens: 1 }],
    );
    const copyS = 100 * (9 / 4e9 + 9 / 5e9);
    // Out 0.2; one layer 0.1; 100 x 10 bytes 0.1 + 1; two layers 0.2; back 0.2.
    expect([...world.promptLatencies.sorted()]).toEqual([expect.closeTo(1.8 + 2 * copyS, 9)]);
    // Out 0.101; 0.005; 10 bytes 0.001 + 1; 0.010; back 0.101.
    expect([...world.decodeLatencies.sorted()]).toEqual([expect.closeTo(1.218 + copyS / 50, 9)]);
  });

  test("enters an overlapping interval at the layer that it needs next", () => {
    const world = run(
      {
        layerCount: 4,
        nodes: [
          { id: "a", holds: [0, 3] },
          { id: "b", holds: [1, 4] },
        ],
      },
      [{ atS: 0, promptTokens: 100, outputTokens: 1 }],
    );
    // Out 0.2; three layers 0.3; link 0.2; only layer 3: 0.1; back 0.2.
    expect([...world.promptLatencies.sorted()]).toEqual([expect.closeTo(1.0, 9)]);
  });
});

describe("several requests", () => {
  test("a link sends one after the other", () => {
    const both = { atS: 0, promptTokens: 100, outputTokens: 1 };
    const world = run({ ...ONE_NODE, nodes: [{ id: "a", holds: [0, 2], promptRequestsMax: 2 }] }, [both, both]);
    // The second leaves 0.1 later, meets a node that is busy until 0.4, and goes alone.
    expect([...world.promptLatencies.sorted()]).toEqual([expect.closeTo(0.7, 9), expect.closeTo(0.9, 9)]);
  });

  test("a batch takes as many prompts as the machine may, the others wait for the next pass", () => {
    const arrivals = [0, 0, 0].map((atS) => ({ atS, promptTokens: 100, outputTokens: 1 }));
    const fast = { "source>a": { bytesPerSecond: 1e9, latencySeconds: 0.1 }, "a>sink": { bytesPerSecond: 1e9 } };
    const latencies = (promptRequestsMax: number): number[] =>
      [
        ...run(
          { ...ONE_NODE, nodes: [{ id: "a", holds: [0, 2], promptRequestsMax }], links: fast },
          arrivals,
        ).promptLatencies.sorted(),
      ].map((seconds) => Math.round(seconds * 1000) / 1000);
    expect(latencies(1)).toEqual([0.4, 0.6, 0.8]);
    // The first goes alone, because it is there first; the other two go together and take twice as long.
    expect(latencies(2)).toEqual([0.4, 0.8, 0.8]);
  });

  test("the order of equal arrivals in the input changes nothing", () => {
    const arrivals = [300, 20, 150, 20, 80].map((promptTokens, at) => ({
      atS: at < 4 ? 1 : 2,
      promptTokens,
      outputTokens: 3 + at,
    }));
    const sorted = (list: readonly Arrival[]): readonly Arrival[] =>
      list.toSorted((a, b) => a.atS - b.atS || a.promptTokens - b.promptTokens || a.outputTokens - b.outputTokens);
    const forwards = run(TWO_WAYS, sorted(arrivals), "ours");
    const backwards = run(TWO_WAYS, sorted(arrivals.toReversed()), "ours");
    expect([...backwards.decodeLatencies.sorted()]).toEqual([...forwards.decodeLatencies.sorted()]);
    expect(backwards.counts).toEqual(forwards.counts);
  });
});

const TWO_WAYS: TinySettings = {
  layerCount: 4,
  nodes: [
    { id: "a", holds: [0, 2] },
    { id: "b", holds: [0, 2], slowness: 2 },
    { id: "c", holds: [2, 4] },
    { id: "d", holds: [2, 4], slowness: 3 },
  ],
  activationBytes: 9,
};

describe("KV room", () => {
  test("is full at most and empty at the end, whatever has to be evicted for it", () => {
    const arrivals = Array.from({ length: 8 }, (_, at) => ({ atS: at / 100, promptTokens: 50, outputTokens: 60 }));
    // Room for three prompts and a little more on two layers.
    const world = run({ ...ONE_NODE, nodes: [{ id: "a", holds: [0, 2], kvTokenLayers: 400 }] }, arrivals, "swarm");
    expect(world.counts).toMatchObject({ ended: 8, dropped: 0, decodeTokensInAll: 8 * 60 });
    expect(world.counts.evictions).toBeGreaterThan(0);
    expect(world.nodes.map(({ kvUsed }) => kvUsed)).toEqual([0]);
    expect(world.nodes[0]?.kvPeak).toBeLessThanOrEqual(400);
  });

  test("that no node has drops the request instead of waiting for ever", () => {
    const world = run(
      { ...ONE_NODE, nodes: [{ id: "a", holds: [0, 2], kvTokenLayers: 100 }] },
      [{ atS: 0, promptTokens: 400, outputTokens: 5 }],
      "swarm",
    );
    expect(world.counts).toMatchObject({ came: 1, dropped: 1, ended: 0, inFlightAtEnd: 0 });
  });
});

const arrivalArb = fc.record({
  atS: fc.integer({ min: 0, max: 40 }).map((tenths) => tenths / 10),
  promptTokens: fc.integer({ min: 1, max: 300 }),
  outputTokens: fc.integer({ min: 1, max: 20 }),
});

describe("laws", () => {
  const loads = fc.array(arrivalArb, { minLength: 1, maxLength: 25 });
  const rooms = fc.integer({ min: 200, max: 10_000 });

  test.each(ROUTER_NAMES)("under %s no request is lost, tokens in are tokens out, and all KV is freed", (router) => {
    fc.assert(
      fc.property(loads, rooms, (arrivals, kvTokenLayers) => {
        const nodes = TWO_WAYS.nodes.map((node) => ({ ...node, kvTokenLayers }));
        const world = run({ ...TWO_WAYS, nodes }, arrivals, router);
        const { came, ended, dropped, decodeTokensInAll, waitingAtEnd, inFlightAtEnd } = world.counts;
        expect(came).toBe(arrivals.length);
        expect({ waitingAtEnd, inFlightAtEnd }).toEqual({ waitingAtEnd: 0, inFlightAtEnd: 0 });
        expect(ended + dropped).toBe(came);
        const asked = arrivals.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
        if (dropped === 0) expect(decodeTokensInAll).toBe(asked);
        for (const node of world.nodes) {
          expect(node.kvUsed).toBe(0);
          expect(node.kvPeak).toBeLessThanOrEqual(kvTokenLayers);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("at any moment every request that came waits, travels, ended or was dropped", () => {
    fc.assert(
      fc.property(
        loads,
        fc.integer({ min: 1, max: 60 }),
        fc.constantFrom(...ROUTER_NAMES),
        (arrivals, untilS, router) => {
          const { counts } = run(TWO_WAYS, arrivals, router, untilS / 10);
          expect(counts.ended + counts.dropped + counts.waitingAtEnd + counts.inFlightAtEnd).toBe(counts.came);
        },
      ),
      { numRuns: 60 },
    );
  });
});
