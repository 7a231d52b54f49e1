/**
 * The whole grid in virtual time, seed by seed: the laws of DESIGN hold after every event, every seed replays to the same
 * trace hash, and each planted break of a law is seen by its checker. docs/simulator.md says how to read a failure.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { SABOTAGES } from "../src/sim/faults/sabotage.ts";
import { runSimulation } from "../src/sim/run-simulation.ts";
import { failureText, simulateTwice } from "./support/simulate-twice.ts";

/** test/soak/sim.soak.test.ts runs those up to 200. */
const SEEDS = 60;
const SEEDS_PER_TEST = 20;
/** A seed takes 0.1 s alone; the machine may be busy with everything else. */
const TIMEOUT_MS = 240_000;
const CALM_SEEDS = 10;
/** Seeds that a planted break may need until a run meets the situation in which it shows. */
const SABOTAGE_SEEDS = 60;

const LAW_OF: Readonly<Record<(typeof SABOTAGES)[number], number>> = {
  "double-charge": 1,
  "dead-epoch": 2,
  "skipped-token": 2,
  "plan-over-memory": 3,
  "ignored-region": 3,
  "restart-in-presence": 4,
  "no-deadline": 5,
};

function seedsThatFoundBugs(): readonly { readonly seed: number; readonly bug: string }[] {
  return readFileSync(new URL("./seeds.txt", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [seed = "", ...bug] = line.split(/\s+/);
      return { seed: Number(seed), bug: bug.join(" ") };
    });
}

describe("with faults drawn from the seed, the laws hold and the run replays", () => {
  for (let from = 1; from <= SEEDS; from += SEEDS_PER_TEST) {
    const to = from + SEEDS_PER_TEST - 1;
    test(`seeds ${from} to ${to}`, { timeout: TIMEOUT_MS }, async () => {
      const hashes = new Set<string>();
      for (let seed = from; seed <= to; seed++) hashes.add((await simulateTwice(seed)).hash);
      expect(hashes.size).toBe(SEEDS_PER_TEST);
    });
  }

  for (const { seed, bug } of seedsThatFoundBugs()) {
    test(`seed ${seed}, which found: ${bug}`, { timeout: TIMEOUT_MS }, async () => {
      await simulateTwice(seed);
    });
  }
});

test("without faults every request of a tenant with money is answered", { timeout: TIMEOUT_MS }, async () => {
  let answered = 0;
  for (let seed = 1; seed <= CALM_SEEDS; seed++) {
    const result = await runSimulation({ seed, faults: [] });
    expect(result.violations, failureText(result)).toEqual([]);
    answered += result.stats.outcomes["answered"] ?? 0;
  }
  expect(answered).toBeGreaterThan(CALM_SEEDS);
});

describe("a planted break is seen", () => {
  for (const sabotage of SABOTAGES) {
    test(`${sabotage} breaks law ${LAW_OF[sabotage]}`, { timeout: TIMEOUT_MS }, async () => {
      for (let seed = 1; seed <= SABOTAGE_SEEDS; seed++) {
        const { violations } = await runSimulation({ seed, sabotage });
        // A break may show another law's break first: a cancel that is never sent also leaves its lease in a slot.
        if (violations.some(({ law }) => law === LAW_OF[sabotage])) return;
      }
      expect.fail(`${SABOTAGE_SEEDS} runs with ${sabotage} never broke law ${LAW_OF[sabotage]}`);
    });
  }
});
