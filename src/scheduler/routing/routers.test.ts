import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type TinySettings, tinyCluster } from "../../../test/support/tiny-clusters.ts";
import { KvRoom } from "./kv-room.ts";
import { type LayoutGraph, layoutGraph } from "./layout-graph.ts";
import { openRouter } from "./open-router.ts";
import type { LiveState, RouteRequest, Router, RouterName, Way } from "./router.ts";

const IDLE: LiveState = { queueLength: () => 0, kvUsedShare: () => 0, linkBacklogS: () => 0 };

/** Two ways through two stages; the rates are what Helix's flow follows. */
const TWO_WAYS: TinySettings = {
  layerCount: 4,
  nodes: [
    { id: "a", holds: [0, 2], tokensPerSecond: 75 },
    { id: "b", holds: [0, 2], tokensPerSecond: 25 },
    { id: "c", holds: [2, 4], tokensPerSecond: 100 },
  ],
  tokenBytes: 0.001,
};

function open(name: RouterName, settings: TinySettings, mode: "online" | "offline" = "online") {
  const { cluster, layout } = tinyCluster(settings);
  const graph = layoutGraph(cluster, layout);
  const router = openRouter(name, { graph, mode, draw: () => 0, offlineRequests: 7 });
  return { graph, router };
}

function namesOf(graph: LayoutGraph, way: Way | null): string {
  if (way === null) return "none";
  return way.map((index) => graph.nodes[graph.edges[index]?.to ?? -1]?.id ?? "sink").join(" ");
}

function routeMany(router: Router, graph: LayoutGraph, count: number, promptTokens = 100): string[] {
  return Array.from({ length: count }, (_, id) => namesOf(graph, router.route({ id, promptTokens }, id, IDLE)));
}

describe("the helix router", () => {
  test("gives each way its share of the maximum flow", () => {
    const { graph, router } = open("helix", TWO_WAYS);
    const ways = routeMany(router, graph, 100);
    expect(ways.filter((way) => way === "a c sink")).toHaveLength(75);
    expect(ways.filter((way) => way === "b c sink")).toHaveLength(25);
  });

  test("goes past nodes whose expected KV is full, and has no way when all are", () => {
    const nodes = TWO_WAYS.nodes.map((node) => (node.id === "a" ? { ...node, kvTokenLayers: 250 } : node));
    const { graph, router } = open("helix", { ...TWO_WAYS, nodes });
    // 106 expected tokens on two layers fit once below nine tenths of 250.
    expect(routeMany(router, graph, 4)).toEqual(["a c sink", "b c sink", "b c sink", "b c sink"]);
    const full = open("helix", { ...TWO_WAYS, nodes: nodes.map((node) => ({ ...node, kvTokenLayers: 250 })) });
    expect(routeMany(full.router, full.graph, 3)).toEqual(["a c sink", "none", "none"]);
  });

  test("asks for more offline while the expected KV lasts, and not after", () => {
    const { graph, router } = open(
      "helix",
      { ...TWO_WAYS, nodes: [{ id: "a", holds: [0, 4], kvTokenLayers: 1000 }] },
      "offline",
    );
    expect(router.pull("start", 0)).toBe(20);
    expect(router.pull("prompt-done", 0)).toBe(1);
    const request: RouteRequest = { id: 1, promptTokens: 195 };
    const way = router.route(request, 0, IDLE);
    expect(namesOf(graph, way)).toBe("a sink");
    expect(router.pull("ended", 0)).toBe(0);
    router.released?.(request, way ?? [], 1);
    expect(router.pull("ended", 1)).toBe(1);
  });
});

describe("routers that go hop by hop", () => {
  test("swarm prefers the edge whose hops were quicker, in the ratio of their times", () => {
    const { graph, router } = open("swarm", TWO_WAYS);
    const [toA = -1, toB = -1] = graph.outEdges[graph.source] ?? [];
    for (let hop = 0; hop < 50; hop++) {
      router.hopDone?.(toA, 0.1);
      router.hopDone?.(toB, 0.3);
    }
    const taken = Array.from({ length: 400 }, (_, id) =>
      router.nextEdge({ id, promptTokens: 1 }, graph.source, 0, IDLE),
    );
    expect(taken.filter((edge) => edge === toA).length / 400).toBeCloseTo(0.75, 2);
  });

  test("shortest-queue goes where fewest wait, and a free link breaks the tie", () => {
    const { graph, router } = open("shortest-queue", TWO_WAYS);
    const [toA, toB] = graph.outEdges[graph.source] ?? [];
    const ask = (live: Partial<LiveState>) =>
      router.nextEdge({ id: 1, promptTokens: 1 }, graph.source, 0, { ...IDLE, ...live });
    expect(ask({ queueLength: (vertex) => (graph.nodes[vertex]?.id === "a" ? 3 : 1) })).toBe(toB);
    expect(ask({ linkBacklogS: (edge) => (edge === toA ? 1 : 0) })).toBe(toB);
    expect(ask({})).toBe(toA);
  });

  test("a node without a way to the last layer is never taken", () => {
    const dead: TinySettings = { ...TWO_WAYS, without: ["b>c"] };
    for (const name of ["swarm", "random", "shortest-queue"] as const) {
      const { graph, router } = open(name, dead);
      const edge = graph.edges[router.nextEdge({ id: 1, promptTokens: 1 }, graph.source, 0, IDLE)];
      expect(graph.nodes[edge?.to ?? -1]?.id).toBe("a");
    }
    const ours = open("ours", dead);
    expect(routeMany(ours.router, ours.graph, 5)).toEqual(new Array(5).fill("a c sink"));
  });
});

