/** The store that `--database` names: a PostgreSQL address, a SQLite file, or the home's own file. */
import { resolve } from "node:path";
import { openPostgresStore } from "../../adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../../adapters/store-sql/sqlite-thread.ts";
import type { Store } from "../../ports/store.ts";
import type { HomeFolder } from "../home/home-folder.ts";

const HOME_DATABASE = "grid.sqlite";

export function openStore(database: string | undefined, home: HomeFolder): Promise<Store> {
  const nowMs = Date.now();
  if (database === undefined) return openThreadedSqliteStore({ path: home.at(HOME_DATABASE), nowMs });
  if (/^postgres(ql)?:\/\//.test(database)) return openPostgresStore({ url: database, nowMs });
  return openThreadedSqliteStore({ path: resolve(database), nowMs });
}
