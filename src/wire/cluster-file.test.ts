import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ClusterValue, smallCluster } from "../../test/support/small-cluster.ts";
import { parseClusterFile } from "./cluster-file.ts";

const read = (value: unknown) => parseClusterFile(JSON.stringify(value), { name: "small" });
const changed = (change: (cluster: ClusterValue) => void) => {
  const cluster = structuredClone(smallCluster());
  change(cluster);
  return cluster;
};
const put = (target: object, key: string, value: unknown) => Reflect.set(target, key, value);
const clusterOf = (value: unknown) => {
  const outcome = read(value);
  if (!outcome.ok) throw new Error(outcome.reason.message);
  return outcome.value;
};

describe("a cluster file", () => {
  test("gives nodes, profiles, links in both directions and layouts", () => {
    const { cluster, warnings } = clusterOf(smallCluster());
    expect(warnings).toEqual([]);
    expect(cluster.name).toBe("small");
    expect(cluster.nodes.map(({ id, layersMax, trust, region }) => [id, layersMax, trust, region])).toEqual([
      ["0", 4, 1, null],
      ["1", 2, 1, null],
      ["n-2", 2, 1, null],
      ["3", 4, 1, null],
    ]);
    expect(cluster.nodes[1]?.machine.tokensPerSecondByLayers).toEqual([0, 1_500, 750]);
    expect(cluster.nodes[0]?.machine.promptSecondsPerLayer).toEqual({ x: [0, 1_000, 4_000], y: [0, 0.02, 0.09] });
    expect(cluster.links).toHaveLength(4 + 4 + 12);
    expect(cluster.links).toContainEqual({ from: "3", to: "0", bytesPerSecond: 2e8, latencySeconds: 0.002 });
    expect(cluster.layouts.get("ilp")).toEqual(
      new Map([
        ["0", { first: 0, end: 4 }],
        ["1", { first: 4, end: 6 }],
        ["3", { first: 2, end: 6 }],
      ]),
    );
  });

  test("takes the faster of two directions between nodes for both", () => {
    const { cluster } = clusterOf(changed((c) => void c.links.push(["1", "0", 5e8, 0.004])));
    const between = cluster.links.filter(({ from, to }) => ["0", "1"].includes(from) && ["0", "1"].includes(to));
    expect(between.map((link) => [link.bytesPerSecond, link.latencySeconds])).toEqual([
      [5e8, 0.004],
      [5e8, 0.004],
    ]);
  });

  test("means the same in whatever order its links stand", () => {
    const backwards = changed((c) => void c.links.reverse());
    expect(clusterOf(backwards).cluster).toEqual(clusterOf(smallCluster()).cluster);
  });

  test("caps a machine's rate by what its network card carries, except where it holds the whole model", () => {
    const slow = changed((c) => {
      for (const type of Object.values(c.machineTypes)) type["outbound_nic_speed"] = 8_192 * 700;
    });
    expect(clusterOf(slow).cluster.nodes[1]?.machine.tokensPerSecondByLayers).toEqual([0, 700, 700]);
    const short = changed((c) => {
      Object.assign(slow, { numLayers: 2, layouts: {} });
      Object.assign(c, slow);
    });
    expect(clusterOf(short).cluster.nodes[1]?.machine.tokensPerSecondByLayers).toEqual([0, 700, 750]);
  });

  test("takes what rules look at from optional fields", () => {
    const said = {
      region: "home",
      owner: "ada",
      network: "as1",
      trust: 0.5,
      priceMicroUsdPerHour: 9,
      survivalPerHour: 0.9,
    };
    const { cluster } = clusterOf(
      changed((c) => void Object.assign(c.nodes[0] ?? {}, said, { gramsCo2PerHour: 4, layersMax: 4 })),
    );
    expect(cluster.nodes[0]).toMatchObject({ ...said, gramsCo2PerHour: 4, layersMax: 4 });
  });
});

describe("a cluster file that is strange is read, and the warnings say", () => {
  const warningsOf = (change: (c: ClusterValue) => void) => clusterOf(changed(change)).warnings.join("\n");

  test("which node nothing leads to", () => {
    expect(
      warningsOf(
        (c) =>
          void put(
            c,
            "links",
            c.links.filter((link) => !link.includes("3")),
          ),
      ),
    ).toMatch(/from source to node 3/);
  });

  test("which groups no link joins", () => {
    const isCrossing = (link: unknown[]) =>
      link.some((id) => id === "0" || id === "1") && link.some((id) => id === "n-2" || id === "3");
    expect(
      warningsOf(
        (c) =>
          void put(
            c,
            "links",
            c.links.filter((link) => !isCrossing(link)),
          ),
      ),
    ).toMatch(/2 groups with no link between them \(nodes 0, 1; nodes n-2, 3\)/);
  });

  test("that the model fits nowhere", () => {
    expect(warningsOf((c) => void put(c, "numLayers", 13))).toMatch(/13 layers, all nodes together hold at most 12/);
  });

  test("that other units or counts are named", () => {
    expect(warningsOf((c) => void Object.assign(c, { units: "bits", machineCounts: { big: 7 } }))).toMatch(
      /units is "bits".*\n.*machineCounts says 7 of "big", nodes has 2/,
    );
  });
});

describe("whatever a cluster file holds, reading it ends in a cluster or a refusal", () => {
  test("for any JSON", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const outcome = read(value);
        expect(outcome.ok || outcome.reason.problems.length > 0).toBe(true);
      }),
    );
  });

  test("for a good file with any value in any one place", () => {
    const paths: string[][] = [];
    const walk = (value: unknown, path: string[]) => {
      if (path.length > 0) paths.push(path);
      if (typeof value === "object" && value !== null)
        for (const [key, inner] of Object.entries(value)) walk(inner, [...path, key]);
    };
    walk(smallCluster(), []);
    const strange = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom(0, -1, 1e308, 5e-324, -0, "", "__proto__", "source", [], {}, null, true),
    );
    fc.assert(
      fc.property(fc.constantFrom(...paths), strange, (path, value) => {
        const cluster = smallCluster();
        let at: unknown = cluster;
        for (const key of path.slice(0, -1)) at = Reflect.get(Object(at), key);
        Reflect.set(Object(at), path.at(-1) ?? "", value);
        const outcome = read(cluster);
        if (!outcome.ok) expect(outcome.reason.message).toMatch(/the cluster file/);
        else
          for (const { machine } of outcome.value.cluster.nodes)
            expect(machine.tokensPerSecondByLayers).not.toContain(undefined);
      }),
      { numRuns: 300 },
    );
  });

  test("for text that nests deeper than any stack", () => {
    const deep = 200_000;
    const text = `{"name": ${"[".repeat(deep)}${"]".repeat(deep)}}`;
    expect(parseClusterFile(text, { name: "x" }).ok).toBe(false);
  });
});
