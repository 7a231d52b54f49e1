import type { MetaStore } from "../../ports/store.ts";
import type { Tx, WriteConnection } from "./database.ts";

export class MetaRows implements MetaStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  get(name: string): Promise<string | null> {
    return readValue(this.#tx.reader, name);
  }

  async set(name: string, value: string): Promise<void> {
    await this.#tx.write((connection) => put(connection, { name, value }));
  }

  increment(name: string): Promise<number> {
    return this.#tx.write(async (connection) => {
      const next = Number((await readValue(connection, name)) ?? "0") + 1;
      await put(connection, { name, value: String(next) });
      return next;
    });
  }
}

async function readValue(connection: WriteConnection, name: string): Promise<string | null> {
  const row = await connection.selectFrom("meta").select("value").where("name", "=", name).executeTakeFirst();
  return row?.value ?? null;
}

async function put(connection: WriteConnection, row: { name: string; value: string }): Promise<void> {
  await connection
    .insertInto("meta")
    .values(row)
    .onConflict((conflict) => conflict.column("name").doUpdateSet({ value: row.value }))
    .execute();
}
