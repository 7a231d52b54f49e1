import { expect, test } from "vitest";
import { jainIndex, TenantShares } from "./tenant-shares.ts";

test("Jain's index is 1 for equal shares, 1/n when one of n has all, and 1 for nobody", () => {
  expect([jainIndex([3, 3, 3]), jainIndex([7, 0, 0, 0]), jainIndex([]), jainIndex([0])]).toEqual([1, 0.25, 1, 1]);
});

test("use is halved in five minutes and forgotten in the end", () => {
  const shares = new TenantShares();
  shares.record({ tenantId: "early", deviceSeconds: 8, nowMs: 0 });
  shares.record({ tenantId: "late", deviceSeconds: 4, nowMs: 300_000 });
  expect(shares.summary(300_000)).toEqual({ tenants: 2, largestShare: 0.5, jainIndex: 1 });
  expect(shares.summary(1e9)).toEqual({ tenants: 0, largestShare: 0, jainIndex: 1 });
});
