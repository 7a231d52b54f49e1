/** `fallow up --database postgres://…`: everything but secrets lies in the database. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";

describe.skipIf(postgresAbsent() !== null)("a grid on PostgreSQL", () => {
  let postgres: TestPostgres;
  let home: string;
  beforeAll(async () => {
    home = makeHome();
    postgres = await startPostgres();
  });
  afterAll(async () => {
    await postgres?.stop();
    removeHome(home);
  });

  test("answers, and after kill -9 goes on with the same key, grid and money", async () => {
    const database = await postgres.createDatabase();
    const options = { home, args: ["--database", database] };
    const facts = async () => (await runFallow(["status", "--json"], { home })).json as Record<string, unknown>;
    const first = await startGrid(options);
    expect((await runFallow(["chat", "hello", "--max-tokens", "8"], { home })).code).toBe(0);
    const before = await facts();
    first.killGroup("SIGKILL");
    await first.exited;
    const second = await startGrid(options);
    const after = await facts();
    expect(second.apiKey).toBe(first.apiKey);
    expect(after["gridId"]).toBe(before["gridId"]);
    expect(after["ledger"]).toEqual(before["ledger"]);
    expect((await runFallow(["ledger", "check"], { home })).code).toBe(0);
    expect(await second.stop()).toBe(0);
  });

  test("an address where no server listens is an error with a fix", async () => {
    const args = ["up", "--port", "0", "--database", "postgres://nobody@127.0.0.1:9/none"];
    const { code, stderr } = await runFallow(args, { home });
    expect(code).toBe(1);
    expect(stderr).toContain("fix:");
  });
});
