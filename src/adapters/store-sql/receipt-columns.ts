/** Receipts between domain and table. */
import type { Selectable } from "kysely";
import { z } from "zod";
import { keyId, modelId, receiptId, requestId, sha256Hex, tenantId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import { dayOf } from "../../market/usage-day.ts";
import type { ReceiptRecord } from "../../ports/store.ts";
import type { ReceiptTable } from "./tables.ts";

export const tierSchema = z.enum(SERVICE_TIERS);

export function recordOf(row: Selectable<ReceiptTable>): ReceiptRecord {
  return {
    receiptId: receiptId(row.receipt_id),
    requestId: requestId(row.request_id),
    tenantId: tenantId(row.tenant_id),
    keyId: keyId(row.key_id),
    modelId: modelId(row.model_id),
    tier: tierSchema.parse(row.tier),
    promptTokens: row.prompt_tokens,
    outputTokens: row.output_tokens,
    costMicroUsd: microUsd(row.cost_micro_usd),
    createdAtMs: row.created_at_ms,
    bodyJson: row.body_json,
    leafSha256: sha256Hex(row.leaf_sha256),
    leafIndex: row.leaf_index,
  };
}

export function receiptRow(receipt: ReceiptRecord): ReceiptTable {
  return {
    leaf_index: receipt.leafIndex,
    receipt_id: receipt.receiptId,
    request_id: receipt.requestId,
    tenant_id: receipt.tenantId,
    key_id: receipt.keyId,
    model_id: receipt.modelId,
    tier: receipt.tier,
    prompt_tokens: receipt.promptTokens,
    output_tokens: receipt.outputTokens,
    cost_micro_usd: receipt.costMicroUsd,
    created_at_ms: receipt.createdAtMs,
    day: dayOf(receipt.createdAtMs),
    body_json: receipt.bodyJson,
    leaf_sha256: receipt.leafSha256,
  };
}
