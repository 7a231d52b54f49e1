import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import { CLAIMED_PER_NODE_MAX, SourceClaims } from "./source-claims.ts";

const node = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const [ANN, BEN, CAT] = [node(1), node(2), node(3)];
const COUNT = 40;
const ask = (claims: SourceClaims, by: NodeId, more: Partial<Parameters<SourceClaims["give"]>[0]> = {}) =>
  claims.give({
    nodeId: by,
    need: ChunkSet.full(COUNT),
    chunksMax: 10,
    elsewhere: new ChunkSet(COUNT),
    nowMs: 0,
    untilMs: 1_000,
    isIdle: false,
    ...more,
  });

describe("claims on the source", () => {
  test("give every chunk to one node only, and all of them in the end", () => {
    const claims = new SourceClaims();
    const given = [ANN, BEN, CAT, node(4), node(5)].map((by) => ask(claims, by));
    expect(given.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: COUNT }, (_, chunk) => chunk));
    expect(given.at(-1)).toEqual([]);
  });

  test("give no chunk that a holder has", () => {
    const elsewhere = ChunkSet.of(COUNT, [[0, 35]]);
    expect(ask(new SourceClaims(), ANN, { elsewhere })).toEqual([35, 36, 37, 38, 39]);
  });

  test("give a node its own again, whose download broke", () => {
    const claims = new SourceClaims();
    expect(ask(claims, ANN)).toEqual(ask(claims, ANN));
    expect(claims.size).toBe(10);
  });

  test("go to the next who asks when their time is over, and not before", () => {
    const claims = new SourceClaims();
    ask(claims, ANN, { chunksMax: COUNT });
    expect(ask(claims, BEN, { nowMs: 999 })).toEqual([]);
    expect(claims.holds(ANN, [0, 1])).toBe(true);
    expect(ask(claims, BEN, { nowMs: 1_000, untilMs: 2_000, chunksMax: 5 })).toHaveLength(5);
    expect([claims.countOf(ANN), claims.countOf(BEN)]).toEqual([35, 5]);
  });

  test("end when their node has the chunk, is done, or gone", () => {
    const claims = new SourceClaims();
    ask(claims, ANN);
    expect(claims.settle(ANN, ChunkSet.of(COUNT, [[5, 30]]))).toBe(5);
    expect(claims.holds(ANN, [0, 5])).toBe(true);
    expect(claims.holds(ANN, [0, 6])).toBe(false);
    claims.release(ANN);
    expect(claims.size).toBe(0);
  });

  test("are no more than one node may have, however much it asks for", () => {
    const claims = new SourceClaims();
    const need = ChunkSet.full(5_000);
    for (let round = 0; round < 10; round++) {
      ask(claims, ANN, {
        need: need.minus(ChunkSet.of(5_000, [[0, round * 300]])),
        elsewhere: new ChunkSet(5_000),
        chunksMax: 256,
      });
    }
    expect(claims.countOf(ANN)).toBe(CLAIMED_PER_NODE_MAX);
  });

  test("are urgent only while somebody waits for what is brought", () => {
    const claims = new SourceClaims();
    ask(claims, ANN, { isIdle: true });
    expect(claims.hasUrgent(0)).toBe(false);
    ask(claims, BEN);
    expect([claims.hasUrgent(999), claims.hasUrgent(1_000)]).toEqual([true, false]);
  });

  test("never give a live claim twice, whatever comes in whatever order", () => {
    const step = fc.record({
      by: fc.constantFrom(ANN, BEN, CAT),
      chunksMax: fc.integer({ min: 1, max: 12 }),
      waitMs: fc.integer({ min: 0, max: 600 }),
      isDone: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const claims = new SourceClaims();
        const owner = new Map<number, { by: NodeId; untilMs: number }>();
        let nowMs = 0;
        for (const { by, chunksMax, waitMs, isDone } of steps) {
          nowMs += waitMs;
          for (const chunk of ask(claims, by, { chunksMax, nowMs, untilMs: nowMs + 1_000 })) {
            const before = owner.get(chunk);
            expect(before === undefined || before.by === by || before.untilMs <= nowMs).toBe(true);
            owner.set(chunk, { by, untilMs: nowMs + 1_000 });
          }
          if (!isDone) continue;
          claims.release(by);
          for (const [chunk, claim] of owner) if (claim.by === by) owner.delete(chunk);
        }
        expect(claims.size).toBe(owner.size);
      }),
    );
  });
});
