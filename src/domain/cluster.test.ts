import fc from "fast-check";
import { expect, test } from "vitest";
import { interpolate } from "./cluster.ts";

test("a curve is linear between its points and goes on as it ended", () => {
  const curve = { x: [0, 10, 30], y: [0, 1, 5] };
  expect([0, 5, 10, 20, 30, 40].map((at) => interpolate(curve, at))).toEqual([0, 0.5, 1, 3, 5, 7]);
});

test("no curve of times that are above 0 gives a negative time, whatever is asked", () => {
  const points = fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 2, maxLength: 8 });
  fc.assert(
    fc.property(
      points,
      fc.array(fc.double({ min: 1e-6, max: 10, noNaN: true }), { minLength: 8 }),
      fc.nat(1e7),
      (x, y, at) => {
        const curve = { x: x.toSorted((a, b) => a - b), y: y.slice(0, x.length) };
        expect(interpolate(curve, at)).toBeGreaterThan(0);
      },
    ),
  );
});

test("a curve that falls at its end stays there, and one that begins late begins level", () => {
  const curve = { x: [64, 128, 256], y: [0.01, 0.03, 0.02] };
  expect(interpolate(curve, 1)).toBe(0.01);
  expect(interpolate(curve, 5000)).toBe(0.02);
});
