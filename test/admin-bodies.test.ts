/** What an operator's request may carry. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { addAdminRoutes } from "../src/coordinator/admin/admin-routes.ts";
import { KEY_SCOPES } from "../src/ports/store.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { SimIds } from "../src/sim/sim-ids.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { GatewayFixture } from "./support/gateway-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

const ADMIN = "fal_the-operators-own-key";
let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  grid = await GatewayFixture.open(tokenizer);
  await grid.addKey(2, ADMIN, { scopes: [...KEY_SCOPES] });
  const { clock, store, gateway } = grid;
  const nothing = () => Promise.resolve(false);
  addAdminRoutes(gateway.app, {
    publicKeyHex: "00".repeat(32),
    gridId: "grid-1",
    version: "0.0.0",
    startedAtMs: 0,
    clock,
    store,
    random: new SystemRandom(),
    ids: new SimIds(clock, new SeededRandom("admin")),
    crypto: new NodeCrypto(),
    roster: { nodes: () => [], node: () => null },
    activity: () => ({ inFlight: 0, queued: 0 }),
    placement: () => null,
    explain: () => null,
    modelOf: () => null,
    readyReplicas: () => 0,
    checkLedger: () => Promise.resolve({ isBalanced: true, accounts: 0, openHolds: 0, problems: [] }),
    nodes: { drain: nothing, undrain: nothing, remove: nothing },
    models: {
      add: () => Promise.reject(new Error("no model is added here")),
      start: () => Promise.reject(new Error("no model is fetched here")),
      fetchAnew: () => Promise.resolve(null),
      weights: () => Promise.resolve(null),
      check: () => {
        throw new Error("no model is checked here");
      },
      setDraft: () => Promise.reject(new Error("no model drafts here")),
      remove: nothing,
      jobs: null,
    },
    joinCodes: { create: () => Promise.resolve({ joinCode: "code", expiresAtMs: 1 }) },
    gate: { ...gateway.gate, forgetKey: gateway.forgetKey },
  });
});
afterEach(async () => {
  await grid.close();
});

const headers = { authorization: `Bearer ${ADMIN}` };

test("a body without an end is refused when it is over the bound, not when it is read", async () => {
  let given = 0;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      given += 65_536;
      if (given > 16_777_216) controller.close();
      else controller.enqueue(new Uint8Array(65_536).fill(0x20));
    },
  });
  const request = new Request("http://grid.test/admin/v1/keys", { method: "POST", headers, body, duplex: "half" });
  const response = await grid.gateway.fetch(request, { remoteAddress: null });
  expect(response.status).toBe(413);
  expect(given).toBeLessThan(1_000_000);
});

test("a key that would outlive every clock is refused, one for a year is made, and the list can be read", async () => {
  const make = (expiresInMs: number) => grid.request("/admin/v1/keys", { name: "k", expiresInMs }, { headers });
  expect((await make(Number.MAX_SAFE_INTEGER)).status).toBe(400);
  expect((await make(365 * 86_400_000)).status).toBe(201);
  expect((await grid.request("/admin/v1/keys", undefined, { headers })).status).toBe(200);
});

test("an empty body asks for a join code with the usual terms", async () => {
  const response = await grid.request("/admin/v1/join-codes", "", { headers });
  expect(await response.json()).toMatchObject({ joinCode: "code", usesMax: 1 });
});

test.each(["plan", "requests/req_01KA0000000000000000000000/explain", "requests/__proto__/explain"])(
  "GET %s is for operators: a tenant's key sees nothing of it, and nobody without one",
  async (path) => {
    const secret = "fal_a-tenants-own-key-of-no-rank";
    await grid.addKey(3, secret, { scopes: ["inference"] });
    const get = (given: Record<string, string>) => grid.gateway.app.request(`/admin/v1/${path}`, { headers: given });
    expect((await get({})).status).toBe(401);
    expect((await get({ authorization: `Bearer ${secret}` })).status).toBe(403);
    const told = await get(headers);
    expect(told.status).toBe(path === "plan" ? 200 : 404);
  },
);
