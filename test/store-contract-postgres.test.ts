import { afterAll, beforeAll, describe } from "vitest";
import { openPostgresStore } from "../src/adapters/store-sql/sql-store.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";
import { describeStoreContract } from "./support/store-contract.ts";

describe.skipIf(postgresAbsent() !== null)("with a PostgreSQL server", () => {
  let server: TestPostgres;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  describeStoreContract("PostgreSQL", async () => {
    const url = await server.createDatabase();
    const open = () => openPostgresStore({ url, nowMs: 1 });
    let store = await open();
    return {
      store,
      reopen: async () => {
        await store.close();
        store = await open();
        return store;
      },
      close: () => store.close(),
    };
  });
});
