import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../domain/ids.ts";
import {
  chooseSpares,
  type SpareCandidate,
  type SparedChain,
  type SparedStage,
  type SparesQuestion,
  spareKey,
} from "./choose-spares.ts";

const MODEL = modelId("big");

function node(name: string): NodeId {
  return nodeId(`node_${name.slice(1).padStart(32, "0")}`);
}

function replica(number: number): ReplicaId {
  return replicaId(`rep_${String(number).padStart(26, "0")}`);
}

function stage(name: string, first: number, over: Partial<SparedStage> = {}): SparedStage {
  return { nodeId: node(name), first, count: 4, memoryBytes: 100, weightsBytes: 80, stayChance: 0.9, ...over };
}

function chain(over: Partial<SparedChain> = {}): SparedChain {
  return {
    chainId: "c1",
    modelId: MODEL,
    stages: [stage("n1", 0), stage("n2", 4), stage("n3", 8)],
    spares: [],
    ...over,
  };
}

function idle(name: string, over: Partial<SpareCandidate> = {}): SpareCandidate {
  return {
    nodeId: node(name),
    obstacle: null,
    deviceId: "gpu0",
    freeBytes: 1_000,
    stayChance: 1,
    storedBytes: new Map(),
    modelIds: new Set(),
    ...over,
  };
}

function ask(over: Partial<SparesQuestion> = {}): SparesQuestion {
  return { chains: [chain()], candidates: [idle("n4"), idle("n5")], sparesPerChain: 1, isShort: false, ...over };
}

describe("chooseSpares", () => {
  it("spares the stage whose node is likeliest to go", () => {
    const stages = [stage("n1", 0), stage("n2", 4, { stayChance: 0.4 }), stage("n3", 8)];
    const { load } = chooseSpares(ask({ chains: [chain({ stages })] }));
    expect(load).toEqual([
      {
        chainId: "c1",
        modelId: MODEL,
        nodeId: node("n4"),
        deviceId: "gpu0",
        first: 4,
        count: 4,
        memoryBytes: 100,
        fetchBytes: 80,
      },
    ]);
  });

  it("spares the stage with the most weights where all are equally likely to go, and another one next", () => {
    const stages = [stage("n1", 0), stage("n2", 4), stage("n3", 8, { weightsBytes: 90 })];
    const { load } = chooseSpares(ask({ chains: [chain({ stages })], sparesPerChain: 2 }));
    expect(load.map(({ first, nodeId }) => [first, nodeId])).toEqual([
      [8, node("n4")],
      [0, node("n5")],
    ]);
  });

  it("puts it on a node that stays, then where its bytes lie, then on the roomiest", () => {
    const where = (candidates: SpareCandidate[]) => chooseSpares(ask({ candidates })).load[0]?.nodeId;
    const stored = new Map([[spareKey("c1", { first: 0, count: 4 }), 80]]);
    expect(where([idle("n4", { stayChance: 0.5, storedBytes: stored }), idle("n5")])).toBe(node("n5"));
    expect(where([idle("n4"), idle("n5", { storedBytes: stored })])).toBe(node("n5"));
    expect(where([idle("n4"), idle("n5", { freeBytes: 2_000 })])).toBe(node("n5"));
    expect(where([idle("n5"), idle("n4")])).toBe(node("n4"));
  });

  it("gives a chain none while a model has no replica that it must have, and takes those that are there away", () => {
    const spares = [{ nodeId: node("n4"), replicaId: replica(4), first: 0, count: 4 }];
    expect(chooseSpares(ask({ isShort: true, chains: [chain({ spares })] }))).toEqual({
      load: [],
      unload: [replica(4)],
    });
  });

  it("takes away a spare of layers that are no stage, one too many, and one whose room is wanted", () => {
    const spare = (name: string, first: number, count = 4) => ({
      nodeId: node(name),
      replicaId: replica(Number(name.slice(1))),
      first,
      count,
    });
    const choose = (spares: SparedChain["spares"], over: Partial<SparesQuestion> = {}) =>
      chooseSpares(ask({ chains: [chain({ spares })], ...over }));
    expect(choose([spare("n4", 0, 6)]).unload).toEqual([replica(4)]);
    expect(choose([spare("n4", 0), spare("n5", 4)])).toEqual({ load: [], unload: [replica(5)] });
    const wanted = choose([spare("n4", 0)], { candidates: [idle("n4", { freeBytes: -1 }), idle("n5")] });
    expect(wanted.unload).toEqual([replica(4)]);
    expect(wanted.load.map(({ nodeId }) => nodeId)).toEqual([node("n5")]);
  });

  it("keeps within each node's room, beside no other stage of its model, within the bound, and never on a node that cannot", () => {
    const nodes = fc.uniqueArray(
      fc.record({
        nodeId: fc.integer({ min: 0, max: 12 }).map((at) => node(`n${at}`)),
        obstacle: fc.constantFrom(null, null, null, "node-draining" as const),
        deviceId: fc.constant("gpu0"),
        freeBytes: fc.integer({ min: -50, max: 400 }),
        stayChance: fc.double({ min: 0, max: 1, noNaN: true }),
        storedBytes: fc.constant(new Map<string, number>()),
        modelIds: fc.constantFrom(new Set<typeof MODEL>(), new Set([MODEL])),
      }),
      { selector: ({ nodeId }) => nodeId, maxLength: 10 },
    );
    fc.assert(
      fc.property(
        nodes,
        fc.integer({ min: 0, max: 6 }),
        fc.integer({ min: 1, max: 3 }),
        (candidates, wanted, count) => {
          const chains = Array.from({ length: count }, (_, at) =>
            chain({ chainId: `c${at}`, modelId: at === 2 ? modelId("other") : MODEL }),
          );
          const { load } = chooseSpares({ chains, candidates, sparesPerChain: wanted, isShort: false });
          for (const one of candidates) {
            const mine = load.filter(({ nodeId }) => nodeId === one.nodeId);
            const taken = mine.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
            if (mine.length > 0) expect(one.obstacle).toBeNull();
            expect(taken).toBeLessThanOrEqual(Math.max(0, one.freeBytes));
            expect(new Set(mine.map(({ modelId }) => modelId)).size).toBe(mine.length);
            if (one.modelIds.has(MODEL)) expect(mine.every(({ modelId }) => modelId !== MODEL)).toBe(true);
          }
          for (const { chainId, stages } of chains) {
            const mine = load.filter((order) => order.chainId === chainId);
            expect(mine.length).toBeLessThanOrEqual(Math.min(4, wanted));
            const own = new Set(stages.map(({ nodeId }) => nodeId));
            expect(mine.some(({ nodeId }) => own.has(nodeId))).toBe(false);
          }
          const turned = { chains: [...chains].reverse(), candidates: [...candidates].reverse() };
          expect(chooseSpares({ ...turned, sparesPerChain: wanted, isShort: false }).load).toEqual(load);
        },
      ),
    );
  });
});
