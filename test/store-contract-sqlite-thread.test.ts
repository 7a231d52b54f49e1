import { openThreadedSqliteStore } from "../src/adapters/store-sql/sqlite-thread.ts";
import { describeStoreContract } from "./support/store-contract.ts";
import { onFile } from "./support/store-on-file.ts";

describeStoreContract("SQLite with a writing thread", () =>
  onFile((path) => openThreadedSqliteStore({ path, nowMs: 1 })),
);
