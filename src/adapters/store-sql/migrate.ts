/**
 * Migrations run forward only, at opening, each in one transaction with its row in `migrations`. A row keeps the digest of
 * the statements that ran, so that an edited migration is noticed; a database from a newer program is refused, because an
 * older one does not know what its rows mean.
 */
import { createHash } from "node:crypto";
import { type Kysely, sql } from "kysely";
import { z } from "zod";
import { FallowError } from "../../domain/fault.ts";
import { first } from "./migrations/0001-first.ts";
import { leases } from "./migrations/0002-leases.ts";
import { budgets } from "./migrations/0003-budgets.ts";
import { providers } from "./migrations/0004-providers.ts";
import { batches } from "./migrations/0005-batches.ts";
import { responses } from "./migrations/0006-responses.ts";
import type { Dialect, Migration } from "./migrations/migration.ts";

/** A released migration is never edited: a change is a new file. */
export const MIGRATIONS: readonly Migration[] = [first, leases, budgets, providers, batches, responses];

const appliedSchema = z.object({ version: z.number().int(), name: z.string(), sha256: z.string() });

/** `connection` is one connection of its own. Resolves with how many migrations were applied. */
export async function migrate<DB>(
  connection: Kysely<DB>,
  options: { dialect: Dialect; begin: string; nowMs: number; migrations?: readonly Migration[] },
): Promise<number> {
  const migrations = options.migrations ?? MIGRATIONS;
  await run(connection, options.begin);
  try {
    await run(
      connection,
      "create table if not exists migrations (version bigint primary key, name text not null, sha256 text not null, applied_at_ms bigint not null)",
    );
    const rows = await sql`select version, name, sha256 from migrations order by version`.execute(connection);
    const applied = rows.rows.map((row) => appliedSchema.parse(row));
    assertKnown(applied, migrations, options.dialect);
    const pending = migrations.slice(applied.length);
    for (const migration of pending) {
      const statements = migration.statements(options.dialect);
      for (const statement of statements) await run(connection, statement);
      const { version, name } = migration;
      await sql`insert into migrations (version, name, sha256, applied_at_ms)
        values (${version}, ${name}, ${digestOf(statements)}, ${options.nowMs})`.execute(connection);
    }
    await run(connection, "commit");
    return pending.length;
  } catch (cause) {
    // The rollback only frees the connection; the cause is what the caller needs, even if the connection is gone too.
    await run(connection, "rollback").catch(() => undefined);
    throw cause;
  }
}

function assertKnown(
  applied: readonly z.infer<typeof appliedSchema>[],
  migrations: readonly Migration[],
  dialect: Dialect,
): void {
  for (const [index, row] of applied.entries()) {
    const migration = migrations[index];
    if (migration === undefined) {
      throw new FallowError(
        "store-newer-than-code",
        `the database has migration ${row.version} (${row.name}), this program knows ${migrations.length}: run the newer Fallow that wrote it`,
        { data: { databaseVersion: applied.length, codeVersion: migrations.length } },
      );
    }
    if (migration.version !== row.version || digestOf(migration.statements(dialect)) !== row.sha256) {
      throw new FallowError(
        "store-migration-differs",
        `migration ${row.version} (${row.name}) ran with other statements than this program's migration ${migration.version} (${migration.name}): this database belongs to another build of Fallow`,
        { data: { version: row.version } },
      );
    }
  }
}

function digestOf(statements: readonly string[]): string {
  return createHash("sha256").update(statements.join(";\n")).digest("hex");
}

async function run<DB>(connection: Kysely<DB>, statement: string): Promise<void> {
  await sql.raw(statement).execute(connection);
}
