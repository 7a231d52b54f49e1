/**
 * SQLite through node:sqlite: one connection writes, one reads. WAL lets the reader see the last commit while a write is
 * under way; synchronous=FULL makes a commit wait for the disk, because the ledger is in here.
 *
 * Statements run in the caller's thread and block it for their time (tens of microseconds; a commit as long as the disk takes).
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Kysely, type SqliteDatabase, SqliteDialect, type SqliteStatement } from "kysely";
import { FallowError } from "../../domain/fault.ts";
import type { SqlDatabase } from "./database.ts";
import type { Tables } from "./tables.ts";

/** Another process may hold the file for a moment (a backup, a checkpoint). */
const BUSY_TIMEOUT_MS = 5_000;
/** Distinct statements of this program are below 100; more would be a leak. */
const STATEMENTS_KEPT_MAX = 200;
const PRAGMAS = [
  "pragma journal_mode = wal",
  "pragma synchronous = full",
  "pragma foreign_keys = on",
  "pragma wal_autocheckpoint = 1000",
];

export interface SqliteOptions {
  readonly path: string;
  /** The file may grow to this many bytes; null: as far as the disk goes. */
  readonly fileBytesMax?: number | null;
}

export function openSqlite(options: SqliteOptions): SqlDatabase {
  const [writerFile, readerFile] = openBoth(options);
  const writer = kyselyOver(writerFile);
  const reader = kyselyOver(readerFile);
  return {
    dialect: "sqlite",
    reader,
    writer,
    begin: "begin immediate",
    storageFault: (thrown) => sqliteFault(thrown, options.path),
    // Who may open this file at all is decided by the lock on its home directory (cli).
    claim: () => Promise.resolve(),
    isTransient: () => false,
    close: async () => {
      // The last connection to close folds the log into the file: the writer's.
      readerFile.close();
      writerFile.close();
    },
  };
}

/** Only reads; whoever writes to the file does so elsewhere and has opened it before. */
export function openSqliteReader(options: SqliteOptions): SqlDatabase {
  const file = faultsNamed(options.path, () => readerOf(options.path));
  const reader = kyselyOver(file);
  return {
    dialect: "sqlite",
    reader,
    writer: reader,
    begin: "begin",
    storageFault: (thrown) => sqliteFault(thrown, options.path),
    claim: () => Promise.resolve(),
    isTransient: () => false,
    close: () => {
      file.close();
      return Promise.resolve();
    },
  };
}

function openBoth(options: SqliteOptions): [DatabaseSync, DatabaseSync] {
  return faultsNamed(options.path, () => {
    const writer = new DatabaseSync(options.path, { timeout: BUSY_TIMEOUT_MS });
    for (const pragma of PRAGMAS) writer.exec(pragma);
    if (options.fileBytesMax != null) limitFile(writer, options.fileBytesMax);
    return [writer, readerOf(options.path)];
  });
}

function readerOf(path: string): DatabaseSync {
  const reader = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  reader.exec("pragma query_only = on");
  return reader;
}

function faultsNamed<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (cause) {
    throw sqliteFault(cause, path) ?? cause;
  }
}

function limitFile(file: DatabaseSync, bytesMax: number): void {
  const row = file.prepare("pragma page_size").get();
  const pageBytes = Number(row?.["page_size"]);
  file.exec(`pragma max_page_count = ${Math.max(1, Math.floor(bytesMax / pageBytes))}`);
}

function kyselyOver(file: DatabaseSync): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: new SqliteDialect({ database: new NodeSqlite(file) }) });
}

/** Kysely's SQLite port over node:sqlite, with a bounded cache of prepared statements. */
class NodeSqlite implements SqliteDatabase {
  readonly #file: DatabaseSync;
  readonly #statements = new Map<string, Statement>();

  constructor(file: DatabaseSync) {
    this.#file = file;
  }

  prepare(text: string): SqliteStatement {
    const known = this.#statements.get(text);
    if (known !== undefined) return known;
    const statement = new Statement(this.#file.prepare(text));
    if (this.#statements.size >= STATEMENTS_KEPT_MAX) {
      const [oldest] = this.#statements.keys();
      if (oldest !== undefined) this.#statements.delete(oldest);
    }
    this.#statements.set(text, statement);
    return statement;
  }

  close(): void {
    this.#statements.clear();
    this.#file.close();
  }
}

class Statement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: StatementSync;

  constructor(statement: StatementSync) {
    this.#statement = statement;
    this.reader = statement.columns().length > 0;
  }

  all(values: readonly unknown[]): unknown[] {
    return this.#statement.all(...bindable(values));
  }

  run(values: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#statement.run(...bindable(values));
  }

  *iterate(values: readonly unknown[]): IterableIterator<unknown> {
    yield* this.#statement.iterate(...bindable(values));
  }
}

/** node:sqlite takes a leading object as named parameters and shifts the rest without an error: objects are refused. */
function bindable(values: readonly unknown[]): SQLInputValue[] {
  return values.map((value, index) => {
    if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "bigint") {
      return value;
    }
    if (value instanceof Uint8Array) return value;
    throw new TypeError(`parameter ${index + 1} of a statement is text, a number, bytes or null, not ${typeof value}`);
  });
}

/** Primary result codes of SQLite (https://sqlite.org/rescode.html) at which the storage, not the statement, failed. */
const FAULTS: Readonly<Record<number, { readonly code: string; readonly what: string }>> = {
  5: { code: "store-unavailable", what: "is locked by another process" },
  6: { code: "store-unavailable", what: "is locked by another connection" },
  7: { code: "store-unavailable", what: "needs more memory than there is" },
  8: { code: "store-unavailable", what: "is read-only" },
  10: { code: "store-unavailable", what: "could not be read or written" },
  11: { code: "store-corrupt", what: "is damaged: restore it from a backup" },
  13: { code: "disk-full", what: "cannot grow: the disk, or its allowed size, is full" },
  14: { code: "store-unavailable", what: "could not be opened" },
  26: { code: "store-corrupt", what: "is not a SQLite database" },
};

function sqliteFault(thrown: unknown, path: string): FallowError | null {
  if (!(thrown instanceof Error) || !("errcode" in thrown) || typeof thrown.errcode !== "number") return null;
  const fault = FAULTS[thrown.errcode & 0xff];
  if (fault === undefined) return null;
  return new FallowError(fault.code, `the database ${path} ${fault.what}`, {
    data: { path, sqliteCode: thrown.errcode },
    cause: thrown,
  });
}
