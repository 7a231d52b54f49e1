/**
 * Among the long suites because it starts and ends a thread for every test: in two of four whole runs of `npm test` V8 of Node 24.21 aborted its
 * process while other suites ran (`Check failed: jit_page.has_value()`), and never when it ran alone or four times at once (12 of 12).
 */
import { openThreadedSqliteStore } from "../../src/adapters/store-sql/sqlite-thread.ts";
import { describeStoreContract } from "../support/store-contract.ts";
import { onFile } from "../support/store-on-file.ts";

describeStoreContract("SQLite with a writing thread", () =>
  onFile((path) => openThreadedSqliteStore({ path, nowMs: 1 })),
);
