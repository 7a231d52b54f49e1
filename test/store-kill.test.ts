/** Writers that are killed in mid-load: what they were told is durable is there, and nothing is half there. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openPostgresStore, openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import type { Store } from "../src/ports/store.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";
import { type Acknowledged, expectNothingLost, foundBooks, killedWriter } from "./support/writer-process.ts";

const ROUNDS = 6;
const NUMBERS_PER_ROUND = 100_000;
const TEST_MS_MAX = 180_000;

async function killRounds(open: () => Promise<Store>, writerArguments: readonly string[]): Promise<void> {
  const fresh = await open();
  await foundBooks(fresh);
  await fresh.close();
  const acknowledged: Acknowledged[] = [];
  let receipts = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const first = round * NUMBERS_PER_ROUND;
    // Not a round number: the kill falls at another point of the writers' cycle each time.
    const lines = 40 + round * 37;
    acknowledged.push(await killedWriter({ arguments: [...writerArguments, String(first)], lines }));
    const store = await open();
    const before = receipts;
    receipts = await expectNothingLost(store, acknowledged);
    expect(receipts).toBeGreaterThan(before);
    await store.close();
  }
  expect(acknowledged.flatMap((one) => one.failures)).toEqual([]);
}

describe("a writer killed in mid-load", () => {
  test("loses nothing that was acknowledged on SQLite", { timeout: TEST_MS_MAX }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "fallow-kill-"));
    const path = join(folder, "fallow.db");
    await killRounds(() => openSqliteStore({ path, nowMs: 1 }), ["sqlite", path]);
    await rm(folder, { recursive: true });
  });

  describe.skipIf(postgresAbsent() !== null)("with a PostgreSQL server", () => {
    let server: TestPostgres;
    beforeAll(async () => {
      server = await startPostgres();
    });
    afterAll(() => server.stop());

    test("loses nothing that was acknowledged on PostgreSQL", { timeout: TEST_MS_MAX }, async () => {
      const url = await server.createDatabase();
      await killRounds(() => openPostgresStore({ url, nowMs: 1 }), ["postgres", url]);
    });
  });
});
