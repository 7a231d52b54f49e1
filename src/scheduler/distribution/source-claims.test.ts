import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import {
  CLAIM_TTL_MS,
  type ClaimAsk,
  LAPSED_WAIT_MS,
  RELIEF_SHARE,
  SATURATED_MS,
  SourceClaims,
} from "./source-claims.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const setOf = (count: number, chunks: Iterable<number>) =>
  ChunkSet.of(
    count,
    [...chunks].map((chunk) => [chunk, 1]),
  );
const ask = (number: number, need: ChunkSet, more: Partial<ClaimAsk> = {}): ClaimAsk => ({
  nodeId: node(number),
  need,
  chunksMax: 16,
  unreachable: new Set(),
  isIdle: false,
  ...more,
});
const given = (count: number, answer: { readonly runs: readonly (readonly [number, number])[] }) => [
  ...ChunkSet.of(count, answer.runs),
];
const holder = (chunks: ChunkSet, uploads = 0, uploadsMax = 4) => ({ chunks, uploads, uploadsMax });

describe("a chunk of the source", () => {
  test("goes to one node at a time, in blocks", () => {
    const claims = new SourceClaims({ chunkCount: 100, seed: 1 });
    const all = ChunkSet.full(100);
    const answers = Array.from({ length: 7 }, (_, number) => claims.claim(ask(number, all), 0));
    const chunks = answers.flatMap((answer) => given(100, answer));
    expect(chunks).toHaveLength(100);
    expect(new Set(chunks).size).toBe(100);
    expect(answers.every(({ runs }) => runs.length <= 2)).toBe(true);
    expect(claims.claim(ask(8, all), 0)).toMatchObject({ runs: [], retryAfterMs: 5_000 });
  });

  test("is not given while a holder that the node can reach has it", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    claims.setHolder(node(9), holder(setOf(4, [0, 1])), 0);
    expect(given(4, claims.claim(ask(1, ChunkSet.full(4)), 0))).toEqual([2, 3]);
    expect(given(4, claims.claim(ask(2, setOf(4, [0, 1]), { unreachable: new Set([node(9)]) }), 0))).toEqual([0, 1]);
  });

  test("is given when its holders do not serve: their owners are at them, or they are gone", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    claims.setHolder(node(9), holder(ChunkSet.full(4)), 0);
    expect(claims.claim(ask(1, ChunkSet.full(4)), 0).runs).toEqual([]);
    claims.setHolder(node(9), holder(ChunkSet.full(4), 0, 0), 1);
    expect(given(4, claims.claim(ask(1, setOf(4, [0, 1])), 2))).toEqual([0, 1]);
    claims.setHolder(node(9), holder(ChunkSet.full(4)), 3);
    expect(claims.claim(ask(2, setOf(4, [2, 3])), 3).runs).toEqual([]);
    claims.dropNode(node(9));
    expect(given(4, claims.claim(ask(2, setOf(4, [2, 3])), 4))).toEqual([2, 3]);
  });

  test("is given again to the node that has it and asks again, for the time that was left", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    claims.claim(ask(1, ChunkSet.full(4)), 0);
    const again = claims.claim(ask(1, setOf(4, [2])), 10_000);
    expect(again).toMatchObject({ runs: [[2, 1]], ttlMs: CLAIM_TTL_MS - 10_000 });
    expect(claims.counts).toEqual({ given: 4, lost: 0, live: 4 });
  });

  test("goes to others when its node does not bring it, and that node waits a while", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    const all = ChunkSet.full(4);
    claims.claim(ask(1, all), 0);
    expect(claims.claim(ask(2, all), CLAIM_TTL_MS - 1).runs).toEqual([]);
    expect(claims.claim(ask(1, all), CLAIM_TTL_MS)).toMatchObject({ runs: [], retryAfterMs: 5_000 });
    expect(given(4, claims.claim(ask(2, all, { chunksMax: 2 }), CLAIM_TTL_MS))).toHaveLength(2);
    expect(given(4, claims.claim(ask(1, all), CLAIM_TTL_MS + LAPSED_WAIT_MS))).toHaveLength(2);
    expect(claims.counts.lost).toBe(4);
  });

  test("stays with a node that brings its chunks one by one, however long it takes", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    claims.claim(ask(1, ChunkSet.full(4)), 0);
    for (const [at, chunk] of [0, 1, 2].entries()) {
      const nowMs = (at + 1) * (CLAIM_TTL_MS - 1);
      claims.setHolder(node(1), holder(setOf(4, [0, 1, 2].slice(0, chunk + 1))), nowMs);
      expect(claims.claim(ask(2, setOf(4, [3])), nowMs).runs).toEqual([]);
    }
    expect(claims.counts).toEqual({ given: 4, lost: 0, live: 1 });
  });

  test("is had by others at once when its node goes", () => {
    const claims = new SourceClaims({ chunkCount: 4, seed: 1 });
    claims.claim(ask(1, ChunkSet.full(4)), 0);
    claims.dropNode(node(1));
    expect(given(4, claims.claim(ask(2, ChunkSet.full(4)), 1))).toHaveLength(4);
  });

  test("is nothing for who brings it ahead of need while others wait", () => {
    const claims = new SourceClaims({ chunkCount: 40, seed: 1 });
    const idle = ask(1, ChunkSet.full(40), { isIdle: true });
    expect(given(40, claims.claim(idle, 0))).toHaveLength(16);
    claims.claim(ask(2, ChunkSet.full(40), { chunksMax: 1 }), 100);
    expect(claims.claim({ ...idle, nodeId: node(3) }, 200).runs).toEqual([]);
    expect(given(40, claims.claim({ ...idle, nodeId: node(3) }, 20_000))).toHaveLength(16);
  });

  test("helps out when all uploads were full for long, a tenth of the model in an hour", () => {
    const count = 200;
    const claims = new SourceClaims({ chunkCount: count, seed: 1 });
    claims.setHolder(node(9), holder(ChunkSet.full(count), 4, 4), 0);
    const all = ask(1, ChunkSet.full(count), { chunksMax: 256 });
    expect(claims.claim(all, SATURATED_MS - 1).runs).toEqual([]);
    expect(claims.claim({ ...all, isIdle: true, nodeId: node(3) }, SATURATED_MS).runs).toEqual([]);
    expect(given(count, claims.claim(all, SATURATED_MS))).toHaveLength(count * RELIEF_SHARE);
    expect(claims.claim({ ...all, nodeId: node(2) }, SATURATED_MS + 1).runs).toEqual([]);
    // A place came free in between: it is busy anew.
    claims.setHolder(node(9), holder(ChunkSet.full(count), 3, 4), 3_600_000);
    claims.setHolder(node(9), holder(ChunkSet.full(count), 4, 4), 3_600_001);
    expect(claims.claim({ ...all, nodeId: node(2) }, 3_600_002).runs).toEqual([]);
  });
});

