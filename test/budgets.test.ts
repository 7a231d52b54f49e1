/** Caps of keys and tenants over real stores: many streams at once, months, restarts, and what is told about them. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openPostgresStore, openSqliteStore, type SqlStore } from "../src/adapters/store-sql/sql-store.ts";
import { Settlement } from "../src/coordinator/settlement/settlement.ts";
import { modelId, requestId } from "../src/domain/ids.ts";
import { microUsd } from "../src/domain/money.ts";
import type { TenantLimits } from "../src/ports/store.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";
import { aTenant } from "./support/store-samples.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

const NO_LIMITS: TenantLimits = {
  requestsPerMinuteMax: null,
  tokensPerMinuteMax: null,
  budgetMicroUsd: null,
  monthlyBudgetMicroUsd: null,
  models: null,
};
const STREAMS = 32;
const TOKENS_MAX = 20;

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(() => closeTokenizer());

const bearer = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });

async function errorOf(response: Response) {
  const { error } = errorBodySchema.parse(await response.json());
  return { status: response.status, headers: response.headers, ...error };
}

/** Thirty-two streams at a time, of answers of drawn lengths, until every one of a round is refused. Resolves with what was charged. */
async function spendAll(grid: GatewayFixture, secrets: readonly string[]): Promise<number> {
  const random = new SeededRandom("budgets");
  grid.onGenerate = (generation) => {
    const tokens = 1 + random.between(0, TOKENS_MAX - 2);
    generation.start();
    for (let at = 0; at < tokens; at++) generation.send([300 + at]);
    generation.send([tokenizer.stopTokenIds[0] ?? 0]);
    generation.end("stop-token");
  };
  for (;;) {
    const answers = await Promise.all(
      Array.from({ length: STREAMS }, async (_, at) => {
        const response = await grid.chat(
          { stream: true, max_tokens: TOKENS_MAX },
          bearer(secrets[at % secrets.length] ?? ""),
        );
        await response.text();
        return response.status;
      }),
    );
    expect(answers.every((status) => status === 200 || status === 429)).toBe(true);
    if (answers.every((status) => status === 429)) return await grid.spent();
  }
}

/** The most that one of these streams can cost. */
async function worthOf(grid: GatewayFixture): Promise<number> {
  const { promptTokens } = (await grid.store.receipts.list({ limit: 1 }))[0] ?? { promptTokens: 0 };
  expect(promptTokens).toBeGreaterThan(0);
  return promptTokens + 2 * TOKENS_MAX;
}

function describeBudgets(name: string, openStore: () => Promise<(directory: string) => Promise<SqlStore>>): void {
  describe(`over ${name}`, () => {
    const cap = 3_000;

    test("a key under thirty-two streams at once stops within one request's worth of its monthly cap, and stays stopped over a restart", async () => {
      const grid = await GatewayFixture.open(tokenizer, {}, null, await openStore());
      const key = await grid.addKey(40, "fal_capped", { monthlyBudgetMicroUsd: microUsd(cap) });
      const spent = await spendAll(grid, ["fal_capped"]);
      const worth = await worthOf(grid);
      expect(spent).toBeLessThanOrEqual(cap);
      expect(spent).toBeGreaterThan(cap - worth);
      expect((await grid.balance()).held).toBe(0);
      // A new life knows what the store knows, and nothing else.
      const later = new Settlement({ gridId: "grid-1" }, { ...grid.settlementPorts, store: grid.store });
      const hold = {
        requestId: requestId("req_00000000000000000000000099"),
        tenantId: key.tenantId,
        keyId: key.keyId,
        budgetMicroUsd: null,
        caps: { keyMonthMicroUsd: microUsd(cap), tenantMicroUsd: null, tenantMonthMicroUsd: null },
        amountMicroUsd: microUsd(worth),
        atMs: Math.floor(grid.clock.wallMs()),
      };
      expect(await later.hold(hold)).toMatchObject({ ok: false, reason: { code: "budget-exceeded" } });
      expect(await later.hold({ ...hold, amountMicroUsd: microUsd(cap - spent) })).toEqual({
        ok: true,
        value: undefined,
      });
      await later.voidHold(hold.requestId);
      await grid.close();
    });

    test("a tenant's cap holds over all of its keys together", async () => {
      const grid = await GatewayFixture.open(tokenizer, {}, null, await openStore());
      await grid.store.tenants.setLimits(aTenant(1).tenantId, { ...NO_LIMITS, budgetMicroUsd: microUsd(cap) });
      await grid.addKey(41, "fal_one");
      await grid.addKey(42, "fal_two");
      const spent = await spendAll(grid, ["fal_one", "fal_two"]);
      expect(spent).toBeLessThanOrEqual(cap);
      expect(spent).toBeGreaterThan(cap - (await worthOf(grid)));
      await grid.close();
    });
  });
}

