import fc from "fast-check";
import { expect, test } from "vitest";
import { holdAmount } from "../../market/hold.ts";
import { priceBound } from "./price-bound.ts";

test("law: the bound is what the market would hold", () => {
  const anyRequest = fc.record({
    promptTokens: fc.nat(100_000),
    outputTokensMax: fc.nat(100_000),
    choices: fc.integer({ min: 1, max: 8 }),
    price: fc.record({ inputMicroUsdPerMtok: fc.nat(10 ** 9), outputMicroUsdPerMtok: fc.nat(10 ** 9) }),
  });
  fc.assert(
    fc.property(anyRequest, (request) => {
      expect(priceBound(request)).toBe(holdAmount({ ...request, maxTokens: request.outputTokensMax }));
    }),
  );
});
