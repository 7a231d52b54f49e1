/**
 * The routes that run models: key, rate, body, schema, idempotency, model, plan, hold, run. The first refusal ends it, and
 * whatever was taken by then (allowance, idempotency key, hold) is given back.
 */
import type { Context, Hono } from "hono";
import type { z } from "zod";
import { assert } from "../../domain/assert.ts";
import type { RequestTerms } from "../../domain/generation.ts";
import { type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import { canonicalJson } from "../../market/canonical-json.ts";
import { toHex } from "../../market/hex.ts";
import { holdAmount } from "../../market/hold.ts";
import type { ApiKey } from "../../ports/store.ts";
import type { RouteDecision } from "../../scheduler/tiers/route-question.ts";
import { type ChatRequest, chatRequestSchema } from "../../wire/openai/chat-request.ts";
import { type CompletionRequest, completionRequestSchema } from "../../wire/openai/completion-request.ts";
import { embeddingRequestSchema } from "../../wire/openai/embedding-request.ts";
import { runGeneration, type TermPlan, termsOf } from "./answers/run-generation.ts";
import type { OpenBody } from "./bodies/body-budget.ts";
import { readJsonBody } from "./bodies/json-body.ts";
import { parseRequest } from "./bodies/schema-issues.ts";
import { writeBudgetHeaders } from "./callers/budget-headers.ts";
import type { BegunHold } from "./callers/holds.ts";
import { beginIdempotent, type IdempotentRun } from "./callers/idempotency.ts";
import { type EmbeddingPlan, planEmbeddings, runEmbeddings } from "./embeddings.ts";
import { errorResponse } from "./error-table.ts";
import type { Exchange } from "./exchange.ts";
import type { GatewayState } from "./gateway-state.ts";
import type { CloudModel } from "./legs/cloud-model.ts";
import { type DecideOptions, decideEmbedding, decideRoute, type GridSide } from "./legs/decide-route.ts";
import { affordablePlan } from "./plans/affordable-plan.ts";
import type { AskedTerms, TermWords } from "./plans/asked-terms.ts";
import type { GenerationPlan, RequestTicket } from "./plans/generation-plan.ts";
import { planChat } from "./plans/plan-chat.ts";
import { planCompletion } from "./plans/plan-completion.ts";
import { cloudPrice, planRequest } from "./plans/plan-request.ts";
import type { PreparedModel } from "./plans/prepared-model.ts";

/** Larger than any line of base 36 that the clock and the request id leave free; ids of tool calls are opaque. */
const CALL_ID_CHARS = 24;

/** What the front door reads of every body. */
export interface RouteBody extends TermWords {
  readonly model: string;
}

export interface RouteMore {
  readonly exchange: Exchange;
  readonly asked: AskedTerms;
}

/** What a route does with a body that fits its schema. */
export interface Route<Body extends RouteBody> {
  readonly path: string;
  readonly schema: z.ZodType<Body>;
  plan(body: Body, model: PreparedModel, more: RouteMore): Promise<Outcome<RoutePlan>>;
  /** Of a model that only cloud providers have; absent: the route needs the grid's own models. */
  planCloud?(body: Body, model: CloudModel, more: RouteMore): Promise<Outcome<RoutePlan>>;
}

/** What is needed to admit a planned request, and how it then runs. */
export interface RoutePlan {
  readonly tier: ServiceTier;
  readonly promptTokens: number;
  readonly outputTokensMax: number;
  readonly choices: number;
  /** It may begin while its hold is on the way to the disk. */
  readonly canOverlap: boolean;
  /** The same request under another tier and other preferences. */
  forTerms(asked: AskedTerms): RoutePlan;
  /** As dispatch would be asked. */
  terms(grid: DecideOn): RequestTerms;
  /** Where it may run; null: the grid alone, as dispatch says. `grid`: null where only providers have the model. */
  decide?(grid: DecideOn | null, options?: DecideOptions): RouteDecision | null;
  /** Of one choice, the largest: for what dispatch is asked beforehand. */
  readonly largest: { readonly promptTokens: number; readonly tokensMax: number };
  run(start: RunStart): Promise<Response>;
}

/** What the decision needs beside the plan. */
export type DecideOn = Pick<RequestTicket, "requestId" | "requestSha256" | "key" | "price"> & {
  readonly manifest: ModelManifest;
};

export interface RunStart {
  readonly held: BegunHold;
  readonly ticket: RequestTicket;
  readonly idempotent: IdempotentRun | null;
  readonly signal: AbortSignal;
  readonly onOver: () => void;
  readonly decision: RouteDecision | null;
}

export function addInferenceRoutes(app: Hono, state: GatewayState): void {
  const chatPlan = async (body: ChatRequest, model: PreparedModel | CloudModel, { exchange, asked }: RouteMore) => {
    const sources = { wallMs: exchange.createdAtMs, makeCallId: () => callId(state), asked };
    const planned = await planChat(body, model, sources);
    return planned.ok
      ? ok(generationRoute(state, planned.value, { exchange, route: "/v1/chat/completions" }))
      : planned;
  };
  const completionPlan = async (
    body: CompletionRequest,
    model: PreparedModel | CloudModel,
    { exchange, asked }: RouteMore,
  ) => {
    const planned = await planCompletion(body, model, asked);
    return planned.ok ? ok(generationRoute(state, planned.value, { exchange, route: "/v1/completions" })) : planned;
  };
  addRoute(app, state, {
    path: "/v1/chat/completions",
    schema: chatRequestSchema,
    plan: chatPlan,
    planCloud: chatPlan,
  });
  addRoute(app, state, {
    path: "/v1/completions",
    schema: completionRequestSchema,
    plan: completionPlan,
    planCloud: completionPlan,
  });
  addRoute(app, state, {
    path: "/v1/embeddings",
    schema: embeddingRequestSchema,
    plan: async (body, model, { asked }) => {
      const planned = await planEmbeddings(body, model, asked);
      if (!planned.ok) return planned;
      return ok(embeddingRoute(state, planned.value));
    },
  });
}

function embeddingRoute(state: GatewayState, plan: EmbeddingPlan): RoutePlan {
  return {
    tier: plan.tier,
    promptTokens: plan.promptTokens,
    outputTokensMax: 0,
    choices: 1,
    canOverlap: false,
    forTerms: (asked) => embeddingRoute(state, { ...plan, ...asked }),
    largest: { promptTokens: Math.max(...plan.inputs.map((input) => input.length)), tokensMax: 0 },
    decide: (grid, options) =>
      grid === null ? null : decideEmbedding(state.deps, plan, gridSide(state, plan, grid), options),
    terms: (grid) => termsOf(state.options, plan, grid),
    run: async ({ onOver, ...start }) => {
      try {
        return await runEmbeddings(state, { ...start, plan });
      } finally {
        onOver();
      }
    },
  };
}

export function generationRoute(
  state: GatewayState,
  wanted: GenerationPlan,
  { exchange, route }: { exchange: Exchange; route: string },
): RoutePlan {
  const plan = affordablePlan(state.deps.models, wanted);
  return {
    tier: plan.tier,
    promptTokens: plan.promptTokens,
    outputTokensMax: plan.tokensMax,
    choices: plan.choices.length,
    canOverlap: true,
    forTerms: (asked) => generationRoute(state, { ...wanted, ...asked }, { exchange, route }),
    terms: (grid) => termsOf(state.options, plan, grid),
    largest: {
      promptTokens: Math.max(...plan.choices.map(({ promptTokenIds }) => promptTokenIds.length)),
      tokensMax: plan.tokensMax,
    },
    decide: (grid, options) =>
      decideRoute(state.deps, plan, grid === null ? null : gridSide(state, plan, grid), options),
    run: (start) =>
      runGeneration(state, { ...start, plan, route, startedMonoMs: exchange.startedMonoMs, cut: exchange.cut }),
  };
}

function gridSide(state: GatewayState, plan: TermPlan, grid: DecideOn): GridSide {
  const { modelId, quantisation, contextTokensMax } = grid.manifest;
  return {
    terms: () => termsOf(state.options, plan, grid),
    price: grid.price,
    quantisation,
    contextTokensMax,
    readyReplicas: () => state.deps.models.readyReplicas(modelId),
  };
}

export function callId(state: GatewayState): string {
  const digits = toHex(state.deps.random.bytes(CALL_ID_CHARS / 2));
  return `call_${digits}`;
}

export function addRoute<Body extends RouteBody>(app: Hono, state: GatewayState, route: Route<Body>): void {
  state.quotable.set(route.path, async (raw, more) => {
    const body = parseRequest(route.schema, raw);
    return body.ok ? await planRequest(state, route, { ...more, body: body.value }) : body;
  });
  app.post(route.path, state.gate.requireKey("inference"), async (context) => {
    const exchange = state.exchanges.of(context);
    const { key } = exchange;
    assert(key !== null, "requireKey let a key in");
    const response = await serve(context, { state, route, exchange, key });
    state.limiter.writeHeaders(key, response.headers);
    await writeBudgetHeaders(state, key, response.headers);
    return response;
  });
}

interface Serving<Body extends RouteBody> {
  readonly state: GatewayState;
  readonly route: Route<Body>;
  readonly exchange: Exchange;
  readonly key: ApiKey;
}

async function serve<Body extends RouteBody>(context: Context, serving: Serving<Body>): Promise<Response> {
  const { state, key } = serving;
  const admitted = admit(state, key);
  if (!admitted.ok) return errorResponse(admitted.reason);
  const room = state.bodies.open();
  try {
    return await serveAdmitted(context, serving, room);
  } finally {
    room.close();
  }
}

async function serveAdmitted<Body extends RouteBody>(
  context: Context,
  serving: Serving<Body>,
  room: OpenBody,
): Promise<Response> {
  const { state, route, key } = serving;
  const raw = await readJsonBody(context.req.raw, state.options, room);
  if (!raw.ok) return errorResponse(raw.reason);
  const body = parseRequest(route.schema, raw.value);
  if (!body.ok) return errorResponse(body.reason);
  const digest = requestDigest(state, raw.value);
  if (!digest.ok) return errorResponse(digest.reason);
  const header = context.req.header("idempotency-key") ?? null;
  const begun = await beginIdempotent(
    { store: state.deps.store.idempotency, clock: state.deps.clock, keptMs: state.options.idempotencyMs },
    { header, apiKey: key, route: route.path, bodySha256: withWords(state, digest.value, context.req.raw.headers) },
  );
  if (!begun.ok) return errorResponse(begun.reason);
  if (begun.value.kind === "replay") return begun.value.response;
  const { run: idempotent } = begun.value;
  try {
    const started = await start(
      { ...serving, signal: context.req.raw.signal },
      { body: body.value, headers: context.req.raw.headers, digest: digest.value, idempotent },
    );
    if (started.ok) return started.value;
    await idempotent?.forget();
    return errorResponse(started.reason);
  } catch (thrown) {
    // A retry with the same key must run, not meet a request that is running for ever.
    await idempotent?.forget();
    throw thrown;
  }
}

export function admit(state: GatewayState, key: ApiKey): Outcome<void> {
  if (state.isDraining)
    return refuse("draining", "this coordinator is stopping; try again shortly", { retryAfterMs: 1_000 });
  const taken = state.limiter.takeRequest(key);
  if (!taken.ok) return taken;
  const { openRequestsMax } = state.options;
  if (state.openRequests >= openRequestsMax) {
    return refuse(
      "queue-full",
      `${openRequestsMax} requests are open, the most this coordinator takes; try again in a second, with fewer at a time`,
      {
        retryAfterMs: 1_000,
      },
    );
  }
  return ok(undefined);
}

/** Over the canonical JSON, so that a tenant can recompute it from what was meant, whatever the order of keys. */
function requestDigest(state: GatewayState, body: unknown): Outcome<Sha256Hex> {
  try {
    const bytes = new TextEncoder().encode(canonicalJson(body));
    return ok(sha256Hex(toHex(state.deps.crypto.sha256(bytes))));
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return refuse("invalid-request", `the body has no canonical JSON form: ${why}`);
  }
}

/** What a body is remembered by: other preferences in headers make it another request, whose answer may stand elsewhere and cost otherwise. */
function withWords(state: GatewayState, body: Sha256Hex, headers: Headers): Sha256Hex {
  const words = [...headers].filter(([name]) => name.startsWith("x-grid-") || name.startsWith("x-provider-"));
  if (words.length === 0) return body;
  const text = JSON.stringify([body, ...words.sort(([a], [b]) => (a < b ? -1 : 1))]);
  return sha256Hex(toHex(state.deps.crypto.sha256(new TextEncoder().encode(text))));
}

/** A refusal leaves nothing behind but the idempotency key, which the caller forgets. */
async function start<Body extends RouteBody>(
  serving: Serving<Body> & { readonly signal: AbortSignal },
  request: { body: Body; headers: Headers; digest: Sha256Hex; idempotent: IdempotentRun | null },
): Promise<Outcome<Response>> {
  const { state, route, exchange, key, signal } = serving;
  const outcome = await planRequest(state, route, { body: request.body, headers: request.headers, key, exchange });
  if (!outcome.ok) return outcome;
  const { planned, onGrid } = outcome.value;
  const { promptTokens, outputTokensMax, choices } = planned;
  const tokens = promptTokens + outputTokensMax * choices;
  const { requestId, createdAtMs } = exchange;
  const requestSha256 = request.digest;
  const on = onGrid === null ? null : { requestId, requestSha256, key, ...onGrid };
  const decision = planned.decide?.(on) ?? null;
  if (decision?.ok === false) return decision;
  const taken = state.limiter.takeTokens(key, tokens);
  if (!taken.ok) return taken;
  const price = onGrid?.price ?? cloudPrice(decision);
  const heldMicroUsd =
    decision?.holdMicroUsd ?? holdAmount({ promptTokens, maxTokens: outputTokensMax, choices, price });
  const caps = await state.keys.capsOf(key);
  const held = state.holds.begin(
    { requestId, tenantId: key.tenantId, keyId: key.keyId, ...caps, amountMicroUsd: heldMicroUsd, atMs: createdAtMs },
    { mayWait: planned.canOverlap },
  );
  if (!held.mayBegin || !planned.canOverlap) {
    let isHeld = false;
    try {
      const outcome = await held.outcome;
      isHeld = outcome.ok;
      if (!outcome.ok) return outcome;
    } finally {
      if (!isHeld) state.limiter.giveBackTokens(key, tokens);
    }
  }
  const ticket: RequestTicket = { requestId, requestSha256, key, createdAtMs, price, heldMicroUsd };
  const onOver = state.opened();
  const { idempotent } = request;
  return ok(await planned.run({ ticket, idempotent, signal, onOver, held, decision }));
}
