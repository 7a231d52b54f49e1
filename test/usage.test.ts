/** Usage as tenants and operators read it, and tenants and keys as operators change them, over the real admin routes. */
import { Hono } from "hono";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { addBudgetRoutes } from "../src/coordinator/admin/budget-routes.ts";
import { tenantAnswerSchema, tenantListSchema } from "../src/coordinator/admin/budget-schemas.ts";
import { microUsd } from "../src/domain/money.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
import { aTenant, settlementFor } from "./support/store-samples.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;
beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(() => closeTokenizer());
beforeEach(async () => {
  grid = await GatewayFixture.open(tokenizer);
  grid.onGenerate = answering(grid, "yes");
});
afterEach(() => grid.close());

async function usage(query: string, accept?: string) {
  const response = await grid.request(`/v1/grid/usage${query}`, undefined, {
    headers: accept === undefined ? {} : { accept },
  });
  const text = await response.text();
  return { status: response.status, type: response.headers.get("content-type") ?? "", text };
}

test("usage is grouped as asked, as JSON or as CSV, and tells providers apart", async () => {
  for (const tier of ["flex", "flex", "priority"]) expect((await grid.chat({ service_tier: tier })).status).toBe(200);
  const overflowed = settlementFor(90, { costMicroUsd: 100, createdAtMs: Math.floor(grid.clock.wallMs()) });
  await grid.store.ledger.apply(overflowed.hold);
  const { promptTokens, outputTokens } = overflowed.receipt;
  const part = { promptTokens: 0, outputTokens: 1, costMicroUsd: microUsd(60) };
  await grid.store.receipts.settle({
    ...overflowed,
    parts: [
      { provider: "grid", promptTokens, outputTokens: outputTokens - 1, costMicroUsd: microUsd(40) },
      { ...part, provider: "far" },
    ],
  });
  const byTier = JSON.parse((await usage("?group_by=tier")).text);
  expect(byTier.data.map((row: Record<string, unknown>) => [row["service_tier"], row["requests"]])).toEqual([
    ["default", 1],
    ["flex", 2],
    ["priority", 1],
  ]);
  const csv = await usage("?group_by=provider", "text/csv");
  expect(csv.type).toContain("text/csv");
  const lines = csv.text.split("\r\n");
  expect(lines[0]).toBe("provider,requests,prompt_tokens,completion_tokens,cost_usd");
  expect(lines[1]).toBe("far,0,0,1,0.000060");
  expect(lines[2]).toMatch(/^grid,4,\d+,\d+,0\.\d{6}$/);
  expect((await usage("?format=csv")).text).toMatch(/^day,key_id,model,service_tier,provider,requests,/);
  const all = JSON.parse((await usage("?group_by=")).text).data;
  expect(all).toHaveLength(1);
  expect(Number(all[0].cost_usd) * 1e6).toBeCloseTo(await grid.spent());
});

test("usage that cannot be read so is refused by the parameter's name", async () => {
  for (const [query, param] of [
    ["?group_by=colour", "group_by"],
    ["?format=xml", "format"],
    ["?from_ms=yesterday", "from_ms"],
    ["?from_ms=5&to_ms=4", "from_ms"],
  ] as const) {
    const { status, text } = await usage(query);
    expect([status, errorBodySchema.parse(JSON.parse(text)).error.param]).toEqual([400, param]);
  }
});

test("an operator makes a tenant with caps, changes one of them, and sees what it spent", async () => {
  const app = new Hono();
  const forgotten: string[] = [];
  const { gate } = grid.gateway;
  const sources = {
    ...grid.settlementPorts,
    store: grid.store,
    gate: {
      ...gate,
      forgetKey: (keyId: string) => void forgotten.push(keyId),
      forgetTenant: (tenantId: string) => void forgotten.push(tenantId),
    },
  };
  addBudgetRoutes(app, sources);
  const send = async (method: string, path: string, body?: unknown) => {
    const init = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await app.request(path, init);
    return { status: response.status, body: await response.json() };
  };
  const made = await send("POST", "/admin/v1/tenants", {
    name: "lab",
    budgetMicroUsd: 5_000,
    requestsPerMinuteMax: 10,
  });
  expect(made.status).toBe(201);
  const { tenant } = tenantAnswerSchema.parse(made.body);
  expect(tenant).toMatchObject({ name: "lab", budgetMicroUsd: 5_000, monthlyBudgetMicroUsd: null, keys: 0 });
  const set = await send("PATCH", `/admin/v1/tenants/${tenant.tenantId}`, {
    monthlyBudgetMicroUsd: 9,
    budgetMicroUsd: null,
  });
  expect(tenantAnswerSchema.parse(set.body).tenant).toMatchObject({
    budgetMicroUsd: null,
    monthlyBudgetMicroUsd: 9,
    requestsPerMinuteMax: 10,
  });
  expect(forgotten).toEqual([tenant.tenantId]);
  await grid.chat();
  const { tenants } = tenantListSchema.parse((await send("GET", "/admin/v1/tenants")).body);
  const own = tenants.find(({ tenantId }) => tenantId === aTenant(1).tenantId);
  const spent = await grid.spent();
  expect(own).toMatchObject({ spentMicroUsd: spent, spentMonthMicroUsd: spent, availableMicroUsd: 10_000_000 - spent });
  expect((await send("PATCH", "/admin/v1/tenants/ten_nobody", {})).status).toBe(404);
  expect((await send("POST", "/admin/v1/tenants", { name: "x", colour: "red" })).status).toBe(400);

  const key = await grid.addKey(70, "fal_changed");
  const rules = { grid: { regions: ["eu"] } };
  const changed = await send("PATCH", `/admin/v1/keys/${key.keyId}`, { preferences: { defaults: null, rules } });
  expect(changed).toMatchObject({ status: 200, body: { key: { preferences: { rules } } } });
  const bad = await send("PATCH", `/admin/v1/keys/${key.keyId}`, {
    preferences: { defaults: null, rules: { grid: { region: "eu" } } },
  });
  expect(bad.status).toBe(400);
  expect((await send("PATCH", "/admin/v1/keys/key_none", {})).status).toBe(404);
});
