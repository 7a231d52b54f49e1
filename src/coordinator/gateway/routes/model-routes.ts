/** `/v1/models`, in OpenAI's shape, and in Anthropic's for who sends `anthropic-version`. */
import type { Context, Hono } from "hono";
import { ID_PATTERNS, type ModelId, modelId } from "../../../domain/ids.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import type { ApiKey } from "../../../ports/store.ts";
import { errorResponse } from "../error-table.ts";
import type { GatewayState } from "../gateway-state.ts";
import { anthropicModel, anthropicModelPage } from "../messages/anthropic-models.ts";
import { anthropicErrors } from "../messages/message-errors.ts";
import { cloudEntry, cloudListing, cloudListings, cloudSummary } from "./cloud-model-list.ts";
import { modelEntry } from "./model-list.ts";

export function addModelRoutes(app: Hono, state: GatewayState): void {
  const { models, cloud } = state.deps;
  const isOnGrid = (id: ModelId) => models.get(id) !== null;
  const inference = state.gate.requireKey("inference");
  const theirErrors = anthropicErrors((request) => state.exchanges.ofRequest(request).requestId);
  // Matches the path without an ending, too.
  app.use("/v1/models/*", async (context, next) => {
    if (isAnthropic(context)) return await theirErrors(context, next);
    return await next();
  });
  app.get("/v1/models", inference, (context) => {
    const key = state.gate.callerKey(context);
    const open = models.list().filter((manifest) => isOpenTo(key, manifest.modelId));
    const inCloud = cloudListings(cloud, isOnGrid).filter((listing) => isOpenTo(key, listing.modelId));
    if (!isAnthropic(context)) {
      const data = [...open.map((manifest) => modelEntry(manifest, models)), ...inCloud.map(cloudEntry)];
      return context.json({ object: "list", data });
    }
    const all = [...open, ...inCloud.map(cloudSummary)].sort((a, b) => (a.modelId < b.modelId ? -1 : 1));
    const page = anthropicModelPage(all, (name) => context.req.query(name));
    return page.ok ? context.json(page.value) : errorResponse(page.reason);
  });
  // Model ids may hold slashes.
  app.get("/v1/models/:id{.+}", inference, (context) => {
    const id = context.req.param("id");
    const key = state.gate.callerKey(context);
    const known = ID_PATTERNS.model.test(id) && isOpenTo(key, id) ? modelId(id) : null;
    const manifest = known === null ? null : (models.get(known)?.manifest ?? null);
    if (manifest !== null) {
      return context.json(isAnthropic(context) ? anthropicModel(manifest) : modelEntry(manifest, models));
    }
    const listing = known === null ? null : cloudListing(cloud, known, isOnGrid);
    if (listing === null) return errorResponse(unknownModel(id));
    return context.json(isAnthropic(context) ? anthropicModel(cloudSummary(listing)) : cloudEntry(listing));
  });
}

function isAnthropic(context: Context): boolean {
  return context.req.header("anthropic-version") !== undefined;
}

function isOpenTo(key: ApiKey, id: string): boolean {
  return key.models === null || key.models.some((allowed) => allowed === id);
}

function unknownModel(id: string): Refusal {
  return refuse("model-not-found", `model ${JSON.stringify(id.slice(0, 128))} is not served by this grid`, {
    param: "model",
  }).reason;
}
