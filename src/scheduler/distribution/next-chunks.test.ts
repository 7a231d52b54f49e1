import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import { SLOTS_MAX } from "./chunk-holder.ts";
import { type ChunkPick, NextChunks } from "./next-chunks.ts";
import { AVAILABILITY_MAX, RarestOrder } from "./rarest-order.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const setOf = (chunkCount: number, chunks: readonly number[]) =>
  ChunkSet.of(
    chunkCount,
    chunks.map((chunk) => [chunk, 1]),
  );
const MIB = 1024 * 1024;

function picker(
  chunkCount: number,
  more: { seed?: number; have?: readonly number[]; needed?: readonly number[] } = {},
) {
  const { seed = 1, have = [], needed } = more;
  return new NextChunks({
    needed: needed === undefined ? ChunkSet.full(chunkCount) : setOf(chunkCount, needed),
    have: setOf(chunkCount, have),
    chunkBytes: MIB,
    seed,
  });
}
const offer = (number: number, chunks: ChunkSet, more: { rank?: number; uploadsFree?: number | null } = {}) => ({
  nodeId: node(number),
  chunks,
  rank: more.rank ?? number,
  uploadsFree: more.uploadsFree ?? null,
});
function allPicks(next: NextChunks, nowMs = 0): readonly ChunkPick[] {
  const picks: ChunkPick[] = [];
  for (let pick = next.next(nowMs); pick !== null; pick = next.next(nowMs)) picks.push(pick);
  return picks;
}

describe("the order of rarity", () => {
  test("is that of sorting, after any changes", () => {
    const change = fc.record({ chunk: fc.nat(29), what: fc.constantFrom("toggle", "raise", "lower") });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 300, size: "max" }), (changes) => {
        const order = new RarestOrder(30);
        const model = new Map<number, number>();
        for (const { chunk, what } of changes) {
          const now = model.get(chunk);
          if (what === "toggle" && now === undefined) {
            order.add(chunk, chunk % 5);
            model.set(chunk, chunk % 5);
          } else if (now !== undefined) {
            if (what === "toggle") {
              order.remove(chunk, now);
              model.delete(chunk);
            } else if (what === "raise" && now < AVAILABILITY_MAX) {
              order.raise(chunk, now);
              model.set(chunk, now + 1);
            } else if (what === "lower" && now > 0) {
              order.lower(chunk, now);
              model.set(chunk, now - 1);
            }
          }
        }
        expect(order.size).toBe(model.size);
        for (let group = 0; group <= AVAILABILITY_MAX; group++) {
          const found = Array.from({ length: order.sizeOf(group) }, (_, place) => order.at(group, place));
          const expected = [...model].filter(([, availability]) => availability === group).map(([chunk]) => chunk);
          expect(found.toSorted((a, b) => a - b)).toEqual(expected.toSorted((a, b) => a - b));
        }
      }),
    );
  });
});

