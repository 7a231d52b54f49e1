/** For load balancers, monitoring and tools: health, readiness, metrics, and the API's own description. */
import type { Context, Hono } from "hono";
import { refuse } from "../../../domain/refusal.ts";
import { openApiDocument } from "../../../wire/openai/openapi.ts";
import { errorResponse } from "../error-table.ts";
import type { GatewayState } from "../gateway-state.ts";

export function addProbeRoutes(app: Hono, state: GatewayState): void {
  const { version } = state.options;
  app.get("/health", (context) => context.json({ status: "ok", version }));
  app.get("/ready", (context) => {
    const { models } = state.deps;
    const ready = models.list().filter((manifest) => models.readyReplicas(manifest.modelId) > 0);
    if (ready.length > 0 && !state.isDraining) {
      return context.json({ status: "ready", models: ready.map((manifest) => manifest.modelId) });
    }
    const reason = state.isDraining ? "this coordinator is stopping" : "no model has a ready replica";
    const code = state.isDraining ? "draining" : "no-capacity";
    return errorResponse(refuse(code, reason, { retryAfterMs: 1_000 }).reason);
  });
  app.get("/metrics", async (context, next) => {
    if (!isLoopback(context, state)) return await state.gate.requireKey("admin")(context, next);
    return await next();
  });
  app.get("/metrics", async () => {
    const { registry } = state.deps;
    return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
  });
  let document: string | null = null;
  app.get("/openapi.json", () => {
    document ??= JSON.stringify(openApiDocument(version));
    return new Response(document, { headers: { "content-type": "application/json" } });
  });
}

/** A monitor on this machine needs no key. A proxy on this machine hides who asks, so what it forwards needs one. */
function isLoopback(context: Context, state: GatewayState): boolean {
  const { remoteAddress } = state.exchanges.of(context);
  const isForwarded = ["x-forwarded-for", "forwarded", "x-real-ip"].some(
    (name) => context.req.header(name) !== undefined,
  );
  return !isForwarded && remoteAddress !== null && /^(?:127\.|::1$|::ffff:127\.)/.test(remoteAddress);
}
