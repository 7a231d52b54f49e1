import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tinyCluster } from "../../../test/support/tiny-clusters.ts";
import { isServable, type LayoutGraph, layersAt, layoutGraph } from "./layout-graph.ts";
import { WaySearch } from "./way-search.ts";

const idOf = (graph: LayoutGraph, vertex: number): string =>
  graph.nodes[vertex]?.id ?? (vertex === graph.source ? "source" : "sink");
const edgesOf = (graph: LayoutGraph): string[] =>
  graph.edges.map((edge) => `${idOf(graph, edge.from)}>${idOf(graph, edge.to)}@${edge.firstLayer}`);

describe("edges of a layout", () => {
  const overlapping = tinyCluster({
    layerCount: 6,
    nodes: [
      { id: "a", holds: [0, 4] },
      { id: "b", holds: [2, 6] },
      { id: "c", holds: [4, 6] },
    ],
  });

  test("lead to the node that begins with the next layer, or holds it when partial intervals are allowed", () => {
    const { cluster, layout } = overlapping;
    const exact = layoutGraph(cluster, layout, { isPartialAllowed: false });
    expect(edgesOf(exact).toSorted()).toEqual(["a>c@4", "b>sink@6", "c>sink@6", "source>a@0"]);
    const partial = layoutGraph(cluster, layout, { isPartialAllowed: true });
    expect(edgesOf(partial).toSorted()).toEqual(["a>b@4", "a>c@4", "b>sink@6", "c>sink@6", "source>a@0"]);
    expect(partial.edges.filter(({ to }) => idOf(partial, to) === "b").map((edge) => layersAt(partial, edge))).toEqual([
      2,
    ]);
  });

  test("stay within their pipeline", () => {
    const { cluster, layout } = tinyCluster({
      layerCount: 2,
      nodes: [
        { id: "a", holds: [0, 1] },
        { id: "b", holds: [1, 2] },
        { id: "c", holds: [0, 1] },
        { id: "d", holds: [1, 2] },
      ],
    });
    expect(edgesOf(layoutGraph(cluster, layout)).filter((edge) => edge.endsWith("@1"))).toHaveLength(4);
    const pipelines = [
      ["a", "b"],
      ["c", "d"],
    ];
    const inner = edgesOf(layoutGraph(cluster, layout, { pipelines })).filter((edge) => edge.endsWith("@1"));
    expect(inner.toSorted()).toEqual(["a>b@1", "c>d@1"]);
  });

  test("a layout with a hole has no way", () => {
    const { cluster, layout } = tinyCluster({
      layerCount: 4,
      nodes: [
        { id: "a", holds: [0, 2] },
        { id: "b", holds: [3, 4] },
      ],
    });
    expect(isServable(layoutGraph(cluster, layout))).toBe(false);
  });
});

/** Random stage layouts: every node holds one of the stages of two layers each. */
const layoutArb = fc
  .record({
    stages: fc.integer({ min: 1, max: 4 }),
    nodes: fc.array(fc.record({ stage: fc.nat(), rate: fc.integer({ min: 1, max: 100 }) }), {
      minLength: 1,
      maxLength: 9,
    }),
  })
  .map(({ stages, nodes }) =>
    tinyCluster({
      layerCount: 2 * stages,
      tokenBytes: 0.01,
      activationBytes: 20,
      nodes: nodes.map(({ stage, rate }, at) => ({
        id: `n${at}`,
        holds: [2 * (stage % stages), 2 * (stage % stages) + 2],
        tokensPerSecond: rate,
      })),
    }),
  );

test("the flow that fills wide ways first is a maximum flow, and what comes into a node leaves it", () => {
  fc.assert(
    fc.property(layoutArb, ({ cluster, layout }) => {
      const graph = layoutGraph(cluster, layout, { isPartialAllowed: false });
      const sum = (edges: readonly number[] | undefined): number =>
        (edges ?? []).reduce((total, index) => total + (graph.edges[index]?.flowTokensPerSecond ?? 0), 0);
      // A link's token weighs its id as well here, which the planner's flow leaves out: a thousandth of a percent.
      expect(sum(graph.outEdges[graph.source])).toBeCloseTo(graph.flow.tokensPerSecond, 1);
      for (const vertex of graph.nodes.keys()) {
        expect(sum(graph.inEdges[vertex])).toBeCloseTo(sum(graph.outEdges[vertex]), 6);
        expect(sum(graph.inEdges[vertex])).toBeLessThanOrEqual(
          (graph.nodes[vertex]?.machine.tokensPerSecondByLayers[2] ?? 0) + 1e-6,
        );
      }
    }),
    { numRuns: 100 },
  );
});

test("the search finds the cheapest of all ways", () => {
  fc.assert(
    fc.property(
      layoutArb,
      fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 80 }),
      ({ cluster, layout }, costs) => {
        const graph = layoutGraph(cluster, layout);
        const costOf = (index: number): number => costs[index % costs.length] ?? 0;
        const cheapest = (vertex: number): number =>
          vertex === graph.sink
            ? 0
            : Math.min(
                Number.POSITIVE_INFINITY,
                ...(graph.outEdges[vertex] ?? []).map(
                  (index) => costOf(index) + cheapest(graph.edges[index]?.to ?? graph.sink),
                ),
              );
        const search = new WaySearch(graph);
        const way = search.find((edge) => ({ cost: costOf(edge.index), seconds: 1 }));
        const best = cheapest(graph.source);
        if (way === null) expect(best).toBe(Number.POSITIVE_INFINITY);
        else {
          expect(way.reduce((sum, index) => sum + costOf(index), 0)).toBe(best);
          expect([search.cost, search.seconds]).toEqual([best, way.length]);
        }
      },
    ),
    { numRuns: 100 },
  );
});
