import { expect, test } from "vitest";
import { cloud, price } from "../../../../test/support/route-samples.ts";
import { microUsd } from "../../../domain/money.ts";
import type { RouteCandidate } from "../../../scheduler/tiers/route-question.ts";
import { nextLeg } from "./next-leg.ts";

const terms = { price: price(1, 1), etaMs: null, tokPerSecond: null, mostMicroUsd: microUsd(1) };
const grid: RouteCandidate = { ...terms, kind: "grid" };
const provider = (providerId: string): RouteCandidate => ({
  ...terms,
  kind: "cloud",
  providerId,
  model: cloud().model,
});
const [a, b] = [provider("a"), provider("b")];
const all = [grid, a, b];
const anybody = () => true;

test("goes down the list, then back to the grid once, then ends", () => {
  const before: RouteCandidate[] = [];
  const way: RouteCandidate[] = [];
  for (let next = nextLeg(all, { before, canTake: anybody }); next !== null; ) {
    way.push(next);
    before.push(next);
    next = nextLeg(all, { before, canTake: anybody });
  }
  expect(way).toEqual([grid, a, b, grid]);
});

test("ends after six legs, however many providers there are", () => {
  const many = [grid, ...["a", "b", "c", "d", "e", "f"].map(provider)];
  expect(nextLeg(many, { before: many.slice(0, 5), canTake: anybody })).toBe(many[5]);
  expect(nextLeg(many, { before: many.slice(0, 6), canTake: anybody })).toBeNull();
});

test("passes over who cannot take the choice as it stands", () => {
  expect(nextLeg(all, { before: [grid], canTake: (candidate) => candidate !== a })).toBe(b);
  expect(nextLeg(all, { before: [grid], canTake: () => false })).toBeNull();
});

test("never goes to the one that has just failed", () => {
  expect(nextLeg([grid], { before: [grid], canTake: anybody })).toBeNull();
  expect(nextLeg([a], { before: [a], canTake: anybody })).toBeNull();
});
