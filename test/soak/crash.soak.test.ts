/** `kill -9` of the coordinator fifty times under load, on each database. */
import { describe, expect, it } from "vitest";
import { type DrillReport, drillCrashes } from "../support/crash-drill.ts";
import { postgresAbsent, startPostgres } from "../support/postgres.ts";

const KILLS = 50;
const DRILL_MS_MAX = 1_800_000;

describe("a coordinator that is killed fifty times under load", () => {
  it(
    "loses nothing that it acknowledged on SQLite",
    async () => {
      report("SQLite", await drillCrashes({ kills: KILLS, seed: 50, database: null }));
    },
    DRILL_MS_MAX,
  );

  const absent = postgresAbsent();
  it.skipIf(absent !== null)(
    `loses nothing that it acknowledged on PostgreSQL${absent === null ? "" : ` (left out: ${absent})`}`,
    async () => {
      const postgres = await startPostgres();
      try {
        report("PostgreSQL", await drillCrashes({ kills: KILLS, seed: 51, database: await postgres.createDatabase() }));
      } finally {
        await postgres.stop();
      }
    },
    DRILL_MS_MAX,
  );
});

function report(database: string, drill: DrillReport): void {
  console.log(
    `${database}: ${KILLS} kills, ${drill.asked} requests, ${drill.acknowledged} acknowledged, ` +
      `${drill.unanswered} cut, refused or left, ${drill.receipts} receipts`,
  );
  expect(drill.acknowledged).toBeGreaterThan(KILLS);
  expect(drill.unanswered).toBeGreaterThan(KILLS);
}
