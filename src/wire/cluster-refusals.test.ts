import { describe, expect, test } from "vitest";
import { type ClusterValue, smallCluster } from "../../test/support/small-cluster.ts";
import { CLUSTER_FILE_BYTES_MAX, parseClusterFile } from "./cluster-file.ts";
import { PROBLEMS_SHOWN_MAX } from "./file-problems.ts";

const read = (value: unknown) => parseClusterFile(JSON.stringify(value), { name: "small" });
const changed = (change: (cluster: ClusterValue) => void) => {
  const cluster = structuredClone(smallCluster());
  change(cluster);
  return cluster;
};
const put = (target: object, key: string, value: unknown) => Reflect.set(target, key, value);
const problemsOf = (value: unknown) => {
  const outcome = read(value);
  return outcome.ok ? [] : outcome.reason.problems.map(({ path, value, rule }) => `${path} | ${value} | ${rule}`);
};
const table = (cluster: ClusterValue, name: string) => cluster.machineTypes["big"]?.[name] as Record<string, unknown>;

const refused: readonly [what: string, change: (c: ClusterValue) => void, problem: string | RegExp][] = [
  [
    "an unknown field",
    (c) => void put(c, "speed", 1),
    /^speed \| 1 \| is no field of a cluster file; known are name, source/,
  ],
  [
    "an unknown field of a node",
    (c) => void Object.assign(c.nodes[2] ?? {}, { gpu: "x" }),
    /^nodes\[2\]\.gpu \| "x" \| is no field of a node/,
  ],
  [
    "an unknown field of a batch limit",
    (c) => void Object.assign(table(c, "settings")["2"] ?? {}, { k: 1 }),
    /^machineTypes\.big\.settings\.1\.k \| 1 \|/,
  ],
  [
    "no layers",
    (c) => void put(c, "numLayers", 0),
    "numLayers | 0 | must be a whole number from 1 to 1000 (layers of the model)",
  ],
  ["too many layers", (c) => void put(c, "numLayers", 1_001), /^numLayers \| 1001 \|/],
  ["half a layer", (c) => void put(c, "numLayers", 5.5), /^numLayers \| 5.5 \| must be a whole number/],
  ["a missing field", (c) => void delete c["layerBytes"], /^layerBytes \| nothing \| must be a number above 0/],
  ["a text for a number", (c) => void put(c, "layerBytes", "1e9"), /^layerBytes \| "1e9" \| must be a number/],
  [
    "a negative number",
    (c) => void put(c, "activationBytes", -8_192),
    /^activationBytes \| -8192 \| must be a number above 0/,
  ],
  [
    "an absurd number",
    (c) => void put(c, "activationBytes", 1e300),
    /^activationBytes \| 1e\+300 \| must be .* at most 1000000000 /,
  ],
  ["null for a number", (c) => void put(c, "avgInputLen", null), /^avgInputLen \| null \| must be a number/],
  ["no nodes", (c) => void put(c, "nodes", []), "nodes | a list of 0 | must hold at least one node"],
  [
    "too many nodes",
    (c) =>
      void put(
        c,
        "nodes",
        Array.from({ length: 10_001 }, (_, id) => ({ id, type: "big" })),
      ),
    /^nodes \| a list of 10001 \| must hold at most 10000/,
  ],
  [
    "an id given twice",
    (c) => void Object.assign(c.nodes[1] ?? {}, { id: "0" }),
    /^nodes\[1\]\.id \| "0" \| must be unique/,
  ],
  [
    "markup for an id",
    (c) => void Object.assign(c.nodes[1] ?? {}, { id: "<b>" }),
    /^nodes\[1\]\.id \| "<b>" \| must be a whole number, or/,
  ],
  ["a fraction for an id", (c) => void Object.assign(c.nodes[1] ?? {}, { id: 1.5 }), /^nodes\[1\]\.id \| 1.5 \|/],
  [
    "the coordinator's name for an id",
    (c) => void Object.assign(c.nodes[1] ?? {}, { id: "sink" }),
    /^nodes\[1\]\.id \| "sink" \| must not be/,
  ],
  [
    "an unknown machine type",
    (c) => void Object.assign(c.nodes[1] ?? {}, { type: "huge" }),
    'nodes[1].type | "huge" | must be one of machineTypes: "big", "small"',
  ],
  [
    "a control character in a name",
    (c) => void Object.assign(c.nodes[1] ?? {}, { region: "a\u001b[2J" }),
    /^nodes\[1\]\.region \| "a\\u001b\[2J" \| must be a text/,
  ],
  [
    "a node that may hold nothing",
    (c) => void Object.assign(c.nodes[1] ?? {}, { layersMax: 0 }),
    /^nodes\[1\]\.layersMax \| 0 \|/,
  ],
  [
    "a node that may hold more than its machine",
    (c) => void Object.assign(c.nodes[1] ?? {}, { layersMax: 3 }),
    'nodes[1].layersMax | 3 | must be at most 2, the maxLayers of "small"',
  ],
  [
    "a trust above 1",
    (c) => void Object.assign(c.nodes[1] ?? {}, { trust: 1.1 }),
    /^nodes\[1\]\.trust \| 1.1 \| must be a number from 0 to 1/,
  ],
  ["no machine types", (c) => void put(c, "machineTypes", {}), /^machineTypes \| an object \| must hold at least one/],
  [
    "a machine that holds no layer",
    (c) => void Object.assign(c.machineTypes["big"] ?? {}, { maxLayers: 0 }),
    /^machineTypes\.big\.maxLayers \| 0 \|/,
  ],
  [
    "layers that exceed the memory",
    (c) => void Object.assign(c.machineTypes["big"] ?? {}, { vram_size: 3e9 }),
    /^machineTypes\.big\.maxLayers \| 4 \| must fit vram_size/,
  ],
  [
    "a table with a hole",
    (c) => void delete table(c, "throughputByLayers")["3"],
    /^machineTypes\.big\.throughputByLayers\.3 \| nothing \| must be there/,
  ],
  [
    "no KV cache",
    (c) => void put(table(c, "kvCapacityByLayers"), "3", 0),
    /^machineTypes\.big\.kvCapacityByLayers\.3 \| 0 \| must be a number above 0/,
  ],
  [
    "a rate of zero",
    (c) => void put(table(c, "throughputByLayers"), "1", 0),
    /^machineTypes\.big\.throughputByLayers\.1 \| 0 \|/,
  ],
  [
    "a table by something else",
    (c) => void put(table(c, "throughputByLayers"), "01", 5),
    /^machineTypes\.big\.throughputByLayers\.01 \| 5 \| the key must be a whole number/,
  ],
  [
    "a curve of one point",
    (c) => void Object.assign(c.machineTypes["big"] ?? {}, { promptTokens2secPerLayer: { "0": 0 } }),
    /promptTokens2secPerLayer \| an object \| must have at least 2 points/,
  ],
  [
    "a curve point between whole numbers",
    (c) => void put(table(c, "promptTokens2secPerLayer"), "1.5", 1),
    /promptTokens2secPerLayer\.1\.5 \| 1 \| the key must be a whole number/,
  ],
  [
    "work that takes no time",
    (c) => void put(table(c, "decodeTokens2secPerLayer"), "8", 0),
    /decodeTokens2secPerLayer \| an object \| must take more than 0 seconds/,
  ],
  ["no links", (c) => void put(c, "links", []), /^links \| a list of 0 \| must hold a link from source/],
  ["links that are no list", (c) => void Object.assign(c, { links: {} }), /^links \| an object \| must be a list/],
  [
    "links from nowhere",
    (c) =>
      void put(
        c,
        "links",
        c.links.filter(([from]) => from !== "source"),
      ),
    /^links \| a list of 10 \| must hold a link from source/,
  ],
  [
    "links to nowhere",
    (c) =>
      void put(
        c,
        "links",
        c.links.filter(([, to]) => to !== "sink"),
      ),
    /^links \| a list of 10 \| must hold a link from a node to sink/,
  ],
  [
    "a link that carries nothing",
    (c) => void Object.assign(c.links[3] ?? [], { 2: 0 }),
    /^links\[3\]\[2\] \| 0 \| must be a number above 0/,
  ],
  [
    "a link with a negative latency",
    (c) => void Object.assign(c.links[3] ?? [], { 3: -0.1 }),
    /^links\[3\]\[3\] \| -0.1 \| must be a number from 0/,
  ],
  [
    "a link to an unknown node",
    (c) => void Object.assign(c.links[9] ?? [], { 1: "nobody" }),
    'links[9][1] | "nobody" | must be sink or the id of a node',
  ],
  [
    "a link into source",
    (c) => void c.links.push(["0", "source", 1e8, 0]),
    /^links\[14\]\[1\] \| "source" \| must be sink or/,
  ],
  [
    "a link from a node to itself",
    (c) => void c.links.push(["0", "0", 1e8, 0]),
    /^links\[14\]\[1\] \| "0" \| must be another node/,
  ],
  [
    "a link from source to sink",
    (c) => void c.links.push(["source", "sink", 1e8, 0]),
    /^links\[14\] \| a list of 4 \| must have a node/,
  ],
  [
    "a link given twice",
    (c) => void c.links.push(["source", "0", 1e8, 0]),
    /^links\[14\] \| source to 0 \| stands there a second time/,
  ],
  [
    "a link of three",
    (c) => void c.links.push(["source", "0", 1e8]),
    /^links\[14\] \| a list of 3 \| must be a list of 4/,
  ],
  [
    "a layout with a gap",
    (c) => void put(c, "layouts", { ilp: { "0": [0, 2] } }),
    /^layouts\.ilp\.0 \| a list of 2 \| must be one run of layers/,
  ],
  [
    "a layout beyond the model",
    (c) => void put(c, "layouts", { ilp: { "0": [5, 6] } }),
    "layouts.ilp.0 | layer 6 | must be a layer of the model: 0 to 5",
  ],
  [
    "a layout beyond the machine",
    (c) => void put(c, "layouts", { ilp: { "1": [0, 1, 2] } }),
    /^layouts\.ilp\.1 \| 3 layers \| must be at most 2/,
  ],
  [
    "a layout of an unknown node",
    (c) => void put(c, "layouts", { ilp: { "7": [0] } }),
    /^layouts\.ilp\.7 \| a list of 1 \| must be the id of a node/,
  ],
  ["a layout that is no layout", (c) => void put(c, "layouts", { ilp: 3 }), /^layouts\.ilp \| 3 \| must be an object/],
];