describe("the next chunk", () => {
  test("is one that the fewest have", () => {
    const next = picker(6);
    next.setHolder(offer(1, ChunkSet.full(6)));
    next.setHolder(offer(2, setOf(6, [0, 1, 2, 3, 4])));
    next.setHolder(offer(3, setOf(6, [0, 1, 2, 3])));
    expect(next.next(0)?.chunk).toBe(5);
    expect(next.next(0)?.chunk).toBe(4);
  });

  test("of equally rare ones differs from node to node, and is the same for one seed", () => {
    const first = (seed: number) => {
      const next = picker(1_000, { seed });
      next.setHolder(offer(1, ChunkSet.full(1_000)));
      return next.next(0)?.chunk;
    };
    const drawn = Array.from({ length: 40 }, (_, seed) => first(seed));
    expect(new Set(drawn).size).toBeGreaterThan(30);
    expect(drawn).toEqual(Array.from({ length: 40 }, (_, seed) => first(seed)));
  });

  test("comes from the holder that is expected to deliver first", () => {
    const next = picker(100);
    for (const number of [1, 2, 3]) next.setHolder(offer(number, ChunkSet.full(100)));
    next.measure(node(1), { rttMs: 150, bytesPerSecond: 2 * MIB });
    next.measure(node(2), { rttMs: 1, bytesPerSecond: 100 * MIB });
    next.measure(node(3), { rttMs: 40, bytesPerSecond: 10 * MIB });
    expect(next.next(0)?.nodeId).toBe(node(2));
    // A fast holder gets the most of a batch, and no holder is asked for more than its way carries.
    const picks = allPicks(next);
    const count = (number: number) => picks.filter((pick) => pick.nodeId === node(number)).length;
    expect(count(2)).toBeGreaterThanOrEqual(2);
    expect(count(1)).toBeLessThanOrEqual(2);
    expect(count(3)).toBeLessThanOrEqual(2);
  });

  test("is asked of a long and wide way more often than of a short one, up to a bound", () => {
    const asked = (rttMs: number, bytesPerSecond: number) => {
      const next = picker(100);
      next.setHolder(offer(1, ChunkSet.full(100)));
      next.measure(node(1), { rttMs, bytesPerSecond });
      return allPicks(next).length;
    };
    expect(asked(1, 1 * MIB)).toBe(2);
    expect(asked(150, 30 * MIB)).toBe(7);
    expect(asked(500, 500 * MIB)).toBe(SLOTS_MAX);
  });

  test("is not asked of one that says that it is full, is paused, or failed before", () => {
    const next = picker(100);
    next.setHolder(offer(1, ChunkSet.full(100), { uploadsFree: 0 }));
    expect(next.next(0)).toBe(null);
    next.setHolder(offer(1, ChunkSet.full(100), { uploadsFree: 1 }));
    next.pause(node(1), 1_000);
    expect(next.next(999)).toBe(null);
    expect(next.next(1_000)?.nodeId).toBe(node(1));

    const failing = picker(100);
    failing.setHolder(offer(1, ChunkSet.full(100)));
    failing.measure(node(1), { rttMs: 100, bytesPerSecond: 60 * MIB });
    expect(allPicks(failing)).toHaveLength(9);
    expect(failing.dropHolder(node(1))).toHaveLength(9);
    failing.setHolder(offer(1, ChunkSet.full(100)));
    failing.measure(node(1), { rttMs: 100, bytesPerSecond: 60 * MIB });
    const [first] = allPicks(failing);
    if (first === undefined) throw new Error("a chunk is asked for");
    failing.release(first.chunk, node(1));
    expect(failing.inFlightCount).toBe(8);
    expect(failing.next(0)).toBe(null);
  });

  test("is found though thousands that are rarer are all at busy holders", () => {
    const count = 10_000;
    const next = picker(count);
    next.setHolder(offer(1, ChunkSet.of(count, [[0, 8_000]]), { uploadsFree: 0 }));
    for (const number of [2, 3]) next.setHolder(offer(number, ChunkSet.of(count, [[9_990, 2]])));
    const picks = allPicks(next);
    expect(picks.map(({ chunk }) => chunk).toSorted((a, b) => a - b)).toEqual([9_990, 9_991]);
  });

  test("that a holder would not give is asked of the others, and of nobody when there is none", () => {
    const next = picker(1);
    next.setHolder(offer(1, ChunkSet.full(1), { rank: 0 }));
    next.setHolder(offer(2, ChunkSet.full(1), { rank: 1 }));
    expect(next.next(0)?.nodeId).toBe(node(1));
    next.refuse(0, node(1));
    expect(next.next(0)?.nodeId).toBe(node(2));
    next.refuse(0, node(2));
    expect(next.next(0)).toBe(null);
    expect([...next.orphans()]).toEqual([0]);
    // Saying again that it has it does not help.
    next.setHolder(offer(1, ChunkSet.full(1)));
    expect(next.next(0)).toBe(null);
  });
});

describe("the end of a download", () => {
  test("asks a fast holder again for what a slow one keeps waiting, and tells whom to cancel", () => {
    const next = picker(2);
    next.setHolder(offer(1, ChunkSet.full(2)));
    next.measure(node(1), { rttMs: 100, bytesPerSecond: MIB / 8 });
    expect(allPicks(next)).toHaveLength(2);
    next.setHolder(offer(2, ChunkSet.full(2)));
    next.measure(node(2), { rttMs: 1, bytesPerSecond: 50 * MIB });
    const [copy, ...more] = allPicks(next, 10);
    expect(copy).toMatchObject({ nodeId: node(2), isDuplicate: true });
    expect(more.every((pick) => pick.isDuplicate && pick.chunk !== copy?.chunk)).toBe(true);
    expect(next.done(copy?.chunk ?? -1, node(2))).toEqual([node(1)]);
    // The slow one delivers too, in the same moment: ignored.
    expect(next.done(copy?.chunk ?? -1, node(1))).toEqual([]);
  });

  test("does not ask twice among holders that are alike", () => {
    const next = picker(2);
    for (const number of [1, 2, 3]) {
      next.setHolder(offer(number, ChunkSet.full(2)));
      next.measure(node(number), { rttMs: 10, bytesPerSecond: 10 * MIB });
    }
    expect(allPicks(next).filter(({ isDuplicate }) => isDuplicate)).toEqual([]);
  });
});

