/** A few kills of the coordinator on each database; test/soak/crash.soak.test.ts has fifty of each. */
import { describe, expect, it } from "vitest";
import { type DrillReport, drillCrashes } from "./support/crash-drill.ts";
import { postgresAbsent, startPostgres } from "./support/postgres.ts";

const KILLS = 3;
/** A kill and the start after it take some 3 s on a busy machine with two cores. */
const DRILL_MS_MAX = 240_000;

describe("a coordinator that is killed under load", () => {
  it(
    "loses nothing that it acknowledged on SQLite",
    async () => {
      expectBusy(await drillCrashes({ kills: KILLS, seed: 1, database: null }));
    },
    DRILL_MS_MAX,
  );

  const absent = postgresAbsent();
  it.skipIf(absent !== null)(
    `loses nothing that it acknowledged on PostgreSQL${absent === null ? "" : ` (left out: ${absent})`}`,
    async () => {
      const postgres = await startPostgres();
      try {
        expectBusy(await drillCrashes({ kills: KILLS, seed: 2, database: await postgres.createDatabase() }));
      } finally {
        await postgres.stop();
      }
    },
    DRILL_MS_MAX,
  );
});

/** A drill that killed idle coordinators would show nothing. */
function expectBusy(report: DrillReport): void {
  expect(report.acknowledged).toBeGreaterThan(KILLS);
  expect(report.unanswered).toBeGreaterThan(KILLS);
}
