/** SQLite when the disk is full, the file is foreign, the program is older, or one write of a group is wrong. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MIGRATIONS } from "../src/adapters/store-sql/migrate.ts";
import type { Migration } from "../src/adapters/store-sql/migrations/migration.ts";
import { openSqliteStore, type SqlStore } from "../src/adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../src/adapters/store-sql/sqlite-thread.ts";
import { microUsd } from "../src/domain/money.ts";
import { aTenant, credit, settlementFor } from "./support/store-samples.ts";
import { expectNothingLost, foundBooks, limitedWriter } from "./support/writer-process.ts";

/** One that this program does not have yet. */
const next: Migration = {
  version: MIGRATIONS.length + 1,
  name: "next",
  statements: () => ["create table extra (name text primary key)", "insert into extra (name) values ('kept')"],
};

describe("a SQLite store", () => {
  let folder: string;
  let path: string;
  const opened: SqlStore[] = [];
  const open = async (options: { fileBytesMax?: number; migrations?: readonly Migration[] } = {}) => {
    const store = await openSqliteStore({ path, nowMs: 1, ...options });
    opened.push(store);
    return store;
  };
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "fallow-faults-"));
    path = join(folder, "fallow.db");
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
    await rm(folder, { recursive: true });
  });

  test("that may not grow says so, keeps what it acknowledged, and goes on when there is room", async () => {
    const store = await open({ fileBytesMax: 400_000 });
    await foundBooks(store);
    const settled = new Set<number>();
    let request = 0;
    const fill = async () => {
      for (;;) {
        const number = request++;
        const settlement = settlementFor(number, { costMicroUsd: 100 });
        await store.ledger.apply(settlement.hold);
        await store.receipts.settle(settlement);
        settled.add(number);
      }
    };
    const ends = await Promise.allSettled([fill(), fill(), fill(), fill()]);
    for (const end of ends) expect(end).toMatchObject({ status: "rejected", reason: { code: "disk-full" } });
    expect(settled.size).toBeGreaterThan(20);
    const acknowledged = { held: settled, settled, failures: [] };
    await expectNothingLost(store, [acknowledged]);
    await store.close();
    const roomy = await open();
    await expectNothingLost(roomy, [acknowledged]);
    await roomy.meta.set("goes", "on");
  });

  test("whose writes the system refuses loses nothing that was acknowledged", async () => {
    await foundBooks(await open());
    await opened.splice(0)[0]?.close();
    // No file of the process may grow beyond 400 blocks of 1 KiB.
    const acknowledged = await limitedWriter("ulimit -f 400", ["sqlite", path, "0"]);
    expect(acknowledged.failures).toEqual(["store-unavailable"]);
    expect(acknowledged.settled.size).toBeGreaterThan(5);
    await expectNothingLost(await open(), [acknowledged]);
  });

  test("gives one wrong write of a group its own error and commits the others", async () => {
    const store = await open();
    await store.tenants.create(aTenant(1));
    const tenant = aTenant(1).tenantId;
    const malformed = { ...credit(tenant, 5), amountMicroUsd: microUsd(0) };
    const group = await Promise.allSettled([
      store.meta.set("before", "1"),
      store.tenants.create(aTenant(1)),
      store.ledger.apply([credit(tenant, 7)]),
      store.ledger.apply([malformed]),
      store.meta.set("after", "2"),
    ]);
    expect(group.map((one) => one.status)).toEqual(["fulfilled", "rejected", "fulfilled", "rejected", "fulfilled"]);
    expect(group[1]).toMatchObject({ reason: { code: "already-exists" } });
    expect([await store.meta.get("before"), await store.meta.get("after")]).toEqual(["1", "2"]);
    expect((await store.ledger.account(credit(tenant, 7).creditAccountId))?.creditsPosted).toBe(7);
  });

  test("whose writers ask again at once still leaves the event loop its turns", async () => {
    const store = await open();
    let turns = 0;
    const turning = setInterval(() => turns++, 0);
    for (let index = 0; index < 100; index++) await store.meta.set("name", String(index));
    clearInterval(turning);
    expect(turns).toBeGreaterThan(10);
  });

  test("with a writing thread tells the thread's faults with their codes, and ends with its process", async () => {
    await foundBooks(await open({ fileBytesMax: 400_000 }));
    await opened.splice(0)[0]?.close();
    const store = await openThreadedSqliteStore({ path, nowMs: 1, fileBytesMax: 400_000 });
    const body = "x".repeat(10_000);
    const fill = async () => {
      for (let index = 0; ; index++) await store.meta.set(`name ${index}`, body);
    };
    await expect(fill()).rejects.toMatchObject({ code: "disk-full", data: { path } });
    const malformed = { ...credit(aTenant(1).tenantId, 5), amountMicroUsd: microUsd(0) };
    await expect(store.ledger.apply([malformed])).rejects.toThrow("must hold");
    await store.close();
    await writeFile(path, "this is not a database, however long it goes on ".repeat(100));
    await expect(openThreadedSqliteStore({ path, nowMs: 1 })).rejects.toMatchObject({ code: "store-corrupt" });
  });

  test("that closes while writes wait commits them first", async () => {
    const store = await open();
    const writes = Array.from({ length: 20 }, (_, index) => store.meta.set(`name ${index}`, "kept"));
    await store.close();
    await Promise.all(writes);
    const again = await open();
    for (let index = 0; index < 20; index++) expect(await again.meta.get(`name ${index}`)).toBe("kept");
  });

  test("runs the migrations that it lacks and keeps the rows", async () => {
    await (await open()).meta.set("kept", "yes");
    await opened.splice(0)[0]?.close();
    const store = await open({ migrations: [...MIGRATIONS, next] });
    expect(await store.meta.get("kept")).toBe("yes");
  });

  test("from a newer program is refused and left as it was", async () => {
    await open({ migrations: [...MIGRATIONS, next] });
    await opened.splice(0)[0]?.close();
    await expect(open()).rejects.toMatchObject({
      code: "store-newer-than-code",
      data: { databaseVersion: MIGRATIONS.length + 1, codeVersion: MIGRATIONS.length },
    });
    expect(rows("select name from extra")).toEqual([{ name: "kept" }]);
  });

  test("of another build with other statements is refused", async () => {
    await open({ migrations: [...MIGRATIONS, next] });
    await opened.splice(0)[0]?.close();
    const edited: Migration = { ...next, statements: () => ["create table extra (other text)"] };
    await expect(open({ migrations: [...MIGRATIONS, edited] })).rejects.toMatchObject({
      code: "store-migration-differs",
    });
  });

  test("with a migration that fails half way stays at the version before", async () => {
    await open();
    await opened.splice(0)[0]?.close();
    const broken: Migration = { ...next, statements: () => ["create table extra (name text)", "create nonsense"] };
    await expect(open({ migrations: [...MIGRATIONS, broken] })).rejects.toThrow();
    expect(rows("select name from sqlite_master where name = 'extra'")).toEqual([]);
    await (await open()).meta.set("goes", "on");
  });

  test("on a file that is no database, or in a place that is no file, says so", async () => {
    await writeFile(path, "this is not a database, however long it goes on ".repeat(100));
    await expect(open()).rejects.toMatchObject({ code: "store-corrupt" });
    path = join(folder, "a-folder");
    await mkdir(path);
    await expect(open()).rejects.toMatchObject({ code: "store-unavailable" });
    path = join(folder, "absent", "fallow.db");
    await expect(open()).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test("refuses an amount that the tables' own checks know to be wrong", async () => {
    const store = await open();
    await store.ledger.apply([credit(aTenant(1).tenantId, 5)]);
    const file = new DatabaseSync(path);
    expect(() => file.exec("update accounts set debits_posted = 6 where account_id like 'tenant:%'")).toThrow("CHECK");
    file.close();
  });

  function rows(query: string): unknown[] {
    const file = new DatabaseSync(path);
    const found = file.prepare(query).all();
    file.close();
    return found.map((row) => ({ ...row }));
  }
});
