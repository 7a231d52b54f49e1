import fc from "fast-check";
import { expect, test } from "vitest";
import { betterStart, blockThroughputs, least, type Span, weakestWindow } from "./petals-rule.ts";

test("a machine that joins takes the run of blocks that is served least, the lowest of equals", () => {
  const spans: Span[] = [
    { first: 0, length: 4, throughput: 10 },
    { first: 2, length: 4, throughput: 5 },
  ];
  const sums = blockThroughputs(spans, 8);
  expect([...sums]).toEqual([10, 10, 15, 15, 5, 5, 0, 0]);
  expect(weakestWindow(sums, 2)).toBe(6);
  expect(weakestWindow(sums, 4)).toBe(4);
  expect(weakestWindow(new Float64Array(8), 3)).toBe(0);
});

test("a machine moves where the weakest block gains enough, and stays when it is the only one there", () => {
  const crowded = new Map<number, Span>([
    [0, { first: 0, length: 4, throughput: 10 }],
    [1, { first: 0, length: 4, throughput: 10 }],
    [2, { first: 4, length: 4, throughput: 1 }],
  ]);
  expect(betterStart(crowded, 1, 8)).toBe(4);
  expect(betterStart(crowded, 2, 8)).toBeNull();
});

test("after a move that the rule asks for, the weakest block is not weaker than before", () => {
  const span = fc.record({
    first: fc.nat(6),
    length: fc.integer({ min: 1, max: 6 }),
    throughput: fc.integer({ min: 1, max: 9 }),
  });
  fc.assert(
    fc.property(fc.array(span, { minLength: 1, maxLength: 8 }), (drawn) => {
      const blocks = 12;
      const spans = new Map(drawn.map((one, machine) => [machine, one]));
      for (const [machine, own] of spans) {
        const start = betterStart(spans, machine, blocks);
        if (start === null) continue;
        const before = least(blockThroughputs(spans.values(), blocks));
        expect(start).not.toBe(own.first);
        expect(start).toBeGreaterThanOrEqual(0);
        expect(start + own.length).toBeLessThanOrEqual(blocks);
        const moved = new Map(spans).set(machine, { ...own, first: start });
        // The machine alone may take a block's last holder away only when no block was served in full before.
        if (before > 0) expect(least(blockThroughputs(moved.values(), blocks))).toBeGreaterThan(0);
      }
    }),
  );
});
