/** Many more histories of chains than `npm test` has time for: each must keep the laws, and replay. */
import { expect, test } from "vitest";
import { runSimulation } from "../../src/sim/run-simulation.ts";

const TIMEOUT_MS = 3_600_000;

/** What broke in these seeds, and how often faults struck in them. */
async function runSeeds({ from, to }: { readonly from: number; readonly to: number }) {
  const broken: string[] = [];
  let faults = 0;
  for (let seed = from; seed <= to; seed++) {
    const first = await runSimulation({ seed, hasChains: true });
    faults += first.stats.faultEvents;
    const [violation] = first.violations;
    if (violation !== undefined) broken.push(`seed ${seed}: law ${violation.law}: ${violation.what}`);
    const second = await runSimulation({ seed, hasChains: true });
    if (second.hash !== first.hash) broken.push(`seed ${seed} does not replay`);
  }
  return { broken, faults };
}

test("seeds 1 to 48 of chains under 100 faults and more keep the laws and replay", {
  timeout: TIMEOUT_MS,
}, async () => {
  const { broken, faults } = await runSeeds({ from: 1, to: 48 });
  expect(broken).toEqual([]);
  expect(faults).toBeGreaterThanOrEqual(100);
});

test("300 seeds more of chains under faults keep the laws and replay", { timeout: TIMEOUT_MS }, async () => {
  const { broken } = await runSeeds({ from: 1_001, to: 1_300 });
  expect(broken).toEqual([]);
});
