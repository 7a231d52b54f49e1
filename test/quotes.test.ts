/** What a quote promises, and what a request that is sent right after it then costs. A thousand drawn requests are in test/soak/. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { type Quote, quoteSchema } from "../src/wire/openai/quote.ts";
import { GatewayFixture } from "./support/gateway-fixture.ts";
import { quoteAndSend } from "./support/quoted-requests.ts";
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
});
afterEach(() => grid.close());

const BODY = { model: "tiny", messages: [{ role: "user", content: "Hello" }], max_tokens: 100 };

async function quoted(body: object, endpoint?: string): Promise<Quote> {
  const response = await grid.request("/v1/grid/quote", { body, ...(endpoint === undefined ? {} : { endpoint }) });
  return quoteSchema.parse(await response.json());
}

async function refused(body: unknown) {
  const response = await grid.request("/v1/grid/quote", body);
  return { status: response.status, ...errorBodySchema.parse(await response.json()).error };
}

describe("a quote", () => {
  test("gives each tier's price, bound, wait and promise, and the tier that was asked for", async () => {
    grid.outlook = { ...grid.outlook, waitMs: 1_200, firstTokenMs: 1_234.4, queuePosition: 3, outputShare: 0.5 };
    const quote = await quoted({ ...BODY, service_tier: "flex" });
    const { prompt } = quote.tokens;
    expect(quote).toMatchObject({
      object: "grid.quote",
      model: "tiny",
      endpoint: "/v1/chat/completions",
      tokens: { completion_max: 100, completion_expected: 50, choices: 1 },
    });
    const usd = (micro: number) => (micro / 1e6).toFixed(6);
    expect(quote.tiers.map((tier) => [tier.service_tier, tier.is_requested, tier.max_cost_usd])).toEqual([
      ["priority", false, usd(Math.ceil(prompt * 1.5) + 300)],
      ["default", false, usd(prompt + 200)],
      ["flex", true, usd(Math.ceil(prompt * 0.5) + 100)],
    ]);
    expect(quote.tiers[1]).toMatchObject({
      can_run: true,
      refusal: null,
      pricing: { prompt: "0.000001", completion: "0.000002" },
      expected_cost_usd: usd(prompt + 100),
      eta_ms: 1_234,
      queue_position: 3,
      candidates: [{ provider: "grid" }],
      forbidden: [],
    });
  });

  test("takes no money, no tokens of the rate, and runs nothing", async () => {
    await grid.addKey(60, "fal_quoting", { tokensPerMinuteMax: 150 });
    const headers = { authorization: "Bearer fal_quoting" };
    for (let asked = 0; asked < 5; asked++) {
      const response = await grid.request("/v1/grid/quote", { body: BODY }, { headers });
      expect(response.status).toBe(200);
      expect(response.headers.get("x-ratelimit-remaining-tokens")).toBe("150");
    }
    expect(grid.generations).toEqual([]);
    expect(await grid.balance()).toEqual({ available: 10_000_000, held: 0 });
  });

  test("says what would be answered, and which rule forbids whom", async () => {
    const quote = await quoted({ ...BODY, provider: { max_price: { completion: 1.5 } } });
    expect(quote.tiers.map(({ service_tier, can_run }) => [service_tier, can_run])).toEqual([
      ["priority", false],
      ["default", false],
      ["flex", true],
    ]);
    expect(quote.tiers[1]?.forbidden).toMatchObject([{ provider: "grid", rule: "provider.max_price" }]);
    expect(quote.tiers[1]?.refusal).toMatchObject({
      code: "no_capable_node",
      message: expect.stringContaining("raise"),
    });
  });

  test("is shortened by a bound on cost where nobody asked for a length, and so is the answer", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      for (let at = 0; at < generation.request.tokensMax; at++) generation.send([300]);
      generation.end("length");
    };
    const { max_tokens: _, ...body } = { ...BODY, grid: { max_cost_usd: 0.0001 } };
    const quote = await quoted(body);
    const { prompt, completion_max } = quote.tokens;
    expect(prompt + 2 * completion_max).toBeLessThanOrEqual(100);
    expect(prompt + 2 * (completion_max + 1)).toBeGreaterThan(100);
    const answer = await grid.chat({ grid: { max_cost_usd: 0.0001 } });
    expect(answer.status).toBe(200);
    expect(await grid.spent()).toBe(prompt + 2 * completion_max);
  });

  test("of embeddings, and of an endpoint or a body that is none", async () => {
    const quote = await quoted({ model: "tiny", input: ["a", "b"] }, "/v1/embeddings");
    expect(quote.tokens).toMatchObject({ completion_max: 0, completion_expected: 0 });
    expect(await refused({ body: BODY, endpoint: "/v1/nothing" })).toMatchObject({
      status: 400,
      param: "endpoint",
      message: expect.stringContaining("/v1/chat/completions, /v1/completions, /v1/embeddings"),
    });
    expect(await refused({ body: { ...BODY, model: "none" } })).toMatchObject({ status: 404, code: "model_not_found" });
    expect(await refused({ body: { ...BODY, service_tier: "gold" } })).toMatchObject({
      status: 400,
      param: "service_tier",
      message: expect.stringContaining('"auto", "default", "flex", "priority"'),
    });
    expect(await refused(BODY)).toMatchObject({ status: 400, param: "body" });
  });
});

test("the charge of each of 120 drawn requests is within its quote, and what is refused was quoted as refused", async () => {
  const { answered, refused: turnedAway, share } = await quoteAndSend(grid, new SeededRandom("quotes"), 120);
  expect(answered).toBeGreaterThan(60);
  expect(turnedAway).toBeGreaterThan(5);
  expect(share).toBeGreaterThan(0.3);
});