describe("laws", () => {
  const event = fc.record({
    who: fc.integer({ min: 1, max: 6 }),
    what: fc.constantFrom("claim", "bring", "die", "serve", "hide", "wait"),
    at: fc.nat(1_000),
  });
  const world = fc.record({
    count: fc.integer({ min: 1, max: 60 }),
    seed: fc.nat(),
    events: fc.array(event, { maxLength: 150, size: "max" }),
  });

  test("whoever comes and goes: two nodes never hold one claim, the source sends the model and lost claims, and in the end all is to be had", () => {
    fc.assert(
      fc.property(world, ({ count, seed, events }) => {
        const claims = new SourceClaims({ chunkCount: count, seed });
        const all = ChunkSet.full(count);
        const here = new Map<number, { have: ChunkSet; claimed: Set<number>; untilMs: number }>();
        /** Chunks that left with the last node that had them, or were hidden: the source may have to send those again. */
        let forgotten = 0;
        let nowMs = 0;
        const joined = (who: number) => {
          const known = here.get(who) ?? { have: new ChunkSet(count), claimed: new Set<number>(), untilMs: 0 };
          here.set(who, known);
          return known;
        };
        const claim = (who: number) => {
          const one = joined(who);
          if (nowMs >= one.untilMs) one.claimed.clear();
          const answer = claims.claim(ask(who, all.minus(one.have)), nowMs);
          for (const chunk of given(count, answer)) {
            expect(one.have.has(chunk)).toBe(false);
            for (const [other, { claimed, untilMs }] of here)
              if (other !== who && nowMs < untilMs) expect(claimed.has(chunk)).toBe(false);
            one.claimed.add(chunk);
          }
          if (answer.runs.length > 0) one.untilMs = nowMs + answer.ttlMs;
          return answer;
        };
        const bring = (who: number, most: number) => {
          const one = joined(who);
          for (const chunk of [...one.claimed].slice(0, most)) {
            one.claimed.delete(chunk);
            one.have.add(chunk);
          }
          if (one.claimed.size > 0 && most > 0 && nowMs < one.untilMs) one.untilMs = nowMs + CLAIM_TTL_MS;
          claims.setHolder(node(who), holder(one.have.clone()), nowMs);
        };
        for (const { who, what, at } of events) {
          if (what === "claim") claim(who);
          if (what === "bring" || what === "serve") bring(who, what === "bring" ? at % 20 : 0);
          if (what === "wait") nowMs += at * 100;
          if (what === "hide") claims.setHolder(node(who), holder(joined(who).have.clone(), 0, 0), nowMs);
          if (what === "die" || what === "hide") forgotten += joined(who).have.size;
          if (what === "die") {
            here.delete(who);
            claims.dropNode(node(who));
          }
        }
        const { given: total, lost } = claims.counts;
        expect(total).toBeLessThanOrEqual(count + lost + forgotten);
        // The faults stop: one node is left, and what the others had is gone.
        for (const who of here.keys()) claims.dropNode(node(who));
        here.clear();
        nowMs += LAPSED_WAIT_MS;
        for (let turn = 0; turn <= count && joined(7).have.size < count; turn++, nowMs += 1_000) {
          claim(7);
          bring(7, count);
        }
        expect(joined(7).have.isFull).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("however many start together, the source sends each chunk once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 300 }), fc.nat(), (nodes, count, seed) => {
        const claims = new SourceClaims({ chunkCount: count, seed });
        const have = Array.from({ length: nodes }, () => new ChunkSet(count));
        for (let turn = 0; turn < count + 1; turn++) {
          for (const [number, own] of have.entries()) {
            const answer = claims.claim(ask(number, ChunkSet.full(count).minus(own)), turn * 1_000);
            for (const chunk of given(count, answer)) own.add(chunk);
            claims.setHolder(node(number), holder(own.clone()), turn * 1_000);
          }
        }
        expect(claims.counts).toEqual({ given: count, lost: 0, live: 0 });
      }),
      { numRuns: 30 },
    );
  });
});
