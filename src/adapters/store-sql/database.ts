/**
 * What the table groups need of a database, whichever it is: a place to read from, and one connection that writes.
 * Writes never run anywhere else (write-queue.ts), so two of them cannot interleave.
 */
import type { Kysely } from "kysely";
import type { FallowError } from "../../domain/fault.ts";
import type { Dialect } from "./migrate.ts";
import type { MoneyOutcome, MoneyWrite } from "./money-batch.ts";
import type { Tables } from "./tables.ts";

export interface SqlDatabase {
  readonly dialect: Dialect;
  /** Sees only what was committed. */
  readonly reader: Kysely<Tables>;
  /** Has exactly one connection. */
  readonly writer: Kysely<Tables>;
  /** Starts a write transaction. */
  readonly begin: string;
  /** The fault when the storage itself failed (disk, connection); null when the statement was at fault. */
  storageFault(thrown: unknown): FallowError | null;
  /** Called once when the tables exist, before anything else is written. */
  claim(): Promise<void>;
  /** True when the same transaction may succeed when run again. */
  isTransient(thrown: unknown): boolean;
  close(): Promise<void>;
}

/** The connection inside a write. */
export type WriteConnection = Kysely<Tables>;

export interface Tx {
  /** Runs the write in a transaction, all or nothing; resolves when it is durable. */
  write<T>(work: (connection: WriteConnection) => Promise<T>): Promise<T>;
  /** Applies transfers, and with them a receipt, all or nothing; those of one moment are carried out together. */
  money(write: MoneyWrite): Promise<MoneyOutcome>;
  readonly reader: Kysely<Tables>;
}
