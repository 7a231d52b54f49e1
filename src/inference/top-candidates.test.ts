import fc from "fast-check";
import { expect, test } from "vitest";
import { NOT_FINITE, TopCandidates } from "./top-candidates.ts";

function expectedTop(row: readonly number[], k: number): number[] {
  const finite = row.map((logit, id) => ({ logit, id })).filter(({ logit }) => logit > Number.NEGATIVE_INFINITY);
  return finite
    .sort((a, b) => b.logit - a.logit || a.id - b.id)
    .slice(0, k)
    .map(({ id }) => id);
}

test("the candidates are those that sorting the whole row would give, ties by lower id", () => {
  const logit = fc.oneof(fc.integer({ min: -4, max: 4 }), fc.constant(Number.NEGATIVE_INFINITY));
  const row = fc.array(logit, { minLength: 1, maxLength: 700 });
  fc.assert(
    fc.property(row, fc.integer({ min: 1, max: 256 }), (logits, k) => {
      const top = new TopCandidates();
      const count = top.select(Float32Array.from(logits), k);
      const expected = expectedTop(logits, k);
      expect(count).toBe(expected.length);
      expect(Array.from(top.ids.subarray(0, count))).toEqual(expected);
      expect(Array.from(top.logits.subarray(0, count))).toEqual(expected.map((id) => logits[id]));
    }),
  );
});

test("a row with NaN or +Infinity anywhere is called broken", () => {
  const row = fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 300 });
  const broken = fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY);
  fc.assert(
    fc.property(row, fc.nat(), broken, fc.integer({ min: 1, max: 64 }), (logits, at, value, k) => {
      const data = Float32Array.from(logits);
      data[at % data.length] = value;
      expect(new TopCandidates().select(data, k)).toBe(NOT_FINITE);
    }),
  );
});