describeBudgets("SQLite", () =>
  Promise.resolve((directory: string) => openSqliteStore({ path: join(directory, "grid.sqlite"), nowMs: 0 })),
);

describe.skipIf(postgresAbsent() !== null)("with a PostgreSQL server", () => {
  let server: TestPostgres;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());
  describeBudgets("PostgreSQL", async () => {
    const url = await server.createDatabase();
    return () => openPostgresStore({ url, nowMs: 0 });
  });
});

describe("a caller", () => {
  let grid: GatewayFixture;
  beforeAll(async () => {
    grid = await GatewayFixture.open(tokenizer);
    grid.onGenerate = answering(grid, "yes");
  });
  afterAll(() => grid.close());

  test("over a monthly cap is told when the next month begins, and not to try before", async () => {
    await grid.addKey(50, "fal_monthly", { monthlyBudgetMicroUsd: microUsd(60) });
    const first = await grid.chat({ max_tokens: 10 }, bearer("fal_monthly"));
    expect(first.status).toBe(200);
    expect(first.headers.get("x-ratelimit-limit-budget")).toBe("0.000060");
    const left = Number(first.headers.get("x-ratelimit-remaining-budget"));
    expect(left).toBeLessThan(0.00006);
    expect(first.headers.get("x-ratelimit-reset-budget")).toMatch(/^\d+h\d+m[\d.]+s$/);
    const refused = await errorOf(await grid.chat({ max_tokens: 24 }, bearer("fal_monthly")));
    expect(refused).toMatchObject({ status: 429, code: "budget_exceeded", type: "insufficient_quota" });
    expect(refused.message).toMatch(
      /budget for \d{4}-\d\d of 0\.000060 USD .* The next month begins at \d{4}-\d\d-01T00:00:00Z/,
    );
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(60);
    expect(refused.headers.get("x-should-retry")).toBe("false");
  });

  test("of a tenant with a rate shares it with the tenant's other keys", async () => {
    await grid.store.tenants.create({ ...aTenant(5), limits: { ...NO_LIMITS, requestsPerMinuteMax: 2 } });
    const { tenantId } = aTenant(5);
    await grid.addKey(51, "fal_rate-a", { tenantId, scopes: ["inference"] });
    await grid.addKey(52, "fal_rate-b", { tenantId, scopes: ["inference"] });
    const ask = (secret: string) => grid.chat({ max_tokens: 1 }, bearer(secret));
    const [one, two, three] = [await ask("fal_rate-a"), await ask("fal_rate-b"), await ask("fal_rate-a")];
    // The tenant has no money: what counts is that the rate let it through to there.
    expect([one.status, two.status, three.status]).toEqual([429, 429, 429]);
    expect((await errorOf(one)).code).toBe("insufficient_quota");
    expect((await errorOf(two)).code).toBe("insufficient_quota");
    expect(await errorOf(three)).toMatchObject({
      code: "rate_limit_exceeded",
      message: expect.stringContaining(`tenant ${tenantId} may send 2 requests per minute`),
    });
    expect(three.headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(three.headers.get("x-ratelimit-remaining-requests")).toBe("0");
  });

  test("of a tenant that may use some models only sees those, whatever its key says", async () => {
    await grid.store.tenants.create({ ...aTenant(6), limits: { ...NO_LIMITS, models: [modelId("other")] } });
    await grid.addKey(53, "fal_scoped", { tenantId: aTenant(6).tenantId, models: [modelId("tiny"), modelId("other")] });
    const refused = await errorOf(await grid.chat({}, bearer("fal_scoped")));
    expect(refused).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
    expect(await (await grid.request("/v1/models", undefined, bearer("fal_scoped"))).json()).toMatchObject({
      data: [],
    });
  });

  test("whose key has rules is held to them, and says with what", async () => {
    const preferences = { defaults: null, rules: { grid: { regions: ["eu"] } } };
    await grid.addKey(54, "fal_ruled", { preferences });
    const refused = await errorOf(await grid.chat({ grid: { regions: ["us"] } }, bearer("fal_ruled")));
    expect(refused).toMatchObject({ status: 400, param: "grid.regions" });
    expect(refused.message).toContain('["us"] and this key\'s rule ["eu"]');
  });
});
