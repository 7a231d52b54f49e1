/** From a body that fits its schema to a plan: what is asked for, the model, and what of the grid it costs. Nothing is taken or held. */
import { assert } from "../../../domain/assert.ts";
import { ID_PATTERNS, modelId } from "../../../domain/ids.ts";
import type { ModelManifest } from "../../../domain/model.ts";
import type { TokenPrice } from "../../../domain/money.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ApiKey } from "../../../ports/store.ts";
import type { RouteDecision } from "../../../scheduler/tiers/route-question.ts";
import type { Exchange } from "../exchange.ts";
import type { GatewayState } from "../gateway-state.ts";
import type { Route, RouteBody, RouteMore, RoutePlan } from "../inference-routes.ts";
import { type CloudModel, cloudModel } from "../legs/cloud-model.ts";
import { type AskedTerms, askedTerms, type TermWords } from "./asked-terms.ts";
import type { PreparedModel } from "./prepared-model.ts";

export interface PlannedRequest {
  /** What of its body says how it is to run. */
  readonly words: TermWords;
  readonly asked: AskedTerms;
  readonly planned: RoutePlan;
  /** The grid's own model and what the tier costs; null where only cloud providers have it. */
  readonly onGrid: { readonly manifest: ModelManifest; readonly price: TokenPrice } | null;
}

export interface PlanRequest<Body> {
  readonly body: Body;
  readonly headers: Headers;
  readonly key: ApiKey;
  readonly exchange: Exchange;
}

export async function planRequest<Body extends RouteBody>(
  state: GatewayState,
  route: Route<Body>,
  { body, headers, key, exchange }: PlanRequest<Body>,
): Promise<Outcome<PlannedRequest>> {
  const asked = askedTerms(body, { headers, key });
  if (!asked.ok) return asked;
  const model = await routeModel(state, key, { name: body.model, inCloud: route.planCloud !== undefined });
  if (!model.ok) return model;
  exchange.modelId = model.value.manifest.modelId;
  const planned = await planOn(route, { body, model: model.value, more: { exchange, asked: asked.value } });
  if (!planned.ok) return planned;
  const onGrid = priceOnGrid(state, model.value, planned.value);
  return ok({ words: body, asked: asked.value, planned: planned.value, onGrid });
}

async function planOn<Body extends RouteBody>(
  route: Route<Body>,
  by: { body: Body; model: PreparedModel | CloudModel; more: RouteMore },
): Promise<Outcome<RoutePlan>> {
  const { body, model, more } = by;
  if (model.tokenizer !== null) return await route.plan(body, model, more);
  assert(route.planCloud !== undefined, "a model that only providers have comes to routes that take it");
  return await route.planCloud(body, model, more);
}

/** Null where only cloud providers have the model. */
function priceOnGrid(state: GatewayState, model: PreparedModel | CloudModel, { tier }: Pick<RoutePlan, "tier">) {
  if (model.tokenizer === null) return null;
  const { manifest } = model;
  return { manifest, price: state.deps.models.priceOf(manifest, tier) };
}

/** The grid's own model of that name; where it has none and the route takes it, that of cloud providers. */
async function routeModel(
  state: GatewayState,
  key: ApiKey,
  by: { readonly name: string; readonly inCloud: boolean },
): Promise<Outcome<PreparedModel | CloudModel>> {
  const served = await servedModel(state, key, by.name);
  if (served.ok || !by.inCloud || !mayUse(key, by.name)) return served;
  const { cloud, crypto } = state.deps;
  const offers = cloud?.offers(modelId(by.name)) ?? [];
  return offers.length === 0 ? served : ok(cloudModel(modelId(by.name), { offers, crypto }));
}

function mayUse(key: ApiKey, name: string): boolean {
  return ID_PATTERNS.model.test(name) && (key.models === null || key.models.includes(modelId(name)));
}

export async function servedModel(state: GatewayState, key: ApiKey, name: string): Promise<Outcome<PreparedModel>> {
  const isAllowed = mayUse(key, name);
  const served = isAllowed ? state.deps.models.get(modelId(name)) : null;
  if (served !== null) return ok(await state.prepared.prepare(served));
  const why = isAllowed ? "is not served by this grid" : "is not open to this API key";
  return refuse("model-not-found", `model ${JSON.stringify(name)} ${why}; GET /v1/models lists those that are`, {
    param: "model",
  });
}

/** Of the tokens of a model that only providers have: there is nothing of the grid to be priced, so that of whoever is first. */
export function cloudPrice(decision: RouteDecision | null): TokenPrice {
  const first = decision?.ok === true ? decision.candidates[0] : undefined;
  assert(first !== undefined, "a model that only providers have runs by a decision");
  return first.price;
}
