/** Registered models. */
import type { Selectable } from "kysely";
import { z } from "zod";
import { ID_PATTERNS, type ModelId, modelId, sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { ModelRecord, ModelStore } from "../../ports/store.ts";
import type { Tx } from "./database.ts";
import { fromJsonColumn } from "./row-text.ts";
import type { ModelTable } from "./tables.ts";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const digest = z.string().regex(ID_PATTERNS.sha256).transform(sha256Hex);

const manifestSchema: z.ZodType<ModelManifest> = z.object({
  modelId: z.string().regex(ID_PATTERNS.model).transform(modelId),
  weightsSha256: digest,
  fileBytes: count,
  name: z.string(),
  architecture: z.string(),
  quantisation: z.string(),
  parameterCount: count,
  layerCount: count,
  embeddingLength: count,
  headCount: count,
  headCountKv: count,
  vocabSize: count,
  contextTokensMax: count,
  kvBytesPerToken: count,
  chatTemplate: z.string().nullable(),
  chatTemplateSha256: digest.nullable(),
  tokenizerSha256: digest,
  licence: z.string().nullable(),
  price: z.object({ inputMicroUsdPerMtok: count, outputMicroUsdPerMtok: count }),
  warmReplicas: count,
  addedAtMs: count,
  source: z.string().exactOptional(),
  draftModelId: z.string().regex(ID_PATTERNS.model).transform(modelId).exactOptional(),
});

export class ModelRows implements ModelStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async put(model: ModelRecord): Promise<void> {
    const row: ModelTable = {
      model_id: model.manifest.modelId,
      manifest_json: JSON.stringify(model.manifest),
      weights_path: model.weightsPath,
      added_at_ms: model.manifest.addedAtMs,
    };
    const { model_id: _, ...columns } = row;
    await this.#tx.write((connection) =>
      connection
        .insertInto("models")
        .values(row)
        .onConflict((conflict) => conflict.column("model_id").doUpdateSet(columns))
        .execute(),
    );
  }

  async get(id: ModelId): Promise<ModelRecord | null> {
    const row = await this.#tx.reader.selectFrom("models").selectAll().where("model_id", "=", id).executeTakeFirst();
    return row === undefined ? null : recordOf(row);
  }

  async list(): Promise<readonly ModelRecord[]> {
    const rows = await this.#tx.reader.selectFrom("models").selectAll().orderBy("model_id").execute();
    return rows.map(recordOf);
  }

  remove(id: ModelId): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const result = await connection.deleteFrom("models").where("model_id", "=", id).executeTakeFirst();
      return result.numDeletedRows > 0n;
    });
  }
}

function recordOf(row: Selectable<ModelTable>): ModelRecord {
  const manifest = fromJsonColumn({ name: "models.manifest_json", text: row.manifest_json, schema: manifestSchema });
  return { manifest, weightsPath: row.weights_path };
}