describe("a cluster file is refused, with the place, the value and the rule, for", () => {
  test.each(refused)("%s", (_what, change, problem) => {
    const [first] = problemsOf(changed(change));
    if (typeof problem === "string") expect(first).toBe(problem);
    else expect(first).toMatch(problem);
  });

  test("a number that overflows", () => {
    const text = JSON.stringify(smallCluster()).replace('"layerBytes":1000000000', '"layerBytes":1e999');
    const outcome = parseClusterFile(text, { name: "x" });
    expect(outcome).toMatchObject({ ok: false, reason: { problems: [{ path: "layerBytes", value: "Infinity" }] } });
  });

  test.each([
    ["NaN", '{"numLayers": NaN}', /is no JSON.*JSON has no NaN/],
    ["half a file", '{"numLayers": ', /is no JSON/],
    ["nothing at all", "", /is no JSON/],
    ["bytes of a picture", "\u0089PNG\r\n\u001a\n\0\0", /is no JSON/],
    ["a list", "[]", /is a list of 0; must be an object \(a cluster file\)/],
  ])("%s", (_what, text, message) => {
    const outcome = parseClusterFile(text, { name: "x" });
    expect(outcome.ok ? "" : outcome.reason.message).toMatch(message);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal would obey must not come through
    expect(outcome.ok ? "" : outcome.reason.message).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  });

  test("too many characters, before they are parsed", () => {
    const outcome = parseClusterFile(" ".repeat(CLUSTER_FILE_BYTES_MAX + 1), { name: "x" });
    expect(outcome).toMatchObject({ ok: false, reason: { problemCount: 1 } });
  });

  test("several things at once, the first ten of which are told", () => {
    const value = changed((c) => {
      for (const link of c.links) link[2] = 0;
    });
    const outcome = read(value);
    expect(outcome).toMatchObject({ ok: false, reason: { problemCount: 14 } });
    expect(outcome.ok ? 0 : outcome.reason.problems.length).toBe(PROBLEMS_SHOWN_MAX);
    expect(outcome.ok ? "" : outcome.reason.message).toContain("and 4 more");
  });
});
