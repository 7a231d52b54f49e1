/**
 * The grid's HTTP surface: OpenAI's API over the pool, receipts and usage, probes. Requests come in as standard `Request`
 * objects and leave as `Response`, so that tests and the simulator need no socket.
 */
import { type Context, Hono } from "hono";
import { describeFault } from "../../domain/fault.ts";
import { type RequestId, requestId } from "../../domain/ids.ts";
import { refuse } from "../../domain/refusal.ts";
import { pause } from "../../ports/clock.ts";
import type { ApiKey } from "../../ports/store.ts";
import { errorResponse } from "./error-table.ts";
import type { Exchange } from "./exchange.ts";
import { faultRefusal } from "./fault-refusal.ts";
import type { GatewayDeps, GatewayOptions } from "./gateway-options.ts";
import { type GatewayGate, GatewayState } from "./gateway-state.ts";
import { addInferenceRoutes } from "./inference-routes.ts";
import { addMessageRoutes } from "./messages/message-routes.ts";
import { addResponseRoutes } from "./responses/response-routes.ts";
import { addGridRoutes } from "./routes/grid-routes.ts";
import { addModelRoutes } from "./routes/model-routes.ts";
import { addProbeRoutes } from "./routes/probe-routes.ts";
import { addQuoteRoute } from "./routes/quote-route.ts";

/** The version of OpenAI's API that the shapes follow. */
const OPENAI_VERSION = "2020-10-01";
const CLIENT_REQUEST_ID_CHARS_MAX = 128;

export interface RequestOrigin {
  /** Null in tests and the simulator. */
  readonly remoteAddress: string | null;
  /** Ends the client's connection at once: it reads nothing, so it cannot be told anything. Absent where there is no socket. */
  readonly cut?: () => void;
  /** This coordinator asks for a tenant: no socket, no secret, no rate. */
  readonly inner?: InnerOrigin;
}

export interface InnerOrigin {
  readonly requestId: RequestId;
  readonly key: ApiKey;
}

export interface Gateway {
  /** Never rejects: what is not understood is an error answer. */
  fetch(request: Request, origin: RequestOrigin): Promise<Response>;
  readonly app: Hono;
  readonly gate: GatewayGate;
  /** A key changed in this process: its next request reads it anew. */
  forgetKey: GatewayState["keys"]["forget"];
  /** Limits of a tenant changed in this process. */
  forgetTenant: GatewayState["keys"]["forgetTenant"];
  openRequests(): number;
  /** Takes no new generations; resolves when the running ones ended or `withinMs` passed. */
  drain(withinMs: number): Promise<void>;
}

export function createGateway(options: GatewayOptions, deps: GatewayDeps): Gateway {
  const state = new GatewayState(options, deps);
  const app = new Hono();
  const origins = new WeakMap<Request, RequestOrigin>();
  app.use("*", async (context, next) => {
    const exchange = beginExchange(state, origins.get(context.req.raw) ?? { remoteAddress: null });
    state.exchanges.begin(context.req.raw, exchange);
    await next();
    endExchange(context, { state, exchange });
  });
  app.onError((thrown, context) => {
    const { requestId: id } = state.exchanges.of(context);
    deps.log.error(
      { requestId: id, path: context.req.path, cause: describeFault(thrown), stack: thrown.stack },
      "request failed",
    );
    return errorResponse(faultRefusal(thrown, id));
  });
  app.notFound((context) => notFound(app, context));
  addProbeRoutes(app, state);
  addModelRoutes(app, state);
  addInferenceRoutes(app, state);
  addResponseRoutes(app, state);
  addMessageRoutes(app, state);
  addGridRoutes(app, state);
  addQuoteRoute(app, state);
  options.extraRoutes?.(app);
  return {
    app,
    gate: state.gate,
    fetch: async (request, origin) => {
      origins.set(request, origin);
      if (origin.inner !== undefined) state.limiter.exempt(origin.inner.key);
      return await app.fetch(request);
    },
    forgetKey: (keyId) => state.keys.forget(keyId),
    forgetTenant: (tenantId) => state.keys.forgetTenant(tenantId),
    openRequests: () => state.openRequests,
    drain: async (withinMs) => {
      state.isDraining = true;
      await Promise.race([state.whenEmpty(), pause(deps.clock, withinMs)]);
    },
  };
}

function beginExchange(state: GatewayState, origin: RequestOrigin): Exchange {
  const { clock, ids } = state.deps;
  return {
    requestId: origin.inner?.requestId ?? requestId(ids.make("req")),
    startedMonoMs: clock.monoMs(),
    createdAtMs: Math.floor(clock.wallMs()),
    remoteAddress: origin.remoteAddress,
    cut: origin.cut ?? null,
    key: origin.inner?.key ?? null,
    modelId: null,
  };
}

function endExchange(context: Context, { state, exchange }: { state: GatewayState; exchange: Exchange }): void {
  const tookMs = state.deps.clock.monoMs() - exchange.startedMonoMs;
  const { headers, status } = context.res;
  headers.set("x-request-id", exchange.requestId);
  headers.set("openai-processing-ms", String(Math.max(0, Math.round(tookMs))));
  headers.set("openai-version", OPENAI_VERSION);
  const clientsId = context.req.header("x-request-id");
  if (clientsId !== undefined && /^[\x21-\x7e]+$/.test(clientsId)) {
    headers.set("x-client-request-id", clientsId.slice(0, CLIENT_REQUEST_ID_CHARS_MAX));
  }
  const route = routeLabel(context);
  state.metrics.requests.inc({ route, status: String(status) });
  // A stream goes on; it tells its own end.
  const isStream = headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (!isStream) state.metrics.requestSeconds.observe({ route }, tookMs / 1000);
  state.deps.log.debug(
    {
      requestId: exchange.requestId,
      route,
      status,
      tookMs,
      keyId: exchange.key?.keyId ?? null,
      modelId: exchange.modelId,
    },
    "request answered",
  );
}

/** The route's pattern, not the path: the labels of a metric are few. */
function routeLabel(context: Context): string {
  const { path } = context.req;
  if (path.startsWith("/v1/models/")) return "/v1/models/{id}";
  if (path.startsWith("/v1/grid/receipts/")) return "/v1/grid/receipts/{id}";
  if (path.startsWith("/v1/responses/")) return path.endsWith("/input_tokens") ? path : "/v1/responses/{id}";
  if (path.startsWith("/admin/v1/")) return "/admin/v1";
  return KNOWN_PATHS.has(path) ? path : "other";
}

const KNOWN_PATHS: ReadonlySet<string> = new Set([
  "/",
  "/health",
  "/ready",
  "/metrics",
  "/openapi.json",
  "/v1/models",
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/responses",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/v1/grid/receipts",
  "/v1/grid/usage",
  "/v1/grid/quote",
  "/v1/grid/checkpoint",
]);

/** A path that exists for another method is 405 with `Allow`, everything else 404. */
function notFound(app: Hono, context: Context): Response {
  const { method, path } = context.req;
  const allowed = ["GET", "POST", "PUT", "PATCH", "DELETE"].filter(
    (other) => other !== method && app.router.match(other, path)[0].some(([[, route]]) => route.method !== "ALL"),
  );
  if (allowed.length === 0) {
    return errorResponse(refuse("not-found", `there is no ${method} ${path.slice(0, 200)} here`).reason);
  }
  const response = errorResponse(
    refuse("method-not-allowed", `${method} is not allowed for ${path.slice(0, 200)}; ${allowed.join(", ")} is`).reason,
  );
  response.headers.set("allow", allowed.join(", "));
  return response;
}
