import { describe, expect, it } from "vitest";
import { nextInTurn, type RunningBatch, stepAside } from "./turns.ts";

const running = (...of: readonly [string, boolean][]): RunningBatch<number>[] =>
  of.map(([tenantId, isIdle], batchId) => ({ batchId, tenantId, isIdle }));

describe("turns of batches", () => {
  it("the tenant of whom the fewest run is next, then who waits longest", () => {
    expect(nextInTurn(["a", "b", "c"], ["a", "a", "b"])).toBe(2);
    expect(nextInTurn(["a", "b", "b"], ["a", "b"])).toBe(0);
    expect(nextInTurn([], ["a"])).toBeNull();
  });

  it("nobody steps aside while there is a place, or while nobody waits", () => {
    expect(stepAside(["b"], running(["a", true]), 2)).toEqual([]);
    expect(stepAside([], running(["a", true], ["a", true]), 2)).toEqual([]);
  });

  it("batches of which nothing can run step aside, no more than wait", () => {
    expect(stepAside(["a"], running(["a", false], ["a", true], ["a", true]), 3)).toEqual([1]);
    expect(stepAside(["a", "b"], running(["a", true], ["a", false], ["c", true]), 3)).toEqual([0, 2]);
  });

  it("a tenant with all places gives its last ones up to another until neither has two more", () => {
    expect(stepAside(["b"], running(["a", false], ["a", false], ["a", false]), 3)).toEqual([2]);
    expect(stepAside(["b"], running(["a", false], ["a", false], ["b", false]), 3)).toEqual([]);
    expect(stepAside(["a"], running(["a", false], ["a", false], ["a", false]), 3)).toEqual([]);
  });
});