describe("the source", () => {
  test("is asked only for what no holder has, and not for what is in flight", () => {
    const next = picker(4, { have: [0] });
    next.setHolder(offer(1, setOf(4, [1, 2])));
    expect([...next.orphans()]).toEqual([3]);
    expect(next.takeFromSource(3, 0)).toBe(true);
    expect([...next.orphans()]).toEqual([]);
    expect(next.takeFromSource(3, 0)).toBe(false);
    expect(next.takeFromSource(0, 0)).toBe(false);
    next.release(3, "source");
    expect([...next.orphans()]).toEqual([3]);
    next.dropHolder(node(1));
    expect([...next.orphans()]).toEqual([1, 2, 3]);
  });
});

describe("laws", () => {
  test("every needed chunk comes though holders fail, refuse, come and go, and none is asked for twice but at the end", () => {
    const event = fc.record({ kind: fc.constantFrom("done", "release", "refuse", "drop", "join"), at: fc.nat(100) });
    const world = fc.record({
      count: fc.integer({ min: 1, max: 40 }),
      seed: fc.nat(),
      events: fc.array(event, { maxLength: 120, size: "max" }),
    });
    fc.assert(
      fc.property(world, ({ count, seed, events }) => {
        const next = picker(count, { seed });
        const pending: ChunkPick[] = [];
        const done = new Set<number>();
        const finish = (pick: ChunkPick) => {
          next.done(pick.chunk, pick.nodeId);
          done.add(pick.chunk);
        };
        for (const [nowMs, { kind, at }] of events.entries()) {
          const who = (at % 6) + 1;
          if (kind === "join")
            next.setHolder(
              offer(
                who,
                setOf(
                  count,
                  Array.from({ length: count }, (_, c) => c).filter((c) => (c * 7 + at) % 3 > 0),
                ),
              ),
            );
          if (kind === "drop") {
            next.dropHolder(node(who));
            for (const pick of pending.filter((one) => one.nodeId === node(who)))
              pending.splice(pending.indexOf(pick), 1);
          }
          for (const pick of allPicks(next, nowMs)) {
            expect(done.has(pick.chunk)).toBe(false);
            if (!pick.isDuplicate)
              expect(pending.some((one) => one.chunk === pick.chunk && !done.has(one.chunk))).toBe(false);
            pending.push(pick);
          }
          const [pick] = pending.splice(at % Math.max(1, pending.length), 1);
          if (pick === undefined) continue;
          if (kind === "release") next.release(pick.chunk, pick.nodeId);
          else if (kind === "refuse") next.refuse(pick.chunk, pick.nodeId);
          else finish(pick);
        }
        // The faults stop: somebody who has all of it stays.
        next.setHolder(offer(9, ChunkSet.full(count)));
        for (let turn = 0; turn < 4 * count + 10 && next.missingCount > 0; turn++) {
          pending.push(...allPicks(next, 1_000 + turn));
          for (const pick of pending.splice(0)) finish(pick);
        }
        expect(next.missingCount).toBe(0);
        expect(done.size).toBe(count);
      }),
    );
  });

  test("no holder waits idle while it has a wanted chunk and room for it", () => {
    const sets = fc.array(fc.uniqueArray(fc.nat(49), { maxLength: 50, size: "max" }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(sets, fc.nat(), (held, seed) => {
        const next = picker(50, { seed });
        for (const [index, chunks] of held.entries()) next.setHolder(offer(index + 1, setOf(50, chunks)));
        const picks = allPicks(next);
        const asked = new Set(picks.map(({ chunk }) => chunk));
        for (const [index, chunks] of held.entries()) {
          const own = picks.filter((pick) => pick.nodeId === node(index + 1)).length;
          if (own < 2) expect(chunks.filter((chunk) => !asked.has(chunk))).toEqual([]);
        }
      }),
    );
  });
});
