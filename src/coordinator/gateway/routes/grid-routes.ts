/** What a tenant may see of its own requests: receipts, usage, and the log's head. */
import type { Context, Hono } from "hono";
import { ID_PATTERNS, receiptId, requestId } from "../../../domain/ids.ts";
import { formatUsd } from "../../../domain/money.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import type { ReceiptRecord } from "../../../ports/store.ts";
import { errorResponse } from "../error-table.ts";
import type { GatewayState } from "../gateway-state.ts";
import { usageQuery, usageResponse } from "./usage-report.ts";

const RECEIPTS_MAX = 1_000;
const RECEIPTS_DEFAULT = 100;

export function addGridRoutes(app: Hono, state: GatewayState): void {
  const { store, settlement } = state.deps;
  const usage = state.gate.requireKey("usage");
  app.get("/v1/grid/checkpoint", usage, async () => {
    const headers = { "content-type": "text/plain; charset=utf-8", "x-grid-public-key": settlement.publicKeyHex };
    return new Response(await settlement.checkpoint(), { headers });
  });
  app.get("/v1/grid/receipts", usage, async (context) => {
    const limit = numberOf(context, { name: "limit", fallback: RECEIPTS_DEFAULT, max: RECEIPTS_MAX });
    if (typeof limit !== "number") return errorResponse(limit);
    const { tenantId } = state.gate.callerKey(context);
    const receipts = await store.receipts.list({ tenantId, limit });
    return context.json({ object: "list", data: receipts.map(receiptRow) });
  });
  app.get("/v1/grid/receipts/:id", usage, async (context) => {
    const id = context.req.param("id");
    const record = await findReceipt(state, id);
    if (record === null || record.tenantId !== state.gate.callerKey(context).tenantId) {
      return errorResponse(
        refuse("not-found", `there is no receipt ${JSON.stringify(id.slice(0, 64))} of this tenant`).reason,
      );
    }
    return context.json(await settlement.signedReceipt(record.receiptId));
  });
  app.get("/v1/grid/usage", usage, async (context) => {
    const asked = usageQuery((name) => context.req.query(name), {
      accept: context.req.header("accept"),
      nowMs: Math.floor(state.deps.clock.wallMs()),
      fallback: ["day", "key", "model", "tier", "provider"],
    });
    if (!asked.ok) return errorResponse(asked.reason);
    const { tenantId } = state.gate.callerKey(context);
    const { fromMs, toMs } = asked.value;
    return usageResponse(await store.receipts.usage({ tenantId, fromMs, toMs }), asked.value);
  });
}

/** By its own id, or by the request's (`x-request-id`): the only one a stream's headers can carry. */
async function findReceipt(state: GatewayState, id: string): Promise<ReceiptRecord | null> {
  const { receipts } = state.deps.store;
  if (ID_PATTERNS.receipt.test(id)) return await receipts.get(receiptId(id));
  if (ID_PATTERNS.request.test(id)) return await receipts.byRequest(requestId(id));
  return null;
}

function receiptRow(record: ReceiptRecord) {
  return {
    id: record.receiptId,
    object: "grid.receipt",
    request_id: record.requestId,
    key_id: record.keyId,
    model: record.modelId,
    service_tier: record.tier,
    prompt_tokens: record.promptTokens,
    completion_tokens: record.outputTokens,
    cost_usd: formatUsd(record.costMicroUsd),
    created: Math.floor(record.createdAtMs / 1000),
    leaf_index: record.leafIndex,
  };
}

function numberOf(context: Context, query: { name: string; fallback: number; max: number }): number | Refusal {
  const given = context.req.query(query.name);
  if (given === undefined) return query.fallback;
  const value = Number(given);
  if (Number.isSafeInteger(value) && value >= 0 && value <= query.max) return value;
  return refuse(
    "invalid-request",
    `'${query.name}' is ${JSON.stringify(given.slice(0, 40))}; a whole number from 0 to ${query.max} is taken`,
    {
      param: query.name,
    },
  ).reason;
}
