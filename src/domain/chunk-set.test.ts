import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { areRunsValid, ChunkSet } from "./chunk-set.ts";

const COUNT = 77;
const chunks = fc.uniqueArray(fc.integer({ min: 0, max: COUNT - 1 }));
const setOf = (members: readonly number[]) => {
  const set = new ChunkSet(COUNT);
  for (const chunk of members) set.add(chunk);
  return set;
};

describe("a set of chunks", () => {
  test("is its runs and comes back from them", () => {
    fc.assert(
      fc.property(chunks, (members) => {
        const set = setOf(members);
        expect(areRunsValid(set.runs(), COUNT)).toBe(true);
        expect([...ChunkSet.of(COUNT, set.runs())]).toEqual(members.toSorted((a, b) => a - b));
      }),
    );
  });

  test("takes in another, and counts what both have, as plain sets do", () => {
    fc.assert(
      fc.property(chunks, chunks, (left, right) => {
        const both = setOf(left);
        expect(both.countCommon(setOf(right))).toBe(left.filter((chunk) => right.includes(chunk)).length);
        both.addAll(setOf(right));
        expect(both.size).toBe(new Set([...left, ...right]).size);
        expect([...both]).toEqual([...new Set([...left, ...right])].toSorted((a, b) => a - b));
      }),
    );
  });

  test("is less another, holds another and meets another as plain sets do", () => {
    fc.assert(
      fc.property(chunks, chunks, (left, right) => {
        const [one, other] = [setOf(left), setOf(right)];
        const rest = one.minus(other);
        expect([...rest]).toEqual(left.filter((chunk) => !right.includes(chunk)).sort((a, b) => a - b));
        expect(rest.size).toBe([...rest].length);
        expect(one.includes(other)).toBe(right.every((chunk) => left.includes(chunk)));
        expect(one.intersects(other)).toBe(left.some((chunk) => right.includes(chunk)));
      }),
    );
  });

  test("takes runs that cover each other, and refuses one beyond its end", () => {
    const run = fc
      .tuple(fc.nat(COUNT - 1), fc.nat(COUNT))
      .map(([from, count]) => [from, Math.min(count, COUNT - from)] as const);
    fc.assert(
      fc.property(fc.array(run, { maxLength: 8 }), (runs) => {
        const members = new Set(runs.flatMap(([from, count]) => Array.from({ length: count }, (_, at) => from + at)));
        const set = ChunkSet.of(COUNT, runs);
        expect([...set]).toEqual([...members].sort((a, b) => a - b));
        expect(set.size).toBe(members.size);
      }),
    );
    expect(() => ChunkSet.of(COUNT, [[COUNT - 2, 3]])).toThrow(/75 to 77 are among 77/);
  });
});
