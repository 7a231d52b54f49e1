/**
 * Group commit. A durable commit costs a wait for the disk (0.2 ms on a virtual disk, several on a real one), whatever is in
 * it. So writes that are asked for in one turn of the event loop share one transaction: each runs inside a savepoint of its
 * own, and all are acknowledged after the one commit. A write that fails is rolled back to its savepoint and alone gets its
 * error. When the storage fails, the whole group is rolled back and every writer gets the fault: nothing was acknowledged.
 *
 * Not handled: a connection that breaks during the commit leaves it open whether the group is durable. Every write of
 * money is idempotent by its ids, so the caller may ask again.
 */
import { sql } from "kysely";
import { FallowError } from "../../domain/fault.ts";
import type { SqlDatabase, WriteConnection } from "./database.ts";

/** As many writes as wait behind a slow disk before more are refused: some seconds of a busy coordinator. */
const QUEUED_WRITES_MAX = 20_000;
/** Writes in one transaction: bounds how long the first of a group waits for the last. */
const GROUP_WRITES_MAX = 256;
/** A transaction that lost to another one of the same database server is run again this often. */
const GROUP_TRIES_MAX = 5;

interface QueuedWrite {
  run(connection: WriteConnection): Promise<void>;
  resolve(): void;
  reject(cause: unknown): void;
}

export class WriteQueue {
  readonly #database: SqlDatabase;
  #queue: QueuedWrite[] = [];
  #isDraining = false;
  #closed: (() => void) | null = null;
  #isClosing = false;

  constructor(database: SqlDatabase) {
    this.#database = database;
  }

  write<T>(work: (connection: WriteConnection) => Promise<T>): Promise<T> {
    if (this.#isClosing) return Promise.reject(new FallowError("store-closed", "the store was closed"));
    if (this.#queue.length >= QUEUED_WRITES_MAX) {
      return Promise.reject(
        new FallowError(
          "store-overloaded",
          `${this.#queue.length} writes wait for the database, which is the most allowed`,
        ),
      );
    }
    return new Promise<T>((resolve, reject) => {
      let outcome: { readonly value: T } | null = null;
      this.#queue.push({
        run: async (connection) => {
          outcome = { value: await work(connection) };
        },
        resolve: () => {
          if (outcome !== null) resolve(outcome.value);
        },
        reject,
      });
      this.#schedule();
    });
  }

  /** Refuses more writes and resolves when those that were accepted have ended. */
  close(): Promise<void> {
    this.#isClosing = true;
    if (!this.#isDraining) return Promise.resolve();
    return new Promise((resolve) => {
      this.#closed = resolve;
    });
  }

  #schedule(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    // After the poll phase: everything that this turn still asks for joins the group.
    setImmediate(() => void this.#drain());
  }

  /** One group for each turn: writers that ask again at once must not keep the event loop from everything else. */
  async #drain(): Promise<void> {
    await this.#commitGroup(this.#queue.splice(0, GROUP_WRITES_MAX));
    this.#isDraining = false;
    if (this.#queue.length > 0) this.#schedule();
    else this.#closed?.();
  }

  /** Settles every write of the group; never rejects. */
  async #commitGroup(group: readonly QueuedWrite[]): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        const failed = await this.#database.writer
          .connection()
          .execute((connection) => runGroup(connection, this.#database, group));
        for (const write of group) {
          const failure = failed.get(write);
          if (failure === undefined) write.resolve();
          else write.reject(failure.cause);
        }
        return;
      } catch (cause) {
        if (this.#database.isTransient(cause) && tries < GROUP_TRIES_MAX) continue;
        const fault = this.#database.storageFault(cause) ?? unknownFault(cause);
        for (const write of group) write.reject(fault);
        return;
      }
    }
  }
}

/** Resolves when the group is committed, with the writes that failed on their own; rejects when the storage failed. */
async function runGroup(
  connection: WriteConnection,
  database: SqlDatabase,
  group: readonly QueuedWrite[],
): Promise<ReadonlyMap<QueuedWrite, { readonly cause: unknown }>> {
  const failed = new Map<QueuedWrite, { readonly cause: unknown }>();
  const run = (statement: string) => sql.raw(statement).execute(connection);
  await run(database.begin);
  try {
    for (const write of group) {
      await run("savepoint one_write");
      try {
        await write.run(connection);
      } catch (cause) {
        if (database.storageFault(cause) !== null || database.isTransient(cause)) throw cause;
        failed.set(write, { cause });
        await run("rollback to savepoint one_write");
      }
      await run("release savepoint one_write");
    }
    await run("commit");
  } catch (cause) {
    // After a full disk or a lost connection the transaction may be gone already; the cause is what counts.
    await run("rollback").catch(() => undefined);
    throw cause;
  }
  return failed;
}

function unknownFault(cause: unknown): FallowError {
  return new FallowError("store-unavailable", "the database failed in an unexpected way", { cause });
}
