/** One scenario under one policy: the run's figures, and a hash over every request's fate that shows a replay. */

import type { ChurnPolicyName, ChurnRun } from "./churn-report.ts";
import { ChurnGrid } from "./grid/churn-grid.ts";
import { OursPolicy } from "./policies/ours-policy.ts";
import { PetalsPolicy } from "./policies/petals-policy.ts";
import type { ChurnPolicy } from "./policies/policy.ts";
import { upShare } from "./scenario/availability.ts";
import type { Scenario } from "./scenario/scenario.ts";

const GB = 1e9;

export function runScenario(scenario: Scenario, name: ChurnPolicyName): ChurnRun {
  return runPolicy(scenario, name, policyNamed(scenario, name));
}

export function runPolicy(scenario: Scenario, name: ChurnPolicyName, policy: ChurnPolicy): ChurnRun {
  const startMs = cpuMs();
  const grid = new ChurnGrid(scenario, policy, cpuMs);
  grid.run();
  const figures = grid.fates.figures(scenario.requests.length, scenario.endMs);
  const span = { fromMs: 0, toMs: scenario.endMs };
  const shares = scenario.nodes.map(({ availability }) => upShare(availability.intervals, span));
  const metrics = { ...figures, loads: grid.loads, movedGb: grid.movedBytes / GB };
  return {
    seed: scenario.seed,
    kind: scenario.kind,
    policy: name,
    metrics,
    requests: scenario.requests.length,
    availability: shares.reduce((sum, share) => sum + share, 0) / shares.length,
    losses: grid.losses,
    cpuMs: cpuMs() - startMs,
    planCpuMs: grid.planCpuMs,
    hash: grid.fates.digest(JSON.stringify(metrics)),
    series: grid.fates.points(),
  };
}

function policyNamed(scenario: Scenario, name: ChurnPolicyName): ChurnPolicy {
  switch (name) {
    case "petals":
      return new PetalsPolicy();
    case "ours":
      return new OursPolicy(scenario, { usesSurvival: true, isSticky: true });
    case "no-survival":
      return new OursPolicy(scenario, { usesSurvival: false, isSticky: true });
    case "no-stickiness":
      return new OursPolicy(scenario, { usesSurvival: true, isSticky: false });
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