describe("routers by shortest paths", () => {
  const slowA: TinySettings = {
    ...TWO_WAYS,
    nodes: TWO_WAYS.nodes.map((node) => (node.id === "a" ? { ...node, slowness: 4 } : { ...node, kvTokenLayers: 500 })),
  };

  test("petals takes the quickest servers until their cache is full, then waits less on the others", () => {
    const { graph, router } = open("petals", {
      ...slowA,
      nodes: slowA.nodes.map((node) => (node.id === "c" ? { ...node, kvTokenLayers: 9999 } : node)),
    });
    expect(routeMany(router, graph, 4)).toEqual(["b c sink", "b c sink", "a c sink", "a c sink"]);
  });

  test("parallax has no way when a stage has no memory left", () => {
    const { graph, router } = open("parallax", slowA);
    expect(routeMany(router, graph, 3)).toEqual(["b c sink", "b c sink", "none"]);
  });
});

describe("our router", () => {
  test("takes the quicker of two idle ways", () => {
    const nodes = TWO_WAYS.nodes.map((node) => (node.id === "a" ? { ...node, slowness: 3 } : node));
    const { graph, router } = open("ours", { ...TWO_WAYS, nodes });
    expect(routeMany(router, graph, 1)).toEqual(["b c sink"]);
  });

  test("spreads prompts over parallel links before one has a queue", () => {
    const { graph, router } = open("ours", TWO_WAYS);
    const ways = Array.from({ length: 6 }, (_, id) => namesOf(graph, router.route({ id, promptTokens: 500 }, 0, IDLE)));
    expect(new Set(ways)).toEqual(new Set(["a c sink", "b c sink"]));
    expect(Math.abs(ways.filter((way) => way.startsWith("a")).length - 3)).toBeLessThanOrEqual(1);
  });

  test("offline lets a wave in, shuts when nobody fits, and opens when a wave's worth has ended", () => {
    const { graph, router } = open(
      "ours",
      { ...TWO_WAYS, nodes: [{ id: "a", holds: [0, 4], kvTokenLayers: 50_000 }] },
      "offline",
    );
    const sent: [RouteRequest, Way][] = [];
    const send = (): boolean => {
      const request = { id: sent.length, promptTokens: 100 };
      const way = router.route(request, 0, IDLE);
      if (way !== null) sent.push([request, way]);
      return way !== null;
    };
    while (send());
    const full = sent.length;
    expect(full).toBe(Math.floor((0.95 * 50_000) / (110 * 4)));
    let ended = 0;
    while (!send()) {
      const [request, way] = sent[ended] ?? [{ id: -1, promptTokens: 0 }, []];
      router.released?.(request, way, 1);
      ended += 1;
    }
    expect(ended).toBeGreaterThan(1);
    expect(ended).toBeLessThanOrEqual(Math.ceil(full / 2));
    for (let more = 1; more < ended; more++) expect(send()).toBe(true);
    expect(send()).toBe(false);
    expect(graph.nodes).toHaveLength(1);
  });

  test("never books more KV than the high-water mark, and frees all that it booked", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 40 }), (prompts) => {
        const nodes = TWO_WAYS.nodes.map((node) => ({ ...node, kvTokenLayers: 4000 }));
        const { graph, router } = open("ours", { ...TWO_WAYS, nodes });
        const room = new KvRoom(graph, { outputTokensExpected: 10, highWaterShare: 1 });
        const taken: [RouteRequest, Way][] = [];
        for (const [id, promptTokens] of prompts.entries()) {
          const way = router.route({ id, promptTokens }, id / 10, IDLE);
          if (way === null) continue;
          taken.push([{ id, promptTokens }, way]);
          room.add({ id, promptTokens }, way);
        }
        for (const vertex of graph.nodes.keys()) expect(room.reservedShare(vertex)).toBeLessThanOrEqual(0.95);
        for (const [request, way] of taken) router.released?.(request, way, 100);
        expect(router.route({ id: 99, promptTokens: 1800 }, 101, IDLE)).not.toBeNull();
      }),
      { numRuns: 50 },
    );
  });
});
