import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NodeId, nodeId, type ReplicaId, replicaId } from "../../domain/ids.ts";
import type { ChainRepairQuestion, SpareStage, StageCandidate } from "./chain-repair.ts";
import { repairChain } from "./repair-chain.ts";

/** `n-left` as a node's id: its letters as hex. */
function node(name: string): NodeId {
  const hex = [...name].map((letter) => letter.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  return nodeId(`node_${hex.padEnd(32, "0")}`);
}

function replica(number: number): ReplicaId {
  return replicaId(`rep_${String(number).padStart(26, "0")}`);
}

const LOST: ChainRepairQuestion["lost"] = {
  first: 8,
  count: 4,
  memoryBytes: 1_000,
  weightsBytes: 600,
  previous: node("n-left"),
  next: node("n-right"),
};

function candidate(name: string, over: Partial<StageCandidate> = {}): StageCandidate {
  return {
    nodeId: node(name),
    obstacle: null,
    deviceId: "gpu0",
    freeBytes: 2_000,
    storedBytes: 0,
    stayChance: 1,
    previousRttMs: null,
    nextRttMs: null,
    bytesPerSecond: null,
    ...over,
  };
}

function spare(name: string, over: Partial<SpareStage> = {}): SpareStage {
  return { nodeId: node(name), replicaId: replica(1), first: 8, count: 4, ...over };
}

describe("repairChain", () => {
  it("takes a spare with just the lost layers before a node that has them on its disk", () => {
    const answer = repairChain({
      lost: LOST,
      spares: [spare("n-other", { first: 4 }), spare("n-spare")],
      candidates: [candidate("n-disk", { storedBytes: 600 })],
    });
    expect(answer).toEqual({ kind: "spare", spare: spare("n-spare") });
  });

  it("takes a doubted spare before others load, one that is doubted much only after them, and a doubted node when there is no other", () => {
    const doubted = (doubt: 1 | 2) => candidate("n-spare", { doubt });
    const ask = (candidates: readonly StageCandidate[]) =>
      repairChain({ lost: LOST, spares: [spare("n-spare")], candidates });
    expect(ask([doubted(1), candidate("n-disk", { storedBytes: 600 })])).toMatchObject({ kind: "spare" });
    expect(ask([doubted(2), candidate("n-disk", { storedBytes: 600 })])).toMatchObject({ nodeId: node("n-disk") });
    expect(ask([doubted(2), candidate("n-disk", { storedBytes: 600, doubt: 1 })])).toMatchObject({ kind: "spare" });
    const load = (candidates: readonly StageCandidate[]) => repairChain({ lost: LOST, spares: [], candidates });
    const disk = candidate("n-disk", { storedBytes: 600, doubt: 1 });
    expect(load([disk, candidate("n-far")])).toMatchObject({ nodeId: node("n-far") });
    expect(load([disk])).toMatchObject({ nodeId: node("n-disk"), why: "on-disk" });
  });

  it("takes no spare on a node that takes no work, and one on a node that only has the model already", () => {
    const draining = repairChain({
      lost: LOST,
      spares: [spare("n-a")],
      candidates: [candidate("n-a", { obstacle: "node-draining" }), candidate("n-b")],
    });
    expect(draining).toMatchObject({ kind: "load", nodeId: node("n-b") });
    const held = repairChain({
      lost: LOST,
      spares: [spare("n-a")],
      candidates: [candidate("n-a", { obstacle: "replica-here-already" }), candidate("n-b")],
    });
    expect(held).toMatchObject({ kind: "spare" });
  });

  it("takes the node that has the layers on its disk before one that is nearer", () => {
    const answer = repairChain({
      lost: LOST,
      spares: [],
      candidates: [
        candidate("n-disk", { storedBytes: 600, previousRttMs: 80, nextRttMs: 80 }),
        candidate("n-near", { previousRttMs: 1, nextRttMs: 1 }),
      ],
    });
    expect(answer).toEqual({ kind: "load", nodeId: node("n-disk"), deviceId: "gpu0", fetchBytes: 0, why: "on-disk" });
  });

  it("takes the node that has to fetch least, then the nearer, then the one that likelier stays, then the smaller id", () => {
    const pick = (candidates: StageCandidate[]) => {
      const answer = repairChain({ lost: LOST, spares: [], candidates });
      return answer.kind === "load" ? [answer.nodeId, answer.fetchBytes, answer.why] : answer.kind;
    };
    expect(pick([candidate("n-a"), candidate("n-b", { storedBytes: 200 })])).toEqual([
      node("n-b"),
      400,
      "least-to-fetch",
    ]);
    expect(pick([candidate("n-a"), candidate("n-b", { previousRttMs: 5, nextRttMs: 5 })])).toEqual([
      node("n-b"),
      600,
      "least-to-fetch",
    ]);
    expect(pick([candidate("n-a", { stayChance: 0.5 }), candidate("n-b")])).toEqual([
      node("n-b"),
      600,
      "least-to-fetch",
    ]);
    expect(pick([candidate("n-b"), candidate("n-a")])).toEqual([node("n-a"), 600, "least-to-fetch"]);
  });

  it("does not count the way to a neighbour that a stage at the end has not", () => {
    const atStart = { ...LOST, previous: null };
    const answer = repairChain({
      lost: atStart,
      spares: [],
      candidates: [
        candidate("n-a", { previousRttMs: 0, nextRttMs: 40 }),
        candidate("n-b", { previousRttMs: 200, nextRttMs: 10 }),
      ],
    });
    expect(answer).toMatchObject({ nodeId: node("n-b") });
  });

  it("tells why no node can when none can", () => {
    const answer = repairChain({
      lost: LOST,
      spares: [],
      candidates: [
        candidate("n-a", { freeBytes: 999 }),
        candidate("n-b", { obstacle: "serves-no-stages" }),
        candidate("n-c", { freeBytes: 0 }),
      ],
    });
    expect(answer).toEqual({
      kind: "plan-anew",
      losers: [
        ["memory-too-small", 2],
        ["serves-no-stages", 1],
      ],
    });
    expect(repairChain({ lost: LOST, spares: [], candidates: [] })).toEqual({
      kind: "plan-anew",
      losers: [["no-node", 1]],
    });
  });

  it("never names a node that cannot, a spare of other layers, or one that fetches more than another would; order changes nothing", () => {
    const candidates = fc.uniqueArray(
      fc.record({
        nodeId: fc.integer({ min: 0, max: 30 }).map((at) => node(`n${at}`)),
        obstacle: fc.constantFrom(null, null, "node-yielding" as const, "serves-no-stages" as const),
        deviceId: fc.constantFrom("cpu", "gpu0"),
        freeBytes: fc.integer({ min: 0, max: 2_000 }),
        storedBytes: fc.integer({ min: 0, max: 700 }),
        stayChance: fc.double({ min: 0, max: 1, noNaN: true }),
        previousRttMs: fc.option(fc.integer({ min: 0, max: 200 })),
        nextRttMs: fc.option(fc.integer({ min: 0, max: 200 })),
        bytesPerSecond: fc.option(fc.integer({ min: 1, max: 1_000_000 })),
      }),
      { selector: ({ nodeId }) => nodeId, maxLength: 12 },
    );
    const spares = fc.uniqueArray(
      fc.record({
        nodeId: fc.integer({ min: 0, max: 40 }).map((at) => node(`n${at}`)),
        replicaId: fc.integer({ min: 0, max: 9 }).map((at) => replica(at)),
        first: fc.constantFrom(4, 8),
        count: fc.constantFrom(4, 5),
      }),
      { selector: ({ replicaId }) => replicaId, maxLength: 4 },
    );
    fc.assert(
      fc.property(candidates, spares, (nodes, extra) => {
        const question = { lost: LOST, spares: extra, candidates: nodes };
        const answer = repairChain(question);
        const turned = { lost: LOST, spares: [...extra].reverse(), candidates: [...nodes].reverse() };
        expect(repairChain(turned)).toEqual(answer);
        const able = nodes.filter(({ obstacle, freeBytes }) => obstacle === null && freeBytes >= LOST.memoryBytes);
        const least = Math.min(...able.map(({ storedBytes }) => Math.max(0, 600 - storedBytes)));
        if (answer.kind === "spare") {
          expect([answer.spare.first, answer.spare.count]).toEqual([LOST.first, LOST.count]);
          expect(nodes.find(({ nodeId }) => nodeId === answer.spare.nodeId)?.obstacle).not.toBe("node-yielding");
        } else if (answer.kind === "load") {
          expect(able.some(({ nodeId }) => nodeId === answer.nodeId)).toBe(true);
          expect(answer.fetchBytes).toBe(least);
          expect([LOST.previous, LOST.next]).not.toContain(answer.nodeId);
        } else {
          expect(able).toEqual([]);
        }
      }),
    );
  });
});
