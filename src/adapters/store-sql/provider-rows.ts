/** Cloud providers. What a row holds is read with a schema that drops what it does not know, so that no secret could lie in one unseen. */
import type { Selectable } from "kysely";
import type { ProviderSpec } from "../../domain/provider.ts";
import type { ProviderStore } from "../../ports/store.ts";
import { providerSpecSchema } from "../../wire/provider-spec.ts";
import type { Tx } from "./database.ts";
import { fromJsonColumn } from "./row-text.ts";
import type { ProviderTable } from "./tables.ts";

export class ProviderRows implements ProviderStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async put(spec: ProviderSpec): Promise<void> {
    // Only what the schema knows is written, whatever else an object carries.
    const spec_json = JSON.stringify(providerSpecSchema.parse(spec));
    const row: ProviderTable = { provider_id: spec.providerId, spec_json, added_at_ms: spec.addedAtMs };
    await this.#tx.write((connection) =>
      connection
        .insertInto("providers")
        .values(row)
        .onConflict((conflict) =>
          conflict.column("provider_id").doUpdateSet({ spec_json, added_at_ms: spec.addedAtMs }),
        )
        .execute(),
    );
  }

  async get(providerId: string): Promise<ProviderSpec | null> {
    const query = this.#tx.reader.selectFrom("providers").selectAll().where("provider_id", "=", providerId);
    const row = await query.executeTakeFirst();
    return row === undefined ? null : specOf(row);
  }

  async list(): Promise<readonly ProviderSpec[]> {
    const rows = await this.#tx.reader.selectFrom("providers").selectAll().orderBy("provider_id").execute();
    return rows.map(specOf);
  }

  remove(providerId: string): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const result = await connection.deleteFrom("providers").where("provider_id", "=", providerId).executeTakeFirst();
      return result.numDeletedRows > 0n;
    });
  }
}

function specOf(row: Selectable<ProviderTable>): ProviderSpec {
  return fromJsonColumn({ name: "providers.spec_json", text: row.spec_json, schema: providerSpecSchema });
}
