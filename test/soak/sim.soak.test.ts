/** The rest of the seeds that test/sim.test.ts begins: laws hold after every event, and every run replays. */
import { expect, test } from "vitest";
import { simulateTwice } from "../support/simulate-twice.ts";

const FIRST_SEED = 61;
const LAST_SEED = 200;
const SEEDS_PER_TEST = 20;
const TIMEOUT_MS = 600_000;

for (let from = FIRST_SEED; from <= LAST_SEED; from += SEEDS_PER_TEST) {
  const to = from + SEEDS_PER_TEST - 1;
  test(`seeds ${from} to ${to}`, { timeout: TIMEOUT_MS }, async () => {
    const hashes = new Set<string>();
    for (let seed = from; seed <= to; seed++) hashes.add((await simulateTwice(seed)).hash);
    expect(hashes.size).toBe(SEEDS_PER_TEST);
  });
}
