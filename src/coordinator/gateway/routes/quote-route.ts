/** `POST /v1/grid/quote`: the body of any route that runs models, and what would become of it. Takes one request of the key's rate, no more. */
import type { Hono } from "hono";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ApiKey } from "../../../ports/store.ts";
import { type Quote, quoteRequestSchema } from "../../../wire/openai/quote.ts";
import { readJsonBody } from "../bodies/json-body.ts";
import { parseRequest } from "../bodies/schema-issues.ts";
import { errorResponse } from "../error-table.ts";
import type { Exchange } from "../exchange.ts";
import type { GatewayState } from "../gateway-state.ts";
import { admit } from "../inference-routes.ts";
import { quoteOf } from "./quote.ts";

const ENDPOINT_DEFAULT = "/v1/chat/completions";

export function addQuoteRoute(app: Hono, state: GatewayState): void {
  app.post("/v1/grid/quote", state.gate.requireKey("inference"), async (context) => {
    const exchange = state.exchanges.of(context);
    const key = state.gate.callerKey(context);
    const quoted = await quote(state, { request: context.req.raw, exchange, key });
    const response = quoted.ok ? context.json(quoted.value) : errorResponse(quoted.reason);
    state.limiter.writeHeaders(key, response.headers);
    return response;
  });
}

async function quote(
  state: GatewayState,
  { request, exchange, key }: { request: Request; exchange: Exchange; key: ApiKey },
): Promise<Outcome<Quote>> {
  const admitted = admit(state, key);
  if (!admitted.ok) return admitted;
  const room = state.bodies.open();
  try {
    const raw = await readJsonBody(request, state.options, room);
    if (!raw.ok) return raw;
    const asked = parseRequest(quoteRequestSchema, raw.value);
    if (!asked.ok) return asked;
    const endpoint = asked.value.endpoint ?? ENDPOINT_DEFAULT;
    const plan = state.quotable.get(endpoint);
    if (plan === undefined) {
      const known = [...state.quotable.keys()].join(", ");
      const message = `endpoint is ${JSON.stringify(endpoint)}; quotes are given for ${known}`;
      return refuse("invalid-request", message, { param: "endpoint" });
    }
    const { headers } = request;
    const planned = await plan(asked.value.body, { headers, key, exchange });
    if (!planned.ok) return planned;
    return ok(quoteOf(state, { endpoint, headers, key, exchange, request: planned.value }));
  } finally {
    room.close();
  }
}
