/** PostgreSQL when there are two coordinators, when sessions end, and when the server is gone. */
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openPostgresStore, type SqlStore } from "../src/adapters/store-sql/sql-store.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";
import { aTenant, credit, settlementFor } from "./support/store-samples.ts";
import { expectNothingLost, foundBooks } from "./support/writer-process.ts";

describe.skipIf(postgresAbsent() !== null)("a PostgreSQL store", () => {
  let server: TestPostgres;
  let url: string;
  const opened: SqlStore[] = [];
  const open = async (lockWaitMs = 300) => {
    const store = await openPostgresStore({ url, lockWaitMs, nowMs: 1 });
    opened.push(store);
    return store;
  };
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    url = await server.createDatabase();
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
  });
  /** Ends every session of this test's database, as a restart of the server or a firewall does. */
  const endSessions = () =>
    server.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${new URL(url).pathname.slice(1)}'`,
    );
  /** A write may meet the lost connection once; the next one finds a new one. */
  const writeThrough = async (store: SqlStore) => {
    for (let tries = 0; tries < 20; tries++) {
      const outcome = await store.meta.set("a", "b").then(
        () => "written",
        (fault: { code: string }) => fault.code,
      );
      if (outcome !== "store-unavailable") return outcome;
    }
    return "store-unavailable";
  };

  test("has one coordinator: a second one is refused with what to do, until the first is gone", async () => {
    const first = await open();
    const refused = open();
    await expect(refused).rejects.toMatchObject({ code: "store-in-use" });
    await expect(refused).rejects.toThrow("Stop the other coordinator");
    await first.meta.set("a", "b");
    await first.close();
    expect(await (await open()).meta.get("a")).toBe("b");
  });

  test("waits for a coordinator that is about to end", async () => {
    const first = await open();
    const second = open(5_000);
    await first.close();
    await (await second).meta.set("a", "b");
  });

  test("goes on after its sessions were ended", async () => {
    const store = await open();
    await store.meta.set("boots", "1");
    await endSessions();
    expect(await writeThrough(store)).toBe("written");
    expect(await store.meta.get("boots")).toBe("1");
  });

  test("refuses every write after another coordinator worked on the database in between", async () => {
    const first = await open();
    await first.meta.set("a", "first");
    await endSessions();
    const second = await open();
    await second.meta.set("a", "second");
    expect(await writeThrough(first)).toBe("store-in-use");
    await second.close();
    expect(await writeThrough(first)).toBe("store-in-use");
    await expect(first.meta.set("a", "first")).rejects.toThrow("took it over");
    expect(await first.meta.get("a")).toBe("second");
  });

  test("loses nothing acknowledged when sessions end in mid-load", async () => {
    const store = await open();
    await foundBooks(store);
    const settled = new Set<number>();
    const write = async (first: number) => {
      for (let request = first; request < first + 30; request++) {
        const settlement = settlementFor(request, { costMicroUsd: 100 });
        for (let isDone = false; !isDone; ) {
          // Each may have reached the disk without an answer: asked again, it is a replay.
          isDone = await store.ledger
            .apply(settlement.hold)
            .then(() => store.receipts.settle(settlement))
            .then(
              (outcome) => outcome.ok,
              () => false,
            );
        }
        settled.add(request);
      }
    };
    const load = Promise.all([0, 100, 200, 300].map(write));
    for (let round = 0; round < 5; round++) {
      await store.meta.set("round", String(round)).catch(() => undefined);
      await endSessions();
    }
    await load;
    expect(settled.size).toBe(120);
    expect(await expectNothingLost(store, [{ held: settled, settled, failures: [] }])).toBe(120);
  });

  test("that cannot be reached says where, and never with which password", async () => {
    const nowhere = openPostgresStore({ url: "postgres://me:hunter2@127.0.0.1:1/fallow", nowMs: 1 });
    await expect(nowhere).rejects.toMatchObject({ code: "store-unavailable", data: { place: "127.0.0.1:1/fallow" } });
    const fault: unknown = await nowhere.catch((cause: unknown) => cause);
    expect(fault instanceof Error && fault.message).not.toContain("hunter2");
    await expect(openPostgresStore({ url: "postgres//typo", nowMs: 1 })).rejects.toMatchObject({
      code: "store-url-invalid",
    });
    url = url.replace(/fallow_\d+/, "absent");
    await expect(open()).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test("keeps whole 53-bit amounts and refuses to read a longer one", async () => {
    const store = await open();
    await store.ledger.apply([credit(aTenant(1).tenantId, Number.MAX_SAFE_INTEGER)]);
    const [house, tenant] = await store.ledger.accounts();
    expect([house?.debitsPosted, tenant?.creditsPosted]).toEqual([Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]);
    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query("update accounts set credits_posted = credits_posted + 1 where account_id like 'tenant:%'");
    await client.end();
    await expect(store.ledger.accounts()).rejects.toThrow("9007199254740992 from the database is a safe integer");
  });
});
