/** One seed of the simulator, run twice: no law is broken, and the second run has the first one's trace. */
import { execFileSync } from "node:child_process";
import { expect } from "vitest";
import { runSimulation, type SimulationResult } from "../../src/sim/run-simulation.ts";

export async function simulateTwice(seed: number): Promise<SimulationResult> {
  const first = await runSimulation({ seed });
  const second = await runSimulation({ seed });
  expect(first.violations, failureText(first)).toEqual([]);
  expect(second.hash, `seed ${seed} replays; repeat with: ${repeat(seed)}`).toBe(first.hash);
  return first;
}

export function failureText({ seed, violations }: SimulationResult): string {
  const lines = violations.slice(0, 5).map(({ law, atMs, what }) => `  law ${law} at ${atMs.toFixed(3)} ms: ${what}`);
  return [`seed ${seed} breaks a law; repeat with: ${repeat(seed)}`, ...lines].join("\n");
}

function repeat(seed: number): string {
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  return `fallow sim --seed ${seed} --commit ${commit}`;
}
