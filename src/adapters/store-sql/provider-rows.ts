/** Cloud providers. What a row holds is read with a schema that drops what it does not know, so that no secret could lie in one unseen. */
import type { Selectable } from "kysely";
import { z } from "zod";
import { ID_PATTERNS, modelId } from "../../domain/ids.ts";
import { PROVIDER_ID_PATTERN, type ProviderModel, type ProviderSpec } from "../../domain/provider.ts";
import type { ProviderStore } from "../../ports/store.ts";
import type { Tx } from "./database.ts";
import { fromJsonColumn } from "./row-text.ts";
import type { ProviderTable } from "./tables.ts";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const price = z.object({ inputMicroUsdPerMtok: count, outputMicroUsdPerMtok: count });

const modelSchema: z.ZodType<ProviderModel> = z.object({
  modelId: z.string().regex(ID_PATTERNS.model).transform(modelId),
  upstreamModel: z.string(),
  cost: price,
  price,
  contextTokensMax: count,
  outputTokensMax: count.nullable(),
  quantisation: z.string().nullable(),
  abilities: z
    .object({
      streams: z.boolean(),
      reportsUsage: z.boolean(),
      tools: z.boolean(),
      jsonSchema: z.boolean(),
      logprobs: z.boolean(),
      seed: z.boolean(),
      rawPrompt: z.boolean(),
      continuesAssistant: z.boolean(),
      wantsContinueFlag: z.boolean().exactOptional(),
      tokensField: z.enum(["max_tokens", "max_completion_tokens"]).exactOptional(),
      probedAtMs: count,
    })
    .nullable(),
});

const specSchema: z.ZodType<ProviderSpec> = z.object({
  providerId: z.string().regex(PROVIDER_ID_PATTERN),
  name: z.string(),
  baseUrl: z.string(),
  credential: z
    .discriminatedUnion("kind", [
      z.object({ kind: z.literal("environment"), variable: z.string() }),
      z.object({ kind: z.literal("secret"), name: z.string() }),
    ])
    .nullable(),
  regions: z.array(z.string()),
  dataPolicy: z.object({ collectsData: z.boolean(), isZeroRetention: z.boolean() }),
  requestsPerMinuteMax: count.nullable(),
  tokensPerMinuteMax: count.nullable(),
  concurrencyMax: count,
  models: z.array(modelSchema),
  isEnabled: z.boolean(),
  addedAtMs: count,
});

export class ProviderRows implements ProviderStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async put(spec: ProviderSpec): Promise<void> {
    // Only what the schema knows is written, whatever else an object carries.
    const spec_json = JSON.stringify(specSchema.parse(spec));
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
  return fromJsonColumn({ name: "providers.spec_json", text: row.spec_json, schema: specSchema });
}
