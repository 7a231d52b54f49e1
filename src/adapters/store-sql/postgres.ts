/**
 * PostgreSQL through pg: a pool reads, one connection writes. The writing connection holds an advisory lock for as long as it
 * lives, so at most one coordinator writes to a database, and its writes need no further locks.
 *
 * When that connection is lost, the next write opens another and takes the lock again; if a different coordinator worked on
 * the database in between (its mark in `meta` tells), every later write is refused, because what this one remembers is stale.
 */
import { randomUUID } from "node:crypto";
import { Kysely, PostgresDialect } from "kysely";
import { type ClientBase, DatabaseError, Pool, type PoolConfig, types } from "pg";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { SqlDatabase } from "./database.ts";
import type { Tables } from "./tables.ts";

/** "fallow" in ASCII: advisory locks are told apart by number within one database. */
const LOCK_KEY = 0x66616c6c6f77;
/** A killed coordinator's session ends when the server notices the closed socket: at once on one machine, soon elsewhere. */
const LOCK_WAIT_MS = 5_000;
const LOCK_RETRY_MS = 100;
/** Reads at one time; more wait in the pool. */
const READERS_MAX = 8;
const CONNECT_TIMEOUT_MS = 10_000;
/** A server that does not answer for so long is treated as gone. */
const QUERY_TIMEOUT_MS = 30_000;
const OWNER = "store.owner";
const INT8_OID = 20;

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`; a socket directory as `?host=/run/postgresql`. */
  readonly url: string;
  /** How long to wait for another coordinator to let go; default `LOCK_WAIT_MS`. */
  readonly lockWaitMs?: number;
}

export async function openPostgres(options: PostgresOptions): Promise<SqlDatabase> {
  const place = placeOf(options.url);
  const owner = new Ownership({ place, lockWaitMs: options.lockWaitMs ?? LOCK_WAIT_MS });
  const shared: PoolConfig = {
    connectionString: options.url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
    application_name: "fallow",
    types: { getTypeParser: parserOf },
  };
  const readers = new Pool({ ...shared, max: READERS_MAX });
  // No idle timeout: the lock lives as long as this connection.
  const writers = new Pool({ ...shared, max: 1, idleTimeoutMillis: 0, onConnect: (client) => owner.take(client) });
  // A connection that breaks, idle or between two statements of a transaction, is reported by its next statement; without a
  // listener the same error would end the process.
  for (const pool of [readers, writers]) {
    pool.on("error", () => undefined);
    pool.on("connect", (client) => client.on("error", () => undefined));
  }
  const storageFault = (thrown: unknown) => postgresFault(thrown, place);
  const close = async () => {
    await Promise.all([readers.end(), writers.end()]);
  };
  try {
    const client = await writers.connect();
    client.release();
  } catch (cause) {
    await close();
    throw storageFault(cause) ?? cause;
  }
  return {
    dialect: "postgres",
    reader: new Kysely<Tables>({ dialect: new PostgresDialect({ pool: readers }) }),
    writer: new Kysely<Tables>({ dialect: new PostgresDialect({ pool: writers }) }),
    begin: "begin",
    storageFault,
    claim: async () => {
      const client = await writers.connect();
      try {
        await owner.leaveMark(client);
      } finally {
        client.release();
      }
    },
    isTransient: (thrown) => thrown instanceof DatabaseError && (thrown.code === "40001" || thrown.code === "40P01"),
    close,
  };
}

/** Keeps this coordinator the only writer, over reconnections. */
class Ownership {
  readonly #place: string;
  readonly #lockWaitMs: number;
  readonly #mark = randomUUID();
  #hasMark = false;

  constructor(options: { place: string; lockWaitMs: number }) {
    this.#place = options.place;
    this.#lockWaitMs = options.lockWaitMs;
  }

  async take(client: ClientBase): Promise<void> {
    await client.query("set synchronous_commit = on");
    const tries = Math.ceil(this.#lockWaitMs / LOCK_RETRY_MS);
    for (let tried = 0; ; tried++) {
      const { rows } = await client.query<{ taken: boolean }>("select pg_try_advisory_lock($1::bigint) as taken", [
        LOCK_KEY,
      ]);
      if (rows[0]?.taken === true) break;
      if (tried >= tries) throw this.#inUse("another coordinator works on it");
      await client.query("select pg_sleep($1)", [LOCK_RETRY_MS / 1_000]);
    }
    if (!this.#hasMark) return;
    const { rows } = await client.query<{ value: string }>("select value from meta where name = $1", [OWNER]);
    if (rows[0]?.value !== this.#mark)
      throw this.#inUse("another coordinator took it over while the connection was lost");
  }

  async leaveMark(client: ClientBase): Promise<void> {
    await client.query(
      "insert into meta (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value",
      [OWNER, this.#mark],
    );
    this.#hasMark = true;
  }

  #inUse(why: string): FallowError {
    return new FallowError(
      "store-in-use",
      `the database ${this.#place} is in use: ${why}. Stop the other coordinator, or give this one a database of its own (--database)`,
      { data: { place: this.#place } },
    );
  }
}

/** int8 as a number: pg gives text, because 64 bits do not fit. Ours do, and one that does not is a bug. */
function parserOf(oid: number, format?: "text" | "binary"): (text: string) => unknown {
  if (oid !== INT8_OID || format === "binary") return types.getTypeParser(oid, format);
  return (text) => {
    const value = Number(text);
    assert(Number.isSafeInteger(value), `${text} from the database is a safe integer`);
    return value;
  };
}

/** Host and database, for messages: never the password. */
function placeOf(url: string): string {
  try {
    const parsed = new URL(url);
    return `${parsed.searchParams.get("host") ?? parsed.host}${parsed.pathname}`;
  } catch (cause) {
    throw new FallowError(
      "store-url-invalid",
      "the database URL is not one: it looks like postgres://user:password@host:5432/database",
      { cause },
    );
  }
}

/** SQLSTATE classes at which the server, not the statement, failed. */
const SERVER_FAULTS = new Set(["08", "28", "3D", "53", "57", "58", "XX"]);

function postgresFault(thrown: unknown, place: string): FallowError | null {
  if (thrown instanceof FallowError) return thrown.code === "store-in-use" ? thrown : null;
  if (thrown instanceof DatabaseError) {
    const state = thrown.code ?? "";
    if (!SERVER_FAULTS.has(state.slice(0, 2))) return null;
    const isFull = state === "53100";
    return new FallowError(
      isFull ? "disk-full" : "store-unavailable",
      `the database ${place} ${isFull ? "cannot grow: its disk is full" : "refused"}`,
      { data: { place, sqlState: state }, cause: thrown },
    );
  }
  if (!(thrown instanceof Error) || !isConnectionError(thrown)) return null;
  return new FallowError("store-unavailable", `the database ${place} cannot be reached`, {
    data: { place },
    cause: thrown,
  });
}

/** Errors of the socket have a system's code; pg's own about a lost connection have only their words. */
function isConnectionError(error: Error): boolean {
  if ("code" in error && typeof error.code === "string" && /^E[A-Z]+$/.test(error.code)) return true;
  return /connection (terminated|ended|error)|terminat|timeout|not queryable|client was closed|password/i.test(
    error.message,
  );
}
