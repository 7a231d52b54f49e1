import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId, type NodeId, nodeId, sha256Hex } from "../../domain/ids.ts";
import { needChance, planStaging, type StagingModel, type StagingNode, type StagingQuestion } from "./staging-plan.ts";

const GB = 1e9;
const HOUR_MS = 3_600_000;
const nodeNamed = (index: number) => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const digest = (index: number) => sha256Hex(index.toString(16).padStart(64, "0"));

function node(index: number, change: Partial<StagingNode> = {}): StagingNode {
  const room = { diskFreeBytes: 100 * GB, fetchBytesPerSecond: 12.5e6, memoryBytes: 24 * GB };
  return { nodeId: nodeNamed(index), isIdle: true, cached: new Set(), ...room, stayChance: () => 0.95, ...change };
}

function model(index: number, change: Partial<StagingModel> = {}): StagingModel {
  const held: ReadonlySet<NodeId> = new Set([nodeNamed(0)]);
  const size = { weightsSha256: digest(index), fileBytes: 4 * GB };
  const holders = { heldBy: held, holdersStayChance: 0.95, spareCopies: 0 };
  return { modelId: modelId(`m${index}`), ...size, ...holders, expectedRequests: 50, growthChance: 0.3, ...change };
}

const PRICES = { microUsdPerColdSecond: 1_000, microUsdPerGigabyte: 10_000 };

function plan(change: Partial<StagingQuestion>) {
  const base = {
    models: [model(1)],
    nodes: [node(0), node(1), node(2)],
    horizonMs: HOUR_MS,
    prices: PRICES,
    transfersFree: 1,
  };
  return planStaging({ ...base, ...change });
}

const ordered = (change: Partial<StagingQuestion>) =>
  plan(change).orders.map((order) => `${order.modelId}@${Number(order.nodeId.slice(-2))}`);

describe("planStaging", () => {
  test("a busy model gets a spare copy on a node that does not run it", () => {
    expect(ordered({})).toEqual(["m1@1"]);
  });

  test("nothing where the bytes cost more than the seconds that they may save", () => {
    const prices = { ...PRICES, microUsdPerGigabyte: 100_000 };
    expect(ordered({ prices })).toEqual([]);
    expect(plan({ prices }).passedOver.get("not-worth-it")).toBe(2);
    expect(ordered({ models: [model(1, { growthChance: 0, holdersStayChance: 0.99 })] })).toEqual([]);
    expect(ordered({ models: [model(1, { expectedRequests: 0 })] })).toEqual([]);
  });

  test("only nodes that stay for three times the fetch with more than 0.8", () => {
    const asked: number[] = [];
    const flighty = node(1, {
      stayChance: (horizonMs) => {
        asked.push(horizonMs);
        return 0.8;
      },
    });
    const result = plan({ nodes: [node(0), flighty] });
    expect(result.orders).toEqual([]);
    expect(result.passedOver.get("may-leave")).toBe(1);
    expect(asked).toContain((3 * 4 * GB * 1_000) / 12.5e6);
  });

  test("nothing while the uplink is busy", () => {
    expect(ordered({ transfersFree: 0 })).toEqual([]);
  });

  test.each([
    ["node-busy", { isIdle: false }],
    ["cached-already", { cached: new Set([digest(1)]) }],
    ["disk-full", { diskFreeBytes: GB }],
    ["memory-too-small", { memoryBytes: GB }],
  ] as const)("not on a node that is %s", (reason, change) => {
    const result = plan({ nodes: [node(0), node(1, change)] });
    expect(result.orders).toEqual([]);
    expect(result.passedOver.get(reason)).toBeGreaterThan(0);
  });

  test("each spare copy is worth less than the one before, until none is worth its bytes", () => {
    let copies = 0;
    while (copies < 10 && ordered({ models: [model(1, { spareCopies: copies })] }).length > 0) copies++;
    expect(copies).toBeGreaterThan(0);
    expect(copies).toBeLessThan(9);
  });

  test("the transfers go to the models that gain most, one to a node", () => {
    const models = [model(1, { growthChance: 0.2 }), model(2, { growthChance: 0.9 }), model(3, { growthChance: 0.5 })];
    expect(ordered({ models, transfersFree: 2, nodes: [node(0), node(1)] })).toEqual(["m2@1"]);
    expect(ordered({ models, transfersFree: 1 })).toEqual(["m2@1"]);
  });

  test("a model that nobody runs is needed as soon as it is asked for", () => {
    const cold = model(1, { heldBy: new Set(), growthChance: 0, expectedRequests: Math.log(2) });
    expect(needChance(cold)).toBeCloseTo(0.5);
  });

  test("what is ordered gains, fits, and stays within the transfers that are free", () => {
    const nodes = fc.array(
      fc.record({
        diskFreeBytes: fc.integer({ min: 0, max: 20 * GB }),
        stay: fc.double({ min: 0, max: 1, noNaN: true }),
        isIdle: fc.boolean(),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(nodes, fc.integer({ min: 0, max: 4 }), (drawn, transfersFree) => {
        const all = drawn.map(({ diskFreeBytes, stay, isIdle }, at) =>
          node(at, { diskFreeBytes, isIdle, stayChance: () => stay }),
        );
        const { orders } = plan({ nodes: all, transfersFree, models: [model(1), model(2, { growthChance: 1 })] });
        expect(orders.length).toBeLessThanOrEqual(transfersFree);
        expect(new Set(orders.map(({ nodeId: id }) => id)).size).toBe(orders.length);
        for (const order of orders) {
          const on = all.find(({ nodeId: id }) => id === order.nodeId);
          expect(order.gainMicroUsd).toBeGreaterThan(0);
          expect(on?.isIdle).toBe(true);
          expect(on?.diskFreeBytes).toBeGreaterThanOrEqual(4 * GB);
          expect(on?.stayChance(0)).toBeGreaterThan(0.8);
        }
      }),
    );
  });
});
