import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { smallCluster } from "../../test/support/small-cluster.ts";
import { parseClusterFile } from "./cluster-file.ts";
import { layoutEntries, parseLayoutFile } from "./layout-file.ts";

const parsed = parseClusterFile(JSON.stringify(smallCluster()), { name: "small" });
if (!parsed.ok) throw new Error(parsed.reason.message);
const { cluster } = parsed.value;
const read = (value: unknown) => parseLayoutFile(JSON.stringify(value), cluster);
const whyOf = (value: unknown) => {
  const outcome = read(value);
  return outcome.ok ? "" : outcome.reason.message;
};
const NODES = { "0": { first: 0, end: 4 }, "1": { first: 4, end: 6 } };
const FILE = { format: "fallow-layout", version: 1, cluster: "small", layers: 6, nodes: NODES };

describe("a layout file", () => {
  test("gives back the layout that was written, for any layout that fits", () => {
    const interval = (most: number) =>
      fc
        .tuple(fc.nat(5), fc.integer({ min: 1, max: most }))
        .map(([first, count]) => ({ first, end: Math.min(6, first + count) }));
    const layouts = fc
      .record(Object.fromEntries(cluster.nodes.map(({ id, layersMax }) => [id, interval(layersMax)])), {
        requiredKeys: ["0"],
      })
      .map(
        (nodes) =>
          new Map(Object.entries(nodes).flatMap(([id, held]) => (held === undefined ? [] : [[id, held] as const]))),
      );
    fc.assert(
      fc.property(layouts, (layout) => {
        const outcome = read({ ...FILE, nodes: layoutEntries(layout, cluster), flow: { tokensPerSecond: 3 } });
        expect(outcome.ok && new Map(outcome.value.layout)).toEqual(layout);
      }),
    );
  });

  test("may be a bare object of layer lists, as in the Helix settings", () => {
    const outcome = read({ "0": [0, 1, 2, 3], "1": [4, 5], "3": [] });
    expect(outcome.ok && [...outcome.value.layout]).toEqual([
      ["0", { first: 0, end: 4 }],
      ["1", { first: 4, end: 6 }],
    ]);
  });

  test("says so when it was made for another cluster", () => {
    const outcome = read({ ...FILE, cluster: "large" });
    expect(outcome.ok && outcome.value.warnings).toEqual([
      'the layout was made for the cluster "large", this is "small"',
    ]);
  });

  test("may know KV rooms better than the profile, and of the nodes that it gives layers only", () => {
    const outcome = read({ ...FILE, kvTokenLayers: { "0": 5_000 } });
    expect(outcome.ok && outcome.value.kvTokenLayers).toEqual(new Map([["0", 5_000]]));
    for (const [kvTokenLayers, said] of [
      [{ zz: 5 }, "must be of a node of the layout"],
      [{ "0": -1 }, "must be a number above 0"],
      [{ "0": "many" }, "must be a number above 0"],
      [[5], "must be an object"],
    ] as const) {
      const refused = read({ ...FILE, kvTokenLayers });
      expect(refused.ok ? "" : refused.reason.message).toContain(said);
    }
  });

  test("carries pipelines and partial intervals", () => {
    const outcome = read({ ...FILE, pipelines: [["0", "1"]], isPartialAllowed: true });
    expect(outcome.ok && outcome.value).toMatchObject({ pipelines: [["0", "1"]], isPartialAllowed: true });
  });

  test.each([
    ["another version", { ...FILE, version: 2 }, /version: is 2; must be 1: this program reads no other version/],
    ["another format", { ...FILE, format: "x" }, /format: is "x"; must be "fallow-layout"/],
    ["another model", { ...FILE, layers: 80 }, /layers: is 80; must be 6, the number of layers in the cluster file/],
    ["no layers at all", { ...FILE, nodes: {} }, /is empty; must give at least one node layers/],
    [
      "an unknown node",
      { ...FILE, nodes: { x: { first: 0, end: 1 } } },
      /nodes\.x: is an object; must be the id of a node/,
    ],
    [
      "an interval turned round",
      { ...FILE, nodes: { "0": { first: 4, end: 4 } } },
      /nodes\.0: .*with 0 <= first < end/,
    ],
    ["a third field", { ...FILE, nodes: { "0": { first: 0, end: 1, k: 1 } } }, /nodes\.0: .*unknown field "k"/],
    [
      "too many layers for the node",
      { ...FILE, nodes: { "1": { first: 0, end: 3 } } },
      /nodes\.1: is 3 layers; must be at most 2/,
    ],
    [
      "a pipeline of strangers",
      { ...FILE, pipelines: [["0", "3"]] },
      /pipelines\[0\]\[1\]: is "3"; must be a node of the layout/,
    ],
    ["a list", [1], /is a list of 1; must be an object: node id to layers/],
  ])("is refused for %s", (_what, value, message) => {
    expect(whyOf(value)).toMatch(message);
  });

  test("of whatever content is read or refused", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (nodes) => {
        for (const value of [nodes, { ...FILE, nodes }]) {
          const outcome = read(value);
          expect(outcome.ok || outcome.reason.message.startsWith("the layout file")).toBe(true);
        }
      }),
    );
  });
});
