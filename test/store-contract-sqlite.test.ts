import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import { describeStoreContract } from "./support/store-contract.ts";
import { onFile } from "./support/store-on-file.ts";

describeStoreContract("SQLite in this thread", () => onFile((path) => openSqliteStore({ path, nowMs: 1 })));
