/** 100,000 lines over 4 agents, one of which is killed every 5 s, and the coordinator every 30 s. */
import { expect, it } from "vitest";
import { drillBatch } from "../support/batch-drill.ts";

const LINES = 100_000;
const DRILL_MS_MAX = 4 * 3_600_000;

it(
  "a batch of 100,000 lines survives what is killed under it: one result and one charge for each line, in order",
  async () => {
    const kills = { agentKills: { everyMs: 5_000 }, coordinatorKills: { everyMs: 30_000 } };
    const say = (line: string) => console.log(line);
    const report = await drillBatch({ lines: LINES, agents: 4, tokens: 2, seed: 2, ...kills, say });
    console.log(JSON.stringify(report));
    expect(report.coordinatorsKilled).toBeGreaterThan(1);
    expect(report.agentsKilled).toBeGreaterThan(report.coordinatorsKilled);
  },
  DRILL_MS_MAX,
);
