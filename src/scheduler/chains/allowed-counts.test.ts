import fc from "fast-check";
import { expect, test } from "vitest";
import { nearestAllowed } from "./allowed-counts.ts";

const REFUSED = new Set([26, 27, 47, 48]);

test("counts that are allowed stay as they are", () => {
  expect(nearestAllowed([30, 31], { rooms: [61, 61], refused: REFUSED })).toEqual([30, 31]);
});

test("a count that is refused takes the layers of its neighbour, or gives it some, within both rooms", () => {
  expect(nearestAllowed([34, 27], { rooms: [61, 61], refused: REFUSED })).toEqual([33, 28]);
  expect(nearestAllowed([34, 27], { rooms: [61, 27], refused: REFUSED })).toEqual([36, 25]);
  expect(nearestAllowed([34, 27], { rooms: [35, 27], refused: REFUSED })).toBeNull();
});

test("what it finds is allowed, whole and nearest; what it does not find is not there", () => {
  const two = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }));
  fc.assert(
    fc.property(two, two, fc.uniqueArray(fc.integer({ min: 1, max: 9 })), (rooms, parts, list) => {
      const wanted = parts.map((part, at) => Math.min(part, rooms[at] ?? 0));
      const refused = new Set(list);
      const layers = wanted.reduce((sum, count) => sum + count, 0);
      let least = Number.POSITIVE_INFINITY;
      for (let a = 1; a <= rooms[0]; a++) {
        for (let b = 1; b <= rooms[1]; b++) {
          const all = [a, b, layers - a - b];
          if (layers - a - b < 1 || layers - a - b > rooms[2] || all.some((count) => refused.has(count))) continue;
          least = Math.min(least, differenceOf(all, wanted));
        }
      }
      const found = nearestAllowed(wanted, { rooms, refused });
      expect(found === null ? Number.POSITIVE_INFINITY : differenceOf(found, wanted)).toBe(least);
      expect(found?.some((count) => refused.has(count)) ?? false).toBe(false);
    }),
  );
});

function differenceOf(counts: readonly number[], wanted: readonly number[]): number {
  return counts.reduce((sum, count, at) => sum + Math.abs(count - (wanted[at] ?? 0)), 0);
}
