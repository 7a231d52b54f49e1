/**
 * The operator's API below `/admin/v1`. Every route needs a key with the scope `admin`; requests from a web page of another
 * origin are refused by the browser, since no route answers with CORS headers.
 */
import type { Hono } from "hono";
import { accountId, ID_PATTERNS, keyId, nodeId, requestId, tenantId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { refuse } from "../../domain/refusal.ts";
import { houseCredit } from "../../market/house.ts";
import { EXPLAINED_REQUESTS_MAX } from "../dispatch/explain-ring.ts";
import { accountRow, joinTokenRow, keyRow, requestRow, transferRow } from "./admin-rows.ts";
import { ADMIN_LIST_MAX, createJoinCodeSchema, createKeySchema, creditSchema } from "./admin-schemas.ts";
import type { AdminSources } from "./admin-sources.ts";
import { addBudgetRoutes } from "./budget-routes.ts";
import { createKey } from "./create-key.ts";
import { explainedRow } from "./explain-row.ts";
import { gridStatus, nodeRows, replicaRows } from "./grid-status.ts";
import { addModelRoutes } from "./model-routes.ts";
import { gridPlan } from "./plan-rows.ts";
import { bodyOf } from "./request-body.ts";

/** A join code that nobody named terms for: one machine, one day. */
const JOIN_CODE_DEFAULTS = { usesMax: 1, ttlMs: 86_400_000 } as const;
const LIMIT_DEFAULT = 50;

/** Puts the routes onto the gateway's application, so that request ids and errors are the same everywhere. */
export function addAdminRoutes(app: Hono, sources: AdminSources): void {
  app.use("/admin/v1/*", sources.gate.requireKey("admin"));
  addStatusRoutes(app, sources);
  addNodeRoutes(app, sources);
  addModelRoutes(app, sources);
  addKeyRoutes(app, sources);
  addJoinCodeRoutes(app, sources);
  addLedgerRoutes(app, sources);
  addBudgetRoutes(app, sources);
}

function addStatusRoutes(app: Hono, sources: AdminSources): void {
  app.get("/admin/v1/status", async (context) => context.json(await gridStatus(sources)));
  app.get("/admin/v1/plan", (context) => context.json(gridPlan(sources)));
  app.get("/admin/v1/replicas", (context) => context.json({ replicas: replicaRows(sources) }));
  app.get("/admin/v1/requests", async (context) => {
    const receipts = await sources.store.receipts.list({ limit: limitOf(context.req.query("limit")) });
    return context.json({ requests: receipts.map(requestRow) });
  });
  app.get("/admin/v1/requests/:requestId/explain", (context) => {
    const named = context.req.param("requestId");
    const request = ID_PATTERNS.request.test(named) ? sources.explain(requestId(named)) : null;
    return request === null
      ? sources.gate.refusal(context, unexplained(named))
      : context.json({ request: explainedRow(request) });
  });
}

function addNodeRoutes(app: Hono, sources: AdminSources): void {
  const { gate, nodes } = sources;
  app.get("/admin/v1/nodes", async (context) =>
    context.json({ nodes: nodeRows(sources, await sources.store.ledger.accounts()) }),
  );
  const order = (method: "post" | "delete", path: string, carryOut: (typeof nodes)[keyof typeof nodes]) =>
    app[method](path, async (context) => {
      const named = context.req.param("nodeId") ?? "";
      const isDone = ID_PATTERNS.node.test(named) && (await carryOut(nodeId(named)));
      return isDone ? context.json({ ok: true }) : gate.refusal(context, unknownOne("node", named));
    });
  order("post", "/admin/v1/nodes/:nodeId/drain", (id) => nodes.drain(id));
  order("post", "/admin/v1/nodes/:nodeId/undrain", (id) => nodes.undrain(id));
  order("delete", "/admin/v1/nodes/:nodeId", (id) => nodes.remove(id));
}

function addKeyRoutes(app: Hono, sources: AdminSources): void {
  const { gate, store, clock } = sources;
  app.get("/admin/v1/keys", async (context) => {
    const keys = (await store.keys.list()).slice(0, ADMIN_LIST_MAX);
    const rows = await Promise.all(keys.map(async (key) => keyRow(key, await store.keys.spent(key.keyId))));
    return context.json({ keys: rows });
  });
  app.post("/admin/v1/keys", async (context) => {
    const body = await bodyOf(context, createKeySchema);
    if (!body.ok) return gate.refusal(context, body.reason);
    const named = body.value.tenantId;
    const tenant = named === undefined ? gate.callerKey(context).tenantId : tenantId(named);
    if ((await store.tenants.get(tenant)) === null) return gate.refusal(context, unknownOne("tenant", tenant));
    const { key, secret } = createKey(sources, tenant, body.value);
    await store.keys.create(key);
    return context.json({ key: keyRow(key, 0), secret }, 201);
  });
  app.delete("/admin/v1/keys/:keyId", async (context) => {
    const named = context.req.param("keyId");
    const isDone = ID_PATTERNS.key.test(named) && (await store.keys.revoke(keyId(named), Math.floor(clock.wallMs())));
    if (isDone) {
      gate.forgetKey(keyId(named));
      return context.json({ ok: true });
    }
    const refusal = refuse(
      "not-found",
      `no valid key has the id ${named.slice(0, 80)}: it is unknown or revoked already`,
    );
    return gate.refusal(context, refusal.reason);
  });
}

function addJoinCodeRoutes(app: Hono, sources: AdminSources): void {
  const { gate, store } = sources;
  app.get("/admin/v1/join-codes", async (context) => {
    const tokens = (await store.joinTokens.list()).slice(0, ADMIN_LIST_MAX);
    return context.json({ joinCodes: tokens.map(joinTokenRow) });
  });
  app.post("/admin/v1/join-codes", async (context) => {
    const body = await bodyOf(context, createJoinCodeSchema, "{}");
    if (!body.ok) return gate.refusal(context, body.reason);
    const usesMax = body.value.usesMax ?? JOIN_CODE_DEFAULTS.usesMax;
    const made = await sources.joinCodes.create({ usesMax, ttlMs: body.value.ttlMs ?? JOIN_CODE_DEFAULTS.ttlMs });
    return context.json({ ...made, usesMax }, 201);
  });
}

function addLedgerRoutes(app: Hono, sources: AdminSources): void {
  const { gate, store, clock, ids } = sources;
  app.get("/admin/v1/ledger/accounts", async (context) =>
    context.json({ accounts: (await store.ledger.accounts()).slice(0, ADMIN_LIST_MAX).map(accountRow) }),
  );
  app.get("/admin/v1/ledger/transfers", async (context) => {
    const limit = limitOf(context.req.query("limit"));
    const named = context.req.query("account");
    if (named !== undefined && !ID_PATTERNS.account.test(named))
      return gate.refusal(context, unknownOne("account", named));
    const page = named === undefined ? { limit } : { limit, accountId: accountId(named) };
    return context.json({ transfers: (await store.ledger.transfers(page)).map(transferRow) });
  });
  app.get("/admin/v1/ledger/check", async (context) => context.json(await sources.checkLedger()));
  app.post("/admin/v1/ledger/credit", async (context) => {
    const body = await bodyOf(context, creditSchema);
    if (!body.ok) return gate.refusal(context, body.reason);
    const named = body.value.tenantId;
    const tenant = named === undefined ? gate.callerKey(context).tenantId : tenantId(named);
    if ((await store.tenants.get(tenant)) === null) return gate.refusal(context, unknownOne("tenant", tenant));
    const transfer = houseCredit({
      tenantId: tenant,
      creditId: body.value.reference ?? ids.make("req"),
      amountMicroUsd: microUsd(body.value.amountMicroUsd),
      atMs: Math.floor(clock.wallMs()),
    });
    const applied = await store.ledger.apply([transfer]);
    if (applied.ok) return context.json({ transfer: transferRow(transfer) }, 201);
    const why = `the reference ${body.value.reference ?? ""} was credited before with another amount (${applied.reason.code})`;
    return gate.refusal(context, refuse("invalid-request", why, { param: "reference" }).reason);
  });
}

function unexplained(named: string) {
  const message = `no request called ${JSON.stringify(named.slice(0, 80))} is among the last ${EXPLAINED_REQUESTS_MAX} since the coordinator started; ids look like req_01ABC… and stand in the x-request-id header and in receipts`;
  return refuse("not-found", message).reason;
}

function unknownOne(kind: string, named: string) {
  return refuse("not-found", `there is no ${kind} called ${JSON.stringify(named.slice(0, 80))}`).reason;
}

function limitOf(text: string | undefined): number {
  const limit = Number(text ?? LIMIT_DEFAULT);
  return Number.isInteger(limit) && limit >= 1 ? Math.min(limit, ADMIN_LIST_MAX) : LIMIT_DEFAULT;
}
