/** Many more histories of chains than `npm test` has time for: each must keep the laws, and replay. */
import { expect, test } from "vitest";
import { runSimulation } from "../../src/sim/run-simulation.ts";

const FIRST_SEED = 1_001;
const SEEDS = 300;
const TIMEOUT_MS = 3_600_000;

test(`${SEEDS} seeds of chains under faults keep the laws and replay`, { timeout: TIMEOUT_MS }, async () => {
  const broken: string[] = [];
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const first = await runSimulation({ seed, hasChains: true });
    const [violation] = first.violations;
    if (violation !== undefined) broken.push(`seed ${seed}: law ${violation.law}: ${violation.what}`);
    const second = await runSimulation({ seed, hasChains: true });
    if (second.hash !== first.hash) broken.push(`seed ${seed} does not replay`);
  }
  expect(broken).toEqual([]);
});
