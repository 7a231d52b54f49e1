/** `/v1/responses`: made, got again, deleted, listed by its input, counted. Nothing runs in the background, so nothing can be cancelled. */
import type { Context, Hono } from "hono";
import { assert } from "../../../domain/assert.ts";
import { ID_PATTERNS, responseId } from "../../../domain/ids.ts";
import { no, type Outcome, ok, type Refusal, refuse } from "../../../domain/refusal.ts";
import type { ResponseRef, StoredResponse } from "../../../ports/response-store.ts";
import {
  inputTokensRequestSchema,
  type ResponseRequest,
  responseRequestSchema,
} from "../../../wire/openai/response-request.ts";
import { errorResponse } from "../error-table.ts";
import type { Exchange } from "../exchange.ts";
import type { GatewayState } from "../gateway-state.ts";
import { addRoute, callId, generationRoute, type RouteMore } from "../inference-routes.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";
import { addCountRoute } from "../routes/count-route.ts";
import { listInput } from "./input-list.ts";
import { planResponse } from "./plan-response.ts";
import { planResponseChat } from "./plan-response-chat.ts";
import type { HistoryReader } from "./response-history.ts";

const PATH = "/v1/responses";

export function addResponseRoutes(app: Hono, state: GatewayState): void {
  const plan = async (body: ResponseRequest, model: PreparedModel | CloudModel, { exchange, asked }: RouteMore) => {
    const sources = { wallMs: exchange.createdAtMs, makeCallId: () => callId(state), asked };
    const reader = readerOf(state, exchange);
    const planned = await planResponse(body, model, { state, exchange, sources, reader });
    return planned.ok ? ok(generationRoute(state, planned.value, { exchange, route: PATH })) : planned;
  };
  addRoute(app, state, { path: PATH, schema: responseRequestSchema, plan, planCloud: plan });
  addCountRoute(app, state, {
    path: `${PATH}/input_tokens`,
    schema: inputTokensRequestSchema,
    count: async (body, model, { exchange, asked }) => {
      const sources = { wallMs: exchange.createdAtMs, makeCallId: () => callId(state), asked };
      const planned = await planResponseChat(body, model, { reader: readerOf(state, exchange), sources });
      if (!planned.ok) return planned;
      return ok({ object: "response.input_tokens", input_tokens: planned.value.plan.promptTokens });
    },
  });
  const inference = state.gate.requireKey("inference");
  app.post(`${PATH}/compact`, inference, () =>
    errorResponse(unsupported("compacting a conversation is not supported; send what matters of it as input")),
  );
  app.get(`${PATH}/:id`, inference, async (context) => {
    if (context.req.query("stream") === "true") {
      return errorResponse(unsupported("a kept answer is not streamed again; leave out stream", "stream"));
    }
    const found = await keptResponse(state, context);
    return found.ok ? jsonBody(found.value.bodyJson) : errorResponse(found.reason);
  });
  app.delete(`${PATH}/:id`, inference, async (context) => {
    const ref = refOf(state, context);
    if (!ref.ok) return errorResponse(ref.reason);
    if (!(await state.deps.store.responses.remove(ref.value))) return errorResponse(notKept(ref.value.responseId));
    return context.json({ id: ref.value.responseId, object: "response", deleted: true });
  });
  app.post(`${PATH}/:id/cancel`, inference, async (context) => {
    const found = await keptResponse(state, context);
    if (!found.ok) return errorResponse(found.reason);
    const message = `${found.value.responseId} was not made with background: true, which is not supported here; end its request instead`;
    return errorResponse(refuse("invalid-request", message).reason);
  });
  app.get(`${PATH}/:id/input_items`, inference, async (context) => {
    const found = await keptResponse(state, context);
    const listed = found.ok ? listInput(found.value, (name) => context.req.query(name) ?? null) : found;
    return listed.ok ? context.json(listed.value) : errorResponse(listed.reason);
  });
}

function readerOf(state: GatewayState, exchange: Exchange): HistoryReader {
  const { key, createdAtMs } = exchange;
  assert(key !== null, "requireKey let a key in");
  return { store: state.deps.store.responses, tenantId: key.tenantId, nowMs: createdAtMs };
}

function refOf(state: GatewayState, context: Context): Outcome<ResponseRef> {
  const id = context.req.param("id") ?? "";
  if (!ID_PATTERNS.response.test(id)) return no(notKept(id));
  return ok({ responseId: responseId(id), tenantId: state.gate.callerKey(context).tenantId });
}

async function keptResponse(state: GatewayState, context: Context): Promise<Outcome<StoredResponse>> {
  const ref = refOf(state, context);
  if (!ref.ok) return ref;
  const found = await state.deps.store.responses.get(ref.value, Math.floor(state.deps.clock.wallMs()));
  return found === null ? no(notKept(ref.value.responseId)) : ok(found);
}

function notKept(id: string): Refusal {
  return refuse("not-found", `response ${JSON.stringify(id.slice(0, 64))} is not kept here for this tenant`).reason;
}

function unsupported(message: string, param: string | null = null): Refusal {
  return refuse("unsupported-parameter", message, { param }).reason;
}

function jsonBody(json: string): Response {
  return new Response(json, { headers: { "content-type": "application/json" } });
}
