/** `kill -9` of agents and the coordinator in the middle of a batch; test/soak/batch-kill.soak.test.ts has 100,000 lines of it. */
import { expect, it } from "vitest";
import { drillBatch } from "./support/batch-drill.ts";

/** Three starts of processes on a busy machine with two cores. */
const DRILL_MS_MAX = 120_000;

it(
  "a batch whose agents and coordinator are killed in its middle has one result and one charge for each line",
  async () => {
    const kills = { agentKills: { everyLines: 60 }, coordinatorKills: { everyLines: 100 } };
    const report = await drillBatch({ lines: 180, agents: 2, tokens: 8, seed: 1, ...kills });
    expect(report.agentsKilled).toBeGreaterThan(0);
    expect(report.coordinatorsKilled).toBeGreaterThan(0);
  },
  DRILL_MS_MAX,
);
