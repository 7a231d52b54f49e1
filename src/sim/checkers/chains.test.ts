import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../domain/ids.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { Observation } from "../observation.ts";
import { ChainChecker } from "./chains.ts";

const CHAIN = "ab".repeat(16);
const WEIGHTS = sha256Hex("cd".repeat(32));

function checked() {
  const broken: string[] = [];
  const checker = new ChainChecker({ report: ({ what }) => broken.push(what) });
  const order = (node: string, message: unknown) =>
    checker.observe({ kind: "order", node, connection: 1, message } as Observation); // only what the checker reads is filled in
  const load = (name: string, first: number, count: number) =>
    order(name, {
      type: "replica.load",
      replicaId: `rep_${name}`,
      weightsSha256: WEIGHTS,
      stage: { first, count, layerCount: 4 },
    });
  const set = (
    chainEpoch: number,
    stages: readonly (readonly [string, number, number])[],
    to = stages.map(([name]) => name),
  ) => {
    const places = stages.map(([name, first, count]) => ({ replicaId: `rep_${name}`, nodeId: name, first, count }));
    for (const name of to) {
      const message: Partial<ChainSet> = { type: "chain.set", chainId: CHAIN, chainEpoch, replicaId: `rep_${name}` };
      order(name, { ...message, stages: places });
    }
  };
  const fetched = (node: string, layers: readonly number[]) =>
    checker.observe({ kind: "fetched", node, weightsSha256: WEIGHTS, layers, bytes: layers.length });
  return { broken, checker, load, set, fetched };
}

const TWO = [
  ["a", 0, 2],
  ["b", 2, 2],
] as const;

function serving() {
  const grid = checked();
  grid.load("a", 0, 2);
  grid.load("b", 2, 2);
  grid.set(1, TWO);
  return grid;
}

describe("the checker of chains", () => {
  test("says nothing of a chain that is repaired as it should be", () => {
    const { broken, checker, load, set, fetched } = serving();
    fetched("a", [0, 1]);
    fetched("b", [2, 3]);
    load("c", 2, 2);
    fetched("c", [2, 3]);
    set(2, [
      ["a", 0, 2],
      ["c", 2, 2],
    ]);
    expect(broken).toEqual([]);
    expect(checker.counts()).toEqual({ chains: 1, chainEpochs: 2, stageBytesFetched: 6 });
  });

  test("knows which stage feeds streams, and that a lease dies with the epoch", () => {
    const { checker, set } = serving();
    expect([checker.isInner("rep_a"), checker.isInner("rep_b"), checker.isInner("rep_other")]).toEqual([
      true,
      false,
      false,
    ]);
    const granted = checker.epochOf("rep_b");
    expect(granted !== null && checker.isCurrent(granted)).toBe(true);
    set(2, TWO);
    expect(granted !== null && checker.isCurrent(granted)).toBe(false);
  });

  test("sees an epoch that goes back, one that is told in two ways, and layers that are missing", () => {
    const back = serving();
    back.set(3, TWO);
    back.set(2, TWO, ["a"]);
    expect(back.broken).toHaveLength(1);
    const two = serving();
    two.load("c", 2, 2);
    two.set(1, [
      ["a", 0, 2],
      ["c", 2, 2],
    ]);
    expect(two.broken.length).toBeGreaterThan(0);
    const short = checked();
    short.load("a", 0, 2);
    short.load("c", 3, 1);
    short.set(1, [
      ["a", 0, 2],
      ["c", 3, 1],
    ]);
    expect(short.broken).toEqual([expect.stringContaining("begins at layer 3, 2 follow")]);
  });

  test("sees a survivor that changes its layers, and layers that are fetched again", () => {
    const moved = serving();
    moved.load("a", 2, 2);
    moved.load("b", 0, 2);
    moved.set(2, [
      ["b", 0, 2],
      ["a", 2, 2],
    ]);
    expect(moved.broken).toHaveLength(2);
    const again = serving();
    again.fetched("a", [0, 1]);
    again.fetched("a", [1]);
    expect(again.broken).toEqual(["a fetched layer 1, which lies on its disk"]);
    again.checker.observe({ kind: "disk-lost", node: "a" });
    again.fetched("a", [0, 1]);
    expect(again.broken).toHaveLength(1);
  });
});
