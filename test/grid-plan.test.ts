/** The plan of the live grid as an operator gets it, from the real registry, dispatcher and agents in virtual time. */
import { expect, test } from "vitest";
import { gridPlan, planSummary } from "../src/coordinator/admin/plan-rows.ts";
import { gridPlanSchema, planSummarySchema } from "../src/coordinator/admin/plan-schema.ts";
import { DispatchGrid } from "./support/dispatch-grid.ts";

test("there is none before the first, and then it says what is where and how far it is from its bound", async () => {
  const grid = new DispatchGrid({ warmReplicas: 1 });
  const told = { clock: grid.clock, placement: () => grid.dispatcher.pool.plan() };
  expect(gridPlan(told)).toEqual({ plan: null });
  expect(planSummary(told)).toBeNull();
  await grid.start();
  const { nodeId } = await grid.addAgent();
  await grid.run(10_000);
  const { plan } = gridPlanSchema.parse(gridPlan(told));
  expect(plan).toMatchObject({ nodes: 1, gap: 0, loads: 0, unloads: 0 });
  expect(plan?.models).toMatchObject([
    {
      modelId: "scripted",
      warmReplicas: 1,
      replicaCount: 1,
      replicas: [{ nodeIds: [nodeId], kind: "whole", isHeld: true }],
    },
  ]);
  expect(planSummarySchema.parse(planSummary(told))?.ageMs).toBeLessThanOrEqual(30_000);
});

test("demand that was counted brings more replicas than the warm ones, before anybody waits", async () => {
  const grid = new DispatchGrid({ warmReplicas: 1, dispatch: { replanMs: 1_000 } });
  await grid.start();
  for (let count = 0; count < 3; count++) await grid.addAgent();
  await grid.run(5_000);
  const { pool } = grid.dispatcher;
  expect(pool.ready(grid.model.manifest.modelId)).toHaveLength(1);
  for (let count = 0; count < 4_000; count++) {
    const { modelId } = grid.model.manifest;
    pool.noteArrival({ modelId, tier: "default", promptTokens: () => 40, tokensNeeded: () => 280 });
  }
  await grid.run(5_000);
  expect(pool.plan()?.plan.models[0]?.demandTokPerSecond).toBeGreaterThan(1_000);
  expect(pool.ready(grid.model.manifest.modelId).length).toBeGreaterThan(1);
});
