/** What is known of tenants' files. */
import type { Selectable } from "kysely";
import { type FileId, fileId, type TenantId, tenantId } from "../../domain/ids.ts";
import type { FilePage, FileRecord, FileStore } from "../../ports/batch-store.ts";
import type { FileTable } from "./batch-tables.ts";
import type { Tx } from "./database.ts";

export class FileRows implements FileStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async create(file: FileRecord): Promise<void> {
    await this.#tx.write((connection) =>
      connection
        .insertInto("files")
        .values({
          file_id: file.fileId,
          tenant_id: file.tenantId,
          purpose: file.purpose,
          filename: file.filename,
          bytes: file.bytes,
          created_at_ms: file.createdAtMs,
          expires_at_ms: file.expiresAtMs,
        })
        .onConflict((conflict) => conflict.column("file_id").doNothing())
        .execute(),
    );
  }

  async get(id: FileId): Promise<FileRecord | null> {
    const row = await this.#tx.reader.selectFrom("files").selectAll().where("file_id", "=", id).executeTakeFirst();
    return row === undefined ? null : recordFrom(row);
  }

  async list({ tenantId: tenant, purpose, after, limit, order }: FilePage): Promise<readonly FileRecord[]> {
    let query = this.#tx.reader.selectFrom("files").selectAll().where("tenant_id", "=", tenant);
    if (purpose !== null) query = query.where("purpose", "=", purpose);
    if (after !== null) query = query.where("file_id", order === "asc" ? ">" : "<", after);
    const rows = await query.orderBy("file_id", order).limit(limit).execute();
    return rows.map(recordFrom);
  }

  remove(id: FileId): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const result = await connection.deleteFrom("files").where("file_id", "=", id).executeTakeFirst();
      return Number(result.numDeletedRows) > 0;
    });
  }

  async bytesOf(tenant: TenantId): Promise<number> {
    const row = await this.#tx.reader
      .selectFrom("files")
      .select((select) => select.fn.sum<number | string | null>("bytes").as("bytes"))
      .where("tenant_id", "=", tenant)
      .executeTakeFirst();
    return Number(row?.bytes ?? 0);
  }

  async countOf(tenant: TenantId): Promise<number> {
    const row = await this.#tx.reader
      .selectFrom("files")
      .select((select) => select.fn.countAll<number | string>().as("files"))
      .where("tenant_id", "=", tenant)
      .executeTakeFirst();
    return Number(row?.files ?? 0);
  }

  async expired({ nowMs, limit }: { nowMs: number; limit: number }): Promise<readonly FileRecord[]> {
    const rows = await this.#tx.reader
      .selectFrom("files")
      .selectAll()
      .where("expires_at_ms", "<=", nowMs)
      .orderBy("expires_at_ms")
      .orderBy("file_id")
      .limit(limit)
      .execute();
    return rows.map(recordFrom);
  }
}

function recordFrom(row: Selectable<FileTable>): FileRecord {
  return {
    fileId: fileId(row.file_id),
    tenantId: tenantId(row.tenant_id),
    purpose: row.purpose,
    filename: row.filename,
    bytes: row.bytes,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
  };
}
