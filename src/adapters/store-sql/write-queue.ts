/**
 * Group commit. A durable commit costs a wait for the disk (0.2 ms on a virtual disk, several on a real one), whatever is in
 * it. So writes that are asked for in one turn of the event loop share one transaction: each unit of it runs inside a
 * savepoint, and all are acknowledged after the one commit. Money writes that stand next to each other are one unit and
 * are carried out together (money-batch.ts); any other write is a unit of its own.
 *
 * A write that fails is rolled back and alone gets its error. When the storage fails, the whole group is rolled back and
 * every writer gets the fault: nothing was acknowledged.
 *
 * Not handled: a connection that breaks during the commit leaves it open whether the group is durable. Every write of
 * money is idempotent by its ids, so the caller may ask again.
 */
import { sql } from "kysely";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { MoneyOutcome, MoneyWrite, SqlDatabase, WriteConnection } from "./database.ts";
import { BATCH_TRANSFERS_MAX, carryOut } from "./money-batch.ts";

/** As many writes as wait behind a slow disk before more are refused: some seconds of a busy coordinator. */
const QUEUED_WRITES_MAX = 20_000;
/** Writes in one transaction: bounds how long the first of a group waits for the last. */
const GROUP_WRITES_MAX = 256;
/** A transaction that lost to another one of the same database server is run again this often. */
const GROUP_TRIES_MAX = 5;

/** Tells the writer how it ended; called once, after the commit. */
type Acknowledge = () => void;

interface PlainWrite {
  readonly kind: "plain";
  run(connection: WriteConnection): Promise<Acknowledge>;
  reject(cause: unknown): void;
}
interface QueuedMoney {
  readonly kind: "money";
  readonly write: MoneyWrite;
  resolve(outcome: MoneyOutcome): void;
  reject(cause: unknown): void;
}
type QueuedWrite = PlainWrite | QueuedMoney;
type Unit = PlainWrite | { readonly kind: "money-unit"; readonly writes: readonly QueuedMoney[] };

export class WriteQueue {
  readonly #database: SqlDatabase;
  readonly #queue: QueuedWrite[] = [];
  #isDraining = false;
  #closed: (() => void) | null = null;
  #isClosing = false;

  constructor(database: SqlDatabase) {
    this.#database = database;
  }

  write<T>(work: (connection: WriteConnection) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = async (connection: WriteConnection): Promise<Acknowledge> => {
        const value = await work(connection);
        return () => resolve(value);
      };
      this.#enqueue({ kind: "plain", run, reject });
    });
  }

  money(write: MoneyWrite): Promise<MoneyOutcome> {
    return new Promise((resolve, reject) => this.#enqueue({ kind: "money", write, resolve, reject }));
  }

  /** Refuses more writes and resolves when those that were accepted have ended. */
  close(): Promise<void> {
    this.#isClosing = true;
    if (!this.#isDraining) return Promise.resolve();
    return new Promise((resolve) => {
      this.#closed = resolve;
    });
  }

  #enqueue(write: QueuedWrite): void {
    const fault = this.#refusal();
    if (fault !== null) {
      write.reject(fault);
      return;
    }
    this.#queue.push(write);
    this.#schedule();
  }

  #refusal(): FallowError | null {
    if (this.#isClosing) return new FallowError("store-closed", "the store was closed");
    if (this.#queue.length < QUEUED_WRITES_MAX) return null;
    return new FallowError(
      "store-overloaded",
      `${this.#queue.length} writes wait for the database, which is the most allowed`,
    );
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
    const units = unitsOf(group);
    for (let tries = 1; ; tries++) {
      try {
        const endings = await this.#database.writer
          .connection()
          .execute((connection) => runGroup(connection, this.#database, units));
        for (const acknowledge of endings) acknowledge();
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

/** In the order of the group, so that a write sees the effects of those asked for before it. */
function unitsOf(group: readonly QueuedWrite[]): readonly Unit[] {
  const units: Unit[] = [];
  let run: QueuedMoney[] = [];
  let transfers = 0;
  const endRun = () => {
    if (run.length > 0) units.push({ kind: "money-unit", writes: run });
    run = [];
    transfers = 0;
  };
  for (const write of group) {
    if (write.kind === "plain") {
      endRun();
      units.push(write);
      continue;
    }
    if (transfers + write.write.transfers.length > BATCH_TRANSFERS_MAX) endRun();
    run.push(write);
    transfers += write.write.transfers.length;
  }
  endRun();
  return units;
}

/** Resolves when the group is committed, with what to tell each writer; rejects when the storage failed. */
async function runGroup(
  connection: WriteConnection,
  database: SqlDatabase,
  units: readonly Unit[],
): Promise<readonly Acknowledge[]> {
  const run = (statement: string) => sql.raw(statement).execute(connection);
  await run(database.begin);
  try {
    const endings: Acknowledge[] = [];
    for (const unit of units) endings.push(...(await runUnit(connection, database, unit)));
    await run("commit");
    return endings;
  } catch (cause) {
    // After a full disk or a lost connection the transaction may be gone already; the cause is what counts.
    await run("rollback").catch(() => undefined);
    throw cause;
  }
}

async function runUnit(
  connection: WriteConnection,
  database: SqlDatabase,
  unit: Unit,
): Promise<readonly Acknowledge[]> {
  const run = (statement: string) => sql.raw(statement).execute(connection);
  await run("savepoint one_unit");
  try {
    const endings = unit.kind === "plain" ? [await unit.run(connection)] : await runMoney(connection, unit.writes);
    await run("release savepoint one_unit");
    return endings;
  } catch (cause) {
    if (database.storageFault(cause) !== null || database.isTransient(cause)) throw cause;
    await run("rollback to savepoint one_unit");
    await run("release savepoint one_unit");
    if (unit.kind === "plain") return [() => unit.reject(cause)];
    const [only, ...others] = unit.writes;
    if (only !== undefined && others.length === 0) return [() => only.reject(cause)];
    // A statement over all of them failed: one by one it shows whose fault that is.
    const endings: Acknowledge[] = [];
    for (const write of unit.writes) {
      endings.push(...(await runUnit(connection, database, { kind: "money-unit", writes: [write] })));
    }
    return endings;
  }
}

async function runMoney(connection: WriteConnection, writes: readonly QueuedMoney[]): Promise<readonly Acknowledge[]> {
  const results = await carryOut(
    connection,
    writes.map((queued) => queued.write),
  );
  return writes.map((queued, index) => {
    const result = results[index];
    assert(result !== undefined, "each write has its result");
    return "cause" in result ? () => queued.reject(result.cause) : () => queued.resolve(result.outcome);
  });
}

function unknownFault(cause: unknown): FallowError {
  return new FallowError("store-unavailable", "the database failed in an unexpected way", { cause });
}
