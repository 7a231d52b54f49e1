/**
 * What the table groups need of a database, whichever it is: a place to read from, and one connection that writes.
 * Writes never run anywhere else (write-queue.ts), so two of them cannot interleave.
 */
import type { Kysely } from "kysely";
import type { FallowError } from "../../domain/fault.ts";
import type { LedgerRefusal, Transfer } from "../../domain/ledger.ts";
import type { SettledPart, Settlement } from "../../ports/store.ts";
import type { Dialect } from "./migrations/migration.ts";
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

export interface MoneyWrite {
  readonly transfers: readonly Transfer[];
  /** Written with a leaf of its own, once for each request; null when only transfers are applied. */
  readonly receipt: Settlement["receipt"] | null;
  readonly parts?: readonly SettledPart[];
}

export type MoneyOutcome =
  | { readonly ok: true; readonly isReplay: boolean; readonly leafIndex: number | null }
  | { readonly ok: false; readonly reason: LedgerRefusal };

export interface Tx {
  /** Runs the write in a transaction, all or nothing; resolves when it is durable. */
  write<T>(work: (connection: WriteConnection) => Promise<T>): Promise<T>;
  /** Applies transfers, and with them a receipt, all or nothing; those of one moment are carried out together. */
  money(write: MoneyWrite): Promise<MoneyOutcome>;
  readonly reader: Kysely<Tables>;
}
