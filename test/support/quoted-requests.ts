/** Drawn requests, each quoted and then sent: what was promised is held against what came. */
import { expect } from "vitest";
import type { AttemptRecord } from "../../src/domain/attempt.ts";
import { SERVICE_TIERS } from "../../src/domain/tier.ts";
import type { SeededRandom } from "../../src/sim/time/random.ts";
import { quoteSchema } from "../../src/wire/openai/quote.ts";
import type { GatewayFixture } from "./gateway-fixture.ts";
import { madeId, nodeIdOf } from "./store-samples.ts";

export interface QuotedCounts {
  readonly answered: number;
  readonly refused: number;
  /** Charged, over what was bound to be held: how much of the bounds was used. */
  readonly share: number;
}

const WORDS = ["In", "the", "beginning", "God", "created", "heaven", "and", "earth", "über", "汉"];

function drawText(random: SeededRandom): string {
  return Array.from({ length: random.between(1, 30) }, () => random.pick(WORDS)).join(" ");
}

function drawTerms(random: SeededRandom): Record<string, unknown> {
  const terms: Record<string, unknown> = { model: "tiny" };
  if (random.chance(0.8)) terms["service_tier"] = random.pick([...SERVICE_TIERS, "auto"]);
  if (random.chance(0.3)) terms["grid"] = { max_cost_usd: random.pick([0.0001, 0.0005, 0.003]) };
  if (random.chance(0.2)) terms["provider"] = { max_price: { completion: random.pick([0.5, 1, 2.5]) } };
  return terms;
}

function drawRequest(random: SeededRandom): { endpoint: string; body: Record<string, unknown> } {
  const terms = drawTerms(random);
  const kind = random.pick(["chat", "chat", "completion", "embedding"]);
  if (kind === "embedding") {
    const input = Array.from({ length: random.between(1, 4) }, () => drawText(random));
    return { endpoint: "/v1/embeddings", body: { ...terms, input } };
  }
  const stream = random.chance(0.5);
  const tokens = random.chance(0.8) ? { max_tokens: random.between(1, 200) } : {};
  const n = random.between(1, 3);
  if (kind === "chat") {
    const messages = [{ role: "user", content: drawText(random) }];
    return { endpoint: "/v1/chat/completions", body: { ...terms, ...tokens, messages, n, stream } };
  }
  const prompt = Array.from({ length: random.between(1, 3) }, () => drawText(random));
  return { endpoint: "/v1/completions", body: { ...terms, ...tokens, prompt, n, stream } };
}

/** Answers as long as the draw says, up to the last token that is allowed. */
function answerDrawn(grid: GatewayFixture, random: SeededRandom): void {
  grid.onGenerate = (generation) => {
    const { tokensMax } = generation.request;
    const tokens = random.chance(0.3) ? tokensMax : random.between(1, tokensMax);
    generation.start();
    for (let at = 0; at < tokens; at++) generation.send([300 + (at % 40)]);
    generation.end("length");
  };
  grid.onEmbed = (inputs) => ({
    ok: true,
    vectors: inputs.map(() => new Float32Array([1, 0, 0, 0])),
    attempts: [embeddingAttempt()],
    nodeId: nodeIdOf(1),
  });
}

function embeddingAttempt(): AttemptRecord {
  return {
    attemptId: madeId("att", 1),
    leaseId: madeId("lease", 1),
    epoch: 1,
    nodeId: nodeIdOf(1),
    nodePublicKeyHex: "00".repeat(32),
    choice: 0,
    acknowledgedTokens: 0,
    ending: "finished",
    detail: null,
    statementJson: null,
    signatureHex: null,
  };
}

export async function quoteAndSend(grid: GatewayFixture, random: SeededRandom, count: number): Promise<QuotedCounts> {
  answerDrawn(grid, random);
  let [answered, charged, bound] = [0, 0, 0];
  for (let at = 0; at < count; at++) {
    const drawn = drawRequest(random);
    const before = await grid.balance();
    const asked = await grid.request("/v1/grid/quote", drawn);
    const text = await asked.text();
    expect([asked.status, text.slice(0, 200)]).toEqual([200, expect.anything()]);
    expect(await grid.balance()).toEqual(before);
    const quote = quoteSchema.parse(JSON.parse(text));
    const [own] = quote.tiers.filter((tier) => tier.is_requested);
    if (own === undefined) throw new Error("one of the tiers is the requested one");
    const response = await grid.request(drawn.endpoint, drawn.body);
    const answer = await response.text();
    const context = JSON.stringify({ drawn, own, answer: answer.slice(0, 300) });
    expect(response.status === 200, context).toBe(own.can_run);
    const cost = before.available - (await grid.balance()).available;
    if (response.status !== 200) {
      expect(cost, context).toBe(0);
      expect(own.refusal?.code, context).toBe(JSON.parse(answer).error.code);
      continue;
    }
    const most = Math.round(Number(own.max_cost_usd) * 1e6);
    expect(cost, context).toBeLessThanOrEqual(most);
    const { data } = JSON.parse(await (await grid.request("/v1/grid/receipts?limit=1")).text());
    expect(data[0].service_tier).toBe(own.service_tier);
    expect(data[0].prompt_tokens).toBe(quote.tokens.prompt);
    expect(data[0].completion_tokens).toBeLessThanOrEqual(quote.tokens.completion_max);
    answered += 1;
    charged += cost;
    bound += most;
  }
  return { answered, refused: count - answered, share: charged / bound };
}
