/** Routes that only count what a request's prompt would have: admitted as requests are, answered without running anything. */
import type { Context, Hono } from "hono";
import type { z } from "zod";
import type { Outcome } from "../../../domain/refusal.ts";
import type { ApiKey } from "../../../ports/store.ts";
import { readJsonBody } from "../bodies/json-body.ts";
import { parseRequest } from "../bodies/schema-issues.ts";
import { errorResponse } from "../error-table.ts";
import type { Exchange } from "../exchange.ts";
import type { GatewayState } from "../gateway-state.ts";
import { admit } from "../inference-routes.ts";
import { type AskedTerms, askedTerms, type TermWords } from "../plans/asked-terms.ts";
import { servedModel } from "../plans/plan-request.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";

export interface CountRoute<Body extends TermWords & { readonly model: string }> {
  readonly path: string;
  readonly schema: z.ZodType<Body>;
  /** The answer's body. */
  count(body: Body, model: PreparedModel, more: { exchange: Exchange; asked: AskedTerms }): Promise<Outcome<object>>;
}

export function addCountRoute<Body extends TermWords & { readonly model: string }>(
  app: Hono,
  state: GatewayState,
  route: CountRoute<Body>,
): void {
  app.post(route.path, state.gate.requireKey("inference"), async (context) => {
    const key = state.gate.callerKey(context);
    const admitted = admit(state, key);
    if (!admitted.ok) return errorResponse(admitted.reason);
    const room = state.bodies.open();
    try {
      const counted = await counting(context, { state, route, key, room });
      const response = counted.ok ? Response.json(counted.value) : errorResponse(counted.reason);
      state.limiter.writeHeaders(key, response.headers);
      return response;
    } finally {
      room.close();
    }
  });
}

async function counting<Body extends TermWords & { readonly model: string }>(
  context: Context,
  serving: {
    state: GatewayState;
    route: CountRoute<Body>;
    key: ApiKey;
    room: Parameters<typeof readJsonBody>[2];
  },
): Promise<Outcome<object>> {
  const { state, route, key, room } = serving;
  const exchange = state.exchanges.of(context);
  const raw = await readJsonBody(context.req.raw, state.options, room);
  if (!raw.ok) return raw;
  const body = parseRequest(route.schema, raw.value);
  if (!body.ok) return body;
  const model = await servedModel(state, key, body.value.model);
  if (!model.ok) return model;
  exchange.modelId = model.value.manifest.modelId;
  const asked = askedTerms(body.value, { headers: context.req.raw.headers, key });
  return asked.ok ? await route.count(body.value, model.value, { exchange, asked: asked.value }) : asked;
}
