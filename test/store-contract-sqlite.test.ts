import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import { describeStoreContract } from "./support/store-contract.ts";

describeStoreContract("SQLite", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-store-"));
  const open = () => openSqliteStore({ path: join(folder, "fallow.db"), nowMs: 1 });
  let store = await open();
  return {
    store,
    reopen: async () => {
      await store.close();
      store = await open();
      return store;
    },
    close: async () => {
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
});
