/** Keys, limits, probes, lists, completions and embeddings. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { planEmbeddings } from "../src/coordinator/gateway/embeddings.ts";
import { PreparedModels } from "../src/coordinator/gateway/plans/prepared-model.ts";
import { modelId } from "../src/domain/ids.ts";
import { microUsd } from "../src/domain/money.ts";
import { NO_PREFERENCES } from "../src/domain/preferences.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { completionSchema, embeddingListSchema, modelListSchema } from "../src/wire/openai/responses.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
import { nodeIdOf } from "./support/store-samples.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
  grid = await GatewayFixture.open(tokenizer);
});
afterAll(async () => {
  await grid.close();
  await closeTokenizer();
});
beforeEach(() => {
  grid.onGenerate = answering(grid, "and it was so.");
});

async function refused(response: Response | Promise<Response>) {
  const answer = await response;
  const { error } = errorBodySchema.parse(await answer.json());
  expect(answer.headers.get("x-request-id")).toMatch(/^req_/);
  return { status: answer.status, headers: answer.headers, ...error };
}

describe("a key", () => {
  const as = (secret: string, init: { method?: string } = {}) =>
    grid.request("/v1/models", undefined, { headers: { authorization: `Bearer ${secret}` }, ...init });

  test("that is missing, wrong, malformed, revoked or expired is 401 with its own words", async () => {
    const headers = { authorization: "" };
    expect(await refused(grid.request("/v1/models", undefined, { headers }))).toMatchObject({
      status: 401,
      code: "invalid_api_key",
    });
    const bare = await grid.gateway.fetch(new Request("http://grid.test/v1/models"), { remoteAddress: null });
    expect(await refused(bare)).toMatchObject({ status: 401, code: "missing_api_key" });
    expect(bare.headers.get("www-authenticate")).toBe("Bearer");
    expect(await refused(as("fal_wrong-secret-of-nobody"))).toMatchObject({
      status: 401,
      message: expect.stringContaining("fal_wron…"),
    });
    const expired = await grid.addKey(20, "fal_expired", { expiresAtMs: 1 });
    expect(await refused(as("fal_expired"))).toMatchObject({
      status: 401,
      message: `the API key ${expired.keyId} expired at 1970-01-01T00:00:00Z`,
    });
    const revoked = await grid.addKey(21, "fal_revoked");
    expect((await as("fal_revoked")).status).toBe(200);
    await grid.store.keys.revoke(revoked.keyId, 1_700_000_000_000);
    grid.gateway.forgetKey(revoked.keyId);
    expect(await refused(as("fal_revoked"))).toMatchObject({
      status: 401,
      message: expect.stringContaining("was revoked at 2023-11-14T22:13:20Z"),
    });
  });

  test("that was revoked elsewhere works no longer than a few seconds", async () => {
    const key = await grid.addKey(22, "fal_elsewhere");
    expect((await as("fal_elsewhere")).status).toBe(200);
    await grid.store.keys.revoke(key.keyId, 1_700_000_000_000);
    await grid.pass(5_001);
    expect((await as("fal_elsewhere")).status).toBe(401);
  });

  test("without the scope is 403", async () => {
    await grid.addKey(23, "fal_usage-only", { scopes: ["usage"] });
    expect(await refused(as("fal_usage-only"))).toMatchObject({
      status: 403,
      type: "permission_error",
      message: expect.stringContaining("this needs inference"),
    });
  });

  test("for other models sees neither the model nor its name in the list", async () => {
    await grid.addKey(24, "fal_other-model", { models: [modelId("other")] });
    expect(await (await as("fal_other-model")).json()).toEqual({ object: "list", data: [] });
    const headers = { authorization: "Bearer fal_other-model" };
    expect(await refused(grid.chat({}, { headers }))).toMatchObject({ status: 404, code: "model_not_found" });
  });

  test("beyond its rate gets 429 with the time to wait, and its headers say where it stands", async () => {
    await grid.addKey(25, "fal_slow", { requestsPerMinuteMax: 2, tokensPerMinuteMax: 600 });
    const headers = { authorization: "Bearer fal_slow" };
    const first = await grid.chat({ max_tokens: 100 }, { headers });
    expect(Object.fromEntries(first.headers)).toMatchObject({
      "x-ratelimit-limit-requests": "2",
      "x-ratelimit-remaining-requests": "1",
      "x-ratelimit-reset-requests": "30s",
      "x-ratelimit-limit-tokens": "600",
    });
    const tooMany = await refused(grid.chat({ max_tokens: 700 }, { headers }));
    expect(tooMany).toMatchObject({
      status: 429,
      code: "rate_limit_exceeded",
      message: expect.stringContaining("ask for fewer tokens"),
    });
    const third = await refused(grid.chat({}, { headers }));
    expect(third).toMatchObject({ status: 429, type: "rate_limit_error" });
    expect(third.headers.get("retry-after")).toBe("30");
    expect(third.headers.get("x-should-retry")).toBe("true");
    await grid.pass(30_000);
    expect((await grid.chat({ max_tokens: 10 }, { headers })).status).toBe(200);
  });

  test("over its budget, or a tenant without funds, is told not to try again", async () => {
    await grid.addKey(26, "fal_poor", { budgetMicroUsd: microUsd(3) });
    const answer = await refused(grid.chat({}, { headers: { authorization: "Bearer fal_poor" } }));
    expect(answer).toMatchObject({ status: 429, type: "insufficient_quota", code: "budget_exceeded" });
    expect(answer.headers.get("x-should-retry")).toBe("false");
  });
});

describe("other routes", () => {
  test("that do not exist are 404, and methods that do not are 405 with those that do", async () => {
    expect(await refused(grid.request("/v1/nothing"))).toMatchObject({ status: 404, code: "not_found" });
    const get = await refused(grid.request("/v1/chat/completions"));
    expect([get.status, get.code, get.headers.get("allow")]).toEqual([405, "method_not_allowed", "POST"]);
    expect((await refused(grid.request("/v1/models", "{}"))).headers.get("allow")).toBe("GET");
  });

  test("answer probes without a key", async () => {
    const ask = (path: string, remoteAddress: string) =>
      grid.gateway.fetch(new Request(`http://grid.test${path}`), { remoteAddress });
    expect(await (await ask("/health", "203.0.113.9")).json()).toEqual({ status: "ok", version: "0.0.0" });
    expect((await ask("/ready", "203.0.113.9")).status).toBe(200);
    grid.readyReplicas = 0;
    expect((await ask("/ready", "203.0.113.9")).status).toBe(503);
    grid.readyReplicas = 1;
    expect((await ask("/metrics", "203.0.113.9")).status).toBe(401);
    const metrics = await (await ask("/metrics", "127.0.0.1")).text();
    expect(metrics).toContain('fallow_requests_total{route="/v1/chat/completions",status="200"}');
  });

  test("describe themselves as OpenAPI whose references all lead somewhere", async () => {
    const response = await grid.request("/openapi.json");
    const document: { openapi: string; paths: object; components: { schemas: object } } = JSON.parse(
      await response.text(),
    );
    expect(document.openapi).toBe("3.1.0");
    const paths = ["/v1/chat/completions", "/v1/responses", "/v1/responses/{id}", "/v1/messages/count_tokens"];
    expect(Object.keys(document.paths)).toEqual(expect.arrayContaining(paths));
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(
      (match) => match[1],
    );
    expect(references.filter((name) => !Object.hasOwn(document.components.schemas, name ?? ""))).toEqual([]);
  });

  test("list models with what routers ask for", async () => {
    const list = modelListSchema.parse(await (await grid.request("/v1/models")).json());
    expect(list.data[0]).toMatchObject({
      id: "tiny",
      context_length: 1024,
      quantization: "int8",
      weights_quantization: "Q8_0",
      pricing: { prompt: "0.000001", completion: "0.000002" },
    });
    expect(await (await grid.request("/v1/models/tiny")).json()).toEqual(list.data[0]);
    expect((await grid.request("/v1/models/no/such")).status).toBe(404);
  });

  test("complete prompts of every form, each with its choices", async () => {
    const ids = await grid.ids("In the beginning");
    for (const [prompt, choices] of [
      ["In the beginning", 1],
      [["a", "b"], 2],
      [ids, 1],
      [[ids, ids], 2],
    ] as const) {
      const response = await grid.request("/v1/completions", { model: "tiny", prompt, n: 2 });
      const answer = completionSchema.parse(await response.json());
      expect(answer.choices.map((choice) => [choice.index, choice.text, choice.finish_reason])).toEqual(
        Array.from({ length: choices * 2 }, (_, index) => [index, "and it was so.", "stop"]),
      );
    }
    expect(await refused(grid.request("/v1/completions", { model: "tiny", prompt: "x", echo: true }))).toMatchObject({
      param: "echo",
      code: "unsupported_parameter",
    });
    expect(await refused(grid.request("/v1/completions", { model: "tiny", prompt: "x", suffix: "y" }))).toMatchObject({
      param: "suffix",
      code: "unsupported_parameter",
    });
    expect(await refused(grid.request("/v1/completions", { model: "tiny", prompt: [99_999] }))).toMatchObject({
      param: "prompt",
    });
  });

  test("embed texts and token ids, as numbers and as base64", async () => {
    grid.onEmbed = (inputs) => ({
      ok: true,
      vectors: inputs.map((_, index) => Float32Array.of(index, 0.5, -1, 0)),
      attempts: [],
      nodeId: nodeIdOf(1),
    });
    const floats = embeddingListSchema.parse(
      await (await grid.request("/v1/embeddings", { model: "tiny", input: ["a b", "c"] })).json(),
    );
    expect(floats.data.map((row) => row.embedding)).toEqual([
      [0, 0.5, -1, 0],
      [1, 0.5, -1, 0],
    ]);
    const text = embeddingListSchema.parse(
      await (
        await grid.request("/v1/embeddings", { model: "tiny", input: [5, 6], encoding_format: "base64", dimensions: 4 })
      ).json(),
    );
    expect(text.usage).toEqual({ prompt_tokens: 2, total_tokens: 2 });
    const bytes = Buffer.from(String(text.data[0]?.embedding), "base64");
    expect([...new Float32Array(bytes.buffer, bytes.byteOffset, 4)]).toEqual([0, 0.5, -1, 0]);
    expect(await refused(grid.request("/v1/embeddings", { model: "tiny", input: "a", dimensions: 3 }))).toMatchObject({
      param: "dimensions",
      code: "unsupported_parameter",
    });
    expect(await refused(grid.request("/v1/embeddings", { model: "tiny", input: "" }))).toMatchObject({
      param: "input",
    });
    grid.onEmbed = () => ({ ok: false, reason: refuse("no-capable-node", "no node has it").reason, attempts: [] });
    expect(await refused(grid.request("/v1/embeddings", { model: "tiny", input: "a" }))).toMatchObject({
      status: 503,
      code: "no_capable_node",
    });
    expect((await grid.balance()).held).toBe(0);
  });

  test("take no more inputs for an embedding than their vectors fit a frame, and say how many those are", async () => {
    const wide = { ...grid.manifest, embeddingLength: 8_192 };
    const model = await new PreparedModels().prepare({ manifest: wide, tokenizer: grid.tokenizer });
    const ASKED = { tier: "default", preferences: NO_PREFERENCES } as const;
    const inputs = (count: number) => ({ model: "tiny", input: Array.from({ length: count }, () => [5]) });
    expect(await planEmbeddings(inputs(383), model, ASKED)).toMatchObject({ ok: true });
    expect(await planEmbeddings(inputs(384), model, ASKED)).toMatchObject({
      ok: false,
      reason: { code: "invalid-request", param: "input", message: expect.stringContaining("at most 383") },
    });
  });

  test("say of too many texts for an embedding how many are too many, not that texts are wrong", async () => {
    const input = Array.from({ length: 2_049 }, () => "a");
    expect(await refused(grid.request("/v1/embeddings", { model: "tiny", input }))).toMatchObject({
      param: "input",
      message: "parameter 'input' is an array of 2049; at most 2048 items is allowed",
    });
  });

  test("show usage and receipts of the tenant alone", async () => {
    const usage: { data: { requests: number }[] } = JSON.parse(await (await grid.request("/v1/grid/usage")).text());
    expect(usage.data[0]?.requests).toBeGreaterThan(0);
    const receipts: { data: { id: string }[] } = JSON.parse(
      await (await grid.request("/v1/grid/receipts?limit=2")).text(),
    );
    expect(receipts.data).toHaveLength(2);
    expect(await refused(grid.request("/v1/grid/receipts?limit=x"))).toMatchObject({ status: 400, param: "limit" });
    expect(await refused(grid.request("/v1/grid/receipts/rcpt_0"))).toMatchObject({ status: 404 });
    expect(await (await grid.request("/v1/grid/checkpoint")).text()).toContain("grid-1");
  });

  test("never log prompts, answers or keys", () => {
    const log = grid.logged.join("\n");
    for (const secret of ["Hello", "and it was so", grid.secret, "verily"]) expect(log).not.toContain(secret);
  });
});
