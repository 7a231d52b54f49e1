import { expect, test } from "vitest";
import { tinyInstance } from "../../../bench/lib/tiny-instances.ts";
import { acceptPlan, movedLayers } from "./accept-plan.ts";

const cluster = tinyInstance(2);
const [one, other] = cluster.nodes.map(({ id }) => id);
const a = new Map([[one ?? "", { first: 0, end: 2 }]]);
const b = new Map([
  [one ?? "", { first: 1, end: 3 }],
  [other ?? "", { first: 0, end: 1 }],
]);

test("only layers that a node does not hold yet are moved", () => {
  expect(movedLayers(a, b)).toEqual([
    { node: one, layers: 1 },
    { node: other, layers: 1 },
  ]);
});

test("a gain of a twentieth or less is not worth moving for", () => {
  const old = { layout: a, score: 100, decodeTokensPerSecond: 100 };
  const verdict = acceptPlan(
    { old, new: { layout: b, score: 105, decodeTokensPerSecond: 105 } },
    { cluster, horizonHours: 1 },
  );
  expect(verdict.isAccepted).toBe(false);
  expect(verdict.movedBytes).toBe(2 * cluster.model.layerBytes);
});

test("a larger gain is, unless loading loses more tokens than the horizon gains", () => {
  const plans = {
    old: { layout: a, score: 100, decodeTokensPerSecond: 100 },
    new: { layout: b, score: 120, decodeTokensPerSecond: 120 },
  };
  expect(acceptPlan(plans, { cluster, horizonHours: 1 }).isAccepted).toBe(true);
  expect(acceptPlan(plans, { cluster, horizonHours: 1e-6 }).isAccepted).toBe(false);
});

test("anything is better than a plan that serves nothing", () => {
  const old = { layout: a, score: Number.NEGATIVE_INFINITY, decodeTokensPerSecond: 0 };
  expect(
    acceptPlan({ old, new: { layout: b, score: 1, decodeTokensPerSecond: 1 } }, { cluster, horizonHours: 1 })
      .isAccepted,
  ).toBe(true);
});
