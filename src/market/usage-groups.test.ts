import fc from "fast-check";
import { expect, test } from "vitest";
import { microUsd } from "../domain/money.ts";
import { groupUsage, USAGE_DIMENSIONS, type UsageSource } from "./usage-groups.ts";

const rowArbitrary = fc.record({
  day: fc.constantFrom("2026-11-01", "2026-11-02"),
  tenantId: fc.constantFrom("t1", "t2"),
  keyId: fc.constantFrom("k1", "k2"),
  modelId: fc.constantFrom("m1", "m2"),
  tier: fc.constantFrom("default", "flex"),
  provider: fc.constantFrom("grid", "far"),
  requests: fc.nat(9),
  promptTokens: fc.nat(999),
  outputTokens: fc.nat(999),
  costMicroUsd: fc.nat(999).map(microUsd),
});

test("whatever it is grouped by, sums are those of all rows, and groups differ and are in order", () => {
  fc.assert(
    fc.property(fc.array(rowArbitrary), fc.subarray([...USAGE_DIMENSIONS]), (rows: UsageSource[], dimensions) => {
      const groups = groupUsage(rows, dimensions);
      for (const sum of ["requests", "promptTokens", "outputTokens", "costMicroUsd"] as const) {
        const total = (of: readonly { [Key in typeof sum]: number }[]) => of.reduce((all, row) => all + row[sum], 0);
        expect(total(groups)).toBe(total(rows));
      }
      const names = groups.map(({ by }) => JSON.stringify(by));
      expect(new Set(names).size).toBe(names.length);
      expect(names).toEqual([...names].sort());
      expect(groups.every(({ by }) => by.length === dimensions.length)).toBe(true);
    }),
  );
});
