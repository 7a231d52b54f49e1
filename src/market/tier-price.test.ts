import fc from "fast-check";
import { expect, test } from "vitest";
import { FLEX_BASIS_POINTS, PRIORITY_BASIS_POINTS, TIER_FACTORS, tierPrice } from "./tier-price.ts";

const priceArbitrary = fc.record({
  inputMicroUsdPerMtok: fc.integer({ min: 0, max: 1e9 }),
  outputMicroUsdPerMtok: fc.integer({ min: 0, max: 1e9 }),
});

test("flex costs half, default the model's price, priority half as much again", () => {
  const price = { inputMicroUsdPerMtok: 100_000, outputMicroUsdPerMtok: 300_001 };
  expect(tierPrice(price, TIER_FACTORS.flex)).toEqual({ inputMicroUsdPerMtok: 50_000, outputMicroUsdPerMtok: 150_001 });
  expect(tierPrice(price, TIER_FACTORS.default)).toEqual(price);
  expect(tierPrice(price, TIER_FACTORS.priority)).toEqual({
    inputMicroUsdPerMtok: 150_000,
    outputMicroUsdPerMtok: 450_002,
  });
});

test("a tier's price is whole, never below its part, never a micro-USD above it, and free only where the model or the tier is", () => {
  fc.assert(
    fc.property(priceArbitrary, fc.constantFrom(0, 1, FLEX_BASIS_POINTS, PRIORITY_BASIS_POINTS), (price, factor) => {
      const scaled = tierPrice(price, factor);
      for (const side of ["inputMicroUsdPerMtok", "outputMicroUsdPerMtok"] as const) {
        const exact = (price[side] * factor) / 10_000;
        expect(Number.isSafeInteger(scaled[side])).toBe(true);
        expect(scaled[side]).toBeGreaterThanOrEqual(exact);
        expect(scaled[side]).toBeLessThan(exact + 1);
        expect(scaled[side] === 0).toBe(price[side] === 0 || factor === 0);
      }
    }),
  );
});
