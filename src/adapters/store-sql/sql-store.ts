/**
 * The Store port over SQL. Reads see what was committed; writes go through one queue that groups commits. The tables are in
 * migrations/, one file per table group holds their queries, and the two databases differ only in sqlite.ts and postgres.ts.
 */
import type { Store } from "../../ports/store.ts";
import { BatchRows } from "./batch-rows.ts";
import type { SqlDatabase, Tx } from "./database.ts";
import { FileRows } from "./file-rows.ts";
import { IdempotencyRows } from "./idempotency-rows.ts";
import { LeaseRows } from "./lease-rows.ts";
import { LedgerRows } from "./ledger-rows.ts";
import { MetaRows } from "./meta-rows.ts";
import { migrate } from "./migrate.ts";
import type { Migration } from "./migrations/migration.ts";
import { ModelRows } from "./model-rows.ts";
import { JoinTokenRows, NodeRows } from "./node-rows.ts";
import { openPostgres, type PostgresOptions } from "./postgres.ts";
import { ProviderRows } from "./provider-rows.ts";
import { ReceiptRows } from "./receipt-rows.ts";
import { ResponseRows } from "./response-rows.ts";
import { SpendingRows } from "./spending-rows.ts";
import { openSqlite, type SqliteOptions } from "./sqlite.ts";
import { KeyRows, TenantRows } from "./tenant-rows.ts";
import { WriteQueue } from "./write-queue.ts";

export class SqlStore implements Store {
  readonly meta: MetaRows;
  readonly tenants: TenantRows;
  readonly keys: KeyRows;
  readonly joinTokens: JoinTokenRows;
  readonly nodes: NodeRows;
  readonly models: ModelRows;
  readonly ledger: LedgerRows;
  readonly receipts: ReceiptRows;
  readonly idempotency: IdempotencyRows;
  readonly leases: LeaseRows;
  readonly spending: SpendingRows;
  readonly responses: ResponseRows;
  readonly providers: ProviderRows;
  readonly files: FileRows;
  readonly batches: BatchRows;
  readonly #database: SqlDatabase;
  readonly #queue: WriteQueue;
  #closing: Promise<void> | null = null;

  constructor(database: SqlDatabase) {
    this.#database = database;
    this.#queue = new WriteQueue(database);
    const tx: Tx = {
      reader: database.reader,
      write: (work) => this.#queue.write(work),
      money: (write) => this.#queue.money(write),
    };
    this.meta = new MetaRows(tx);
    this.tenants = new TenantRows(tx);
    this.keys = new KeyRows(tx);
    this.joinTokens = new JoinTokenRows(tx);
    this.nodes = new NodeRows(tx);
    this.models = new ModelRows(tx);
    this.ledger = new LedgerRows(tx);
    this.receipts = new ReceiptRows(tx);
    this.idempotency = new IdempotencyRows(tx);
    this.leases = new LeaseRows(tx, database.dialect);
    this.spending = new SpendingRows(tx);
    this.responses = new ResponseRows(tx);
    this.providers = new ProviderRows(tx);
    this.files = new FileRows(tx);
    this.batches = new BatchRows(tx, database.dialect);
  }

  /** Waits for the writes that were accepted. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#queue.close().then(() => this.#database.close());
    return this.#closing;
  }
}

interface OpeningOptions {
  readonly nowMs: number;
  /** Other than the program's own only in tests of migrating. */
  readonly migrations?: readonly Migration[];
}

/** Throws FallowError: `store-unavailable`, `store-corrupt`, `store-newer-than-code`, `store-migration-differs`. */
export function openSqliteStore(options: SqliteOptions & OpeningOptions): Promise<SqlStore> {
  return opened(openSqlite(options), options);
}

/** As `openSqliteStore`, and `store-in-use` while another coordinator works on this database. */
export async function openPostgresStore(options: PostgresOptions & OpeningOptions): Promise<SqlStore> {
  return opened(await openPostgres(options), options);
}

async function opened(database: SqlDatabase, options: OpeningOptions): Promise<SqlStore> {
  const { dialect, begin } = database;
  const { nowMs, migrations } = options;
  try {
    const migration = { dialect, begin, nowMs, ...(migrations === undefined ? {} : { migrations }) };
    await database.writer.connection().execute((connection) => migrate(connection, migration));
    await database.claim();
  } catch (cause) {
    await database.close();
    throw database.storageFault(cause) ?? cause;
  }
  return new SqlStore(database);
}
