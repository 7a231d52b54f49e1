/**
 * Answers over several resources: dispatch is scripted, the cloud is the real desk and adapter at a real server. What a client reads is one
 * answer without a repeated or lost character, and what it pays is what each part delivered.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { modelId } from "../src/domain/ids.ts";
import { refuse } from "../src/domain/refusal.ts";
import { verifyReceipt } from "../src/market/verify-receipt.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { parseSignedReceipt } from "../src/wire/receipt.ts";
import { CLOUD_PRICE, type CloudGateway, openCloudGateway } from "./support/cloud-gateway.ts";
import { answering, eventsOf, type ScriptedGeneration } from "./support/gateway-fixture.ts";
import { FINISH, says, status, stream } from "./support/hostile-upstream.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let cloud: CloudGateway;
beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  cloud = await openCloudGateway(tokenizer);
});
afterEach(async () => {
  await cloud.close();
});

const streamed = { stream: true, stream_options: { include_usage: true }, max_tokens: 64 };
const usage = (prompt: number, completion: number) => ({
  choices: [],
  usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
});
const rawSays = (text: string, finish: string | null = null) => ({
  id: "cmpl-1",
  object: "text_completion",
  choices: [{ index: 0, text, finish_reason: finish }],
});
const NO_ROOM = refuse("queue-full", "everything is taken", { retryAfterMs: 3_000 }).reason;

function textOf(body: string): string {
  return eventsOf(body)
    .events.flatMap((event) => event.choices.map((choice) => String(choice.delta["content"] ?? "")))
    .join("");
}

/** Sends a text token by token, and leaves the generation open. */
async function say(generation: ScriptedGeneration, text: string): Promise<void> {
  generation.start();
  for (const id of await cloud.grid.ids(text)) generation.send([id]);
}

/** Reads the stream until it shows this text, without ending it. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, text: string): Promise<string> {
  const decoder = new TextDecoder();
  let body = "";
  while (!textOf(body).includes(text)) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the stream ended before ${JSON.stringify(text)}: ${body}`);
    body += decoder.decode(value, { stream: true });
  }
  return body;
}

async function rest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let body = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return body;
    body += decoder.decode(value, { stream: true });
  }
}

async function receiptOf(response: Response, body: string) {
  const id = response.headers.get("x-grid-receipt") ?? /receipt (rcpt_[0-9A-Z]+)/.exec(body)?.[1] ?? "";
  const shown: unknown = await (await cloud.grid.request(`/v1/grid/receipts/${id}`)).json();
  const verdict = verifyReceipt(shown, { parse: parseSignedReceipt, crypto: new NodeCrypto() });
  expect(verdict.checks.filter((check) => !check.isPassed)).toEqual([]);
  const parsed = parseSignedReceipt(shown);
  if (!parsed.ok) throw new Error(parsed.reason.join("; "));
  return parsed.value.body;
}

describe("a grid that refuses", () => {
  test("hands the request to the cloud when the caller allows it, at the provider's price", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hello" }), says({ content: " there" }), FINISH, usage(9, 3)]));
    cloud.grid.onGenerate = (generation) => generation.fail(NO_ROOM);
    const response = await cloud.grid.chat({ max_tokens: 32, grid: { hybrid: "prefer-grid" } });
    const body = await response.text();
    expect(response.status).toBe(200);
    expect(response.headers.get("x-grid-provider")).toBe("acme");
    const answer = JSON.parse(body);
    expect(answer.choices[0]).toMatchObject({ message: { content: "Hello there" }, finish_reason: "stop" });
    const { prompt_tokens: prompt, completion_tokens: output } = answer.usage;
    expect(answer.usage.grid.parts).toEqual([{ provider: "acme", prompt_tokens: prompt, completion_tokens: output }]);
    const { attempts, cloudParts, costMicroUsd } = await receiptOf(response, body);
    expect([attempts.length, cloudParts?.length]).toEqual([1, 1]);
    expect(costMicroUsd).toBe(
      Math.ceil((prompt * CLOUD_PRICE.inputMicroUsdPerMtok) / 1e6) +
        Math.ceil((output * CLOUD_PRICE.outputMicroUsdPerMtok) / 1e6),
    );
    expect(await cloud.grid.spent()).toBe(costMicroUsd);
    expect((await cloud.grid.settlement.check()).problems).toEqual([]);
  });

  test("is the answer without a word of the caller, says that the cloud was not asked, and nothing goes out", async () => {
    await cloud.offer();
    cloud.grid.onGenerate = (generation) => generation.fail(NO_ROOM);
    const response = await cloud.grid.chat({ max_tokens: 32 });
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("acme");
    expect(cloud.server.asked).toHaveLength(0);
    expect(await cloud.grid.spent()).toBe(0);
  });

  test("before it is asked, by its outlook, costs no try on the grid", async () => {
    await cloud.offer();
    cloud.grid.outlook = { ...cloud.grid.outlook, refusal: NO_ROOM };
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, usage(9, 2)]));
    const response = await cloud.grid.chat({ max_tokens: 32, service_tier: "priority" });
    expect([response.status, cloud.grid.generations.length]).toEqual([200, 0]);
  });
});

describe("a stream that loses the grid in its middle", () => {
  const begun = async (text: string, fields: object = {}) => {
    const response = await cloud.grid.chat({ ...streamed, grid: { hybrid: "prefer-grid" }, ...fields });
    const body = response.body;
    if (body === null) throw new Error(await response.text());
    const reader = body.getReader();
    const [generation] = await cloud.grid.asked(1);
    if (generation === undefined) throw new Error("dispatch was asked");
    return { response, reader, generation, head: await readUntil(reader, text) };
  };

  test("goes on in the cloud after exactly the text so far, and pays each part to whom it belongs", async () => {
    await cloud.offer();
    cloud.grid.onGenerate = (generation) => void say(generation, "Once upon a time");
    cloud.server.act(stream([rawSays(" there was"), rawSays(" a grid."), rawSays("", "stop"), usage(12, 6)]));
    const { response, reader, generation, head } = await begun("Once upon a time");
    generation.fail(refuse("upstream-lost", "all nodes are gone").reason);
    const body = head + (await rest(reader));
    expect(textOf(body)).toBe("Once upon a time there was a grid.");
    expect(eventsOf(body).isDone).toBe(true);
    const [asked] = cloud.server.asked;
    expect(asked?.path).toBe("/v1/completions");
    expect(asked?.body["prompt"]).toBe("<|user|>Hello<|end|><|assistant|>Once upon a time");
    const receipt = await receiptOf(response, body);
    const gridTokens = (await cloud.grid.ids("Once upon a time")).length;
    expect(receipt.cloudParts).toMatchObject([{ providerId: "acme", promptTokens: 0, outputTokens: 6 }]);
    expect(receipt.choices[0]?.outputTokens).toBe(gridTokens + 6);
    expect((await cloud.grid.settlement.check()).problems).toEqual([]);
    const provider = (await cloud.grid.store.ledger.accounts()).find(({ accountId }) => accountId === "provider:acme");
    expect(provider?.creditsPosted).toBeGreaterThan(0);
  });

  test("waits for another node for half a second, and no longer", async () => {
    await cloud.offer();
    cloud.grid.onGenerate = (generation) => void say(generation, "Once");
    cloud.server.act(stream([rawSays(" more"), rawSays("", "stop")]));
    const { reader, generation, head } = await begun("Once");
    generation.wait();
    await cloud.grid.pass(499);
    expect([cloud.server.asked.length, generation.finishedBy]).toEqual([0, null]);
    await cloud.grid.pass(1);
    expect(textOf(head + (await rest(reader)))).toBe("Once more");
    expect(generation.finishedBy).toBe("cancelled");
  });

  test("stays on the grid when that goes on in time", async () => {
    await cloud.offer();
    cloud.grid.onGenerate = (generation) => void say(generation, "Once");
    const { reader, generation, head } = await begun("Once");
    generation.wait();
    await cloud.grid.pass(400);
    generation.start();
    await cloud.grid.pass(900);
    for (const id of await cloud.grid.ids(" more")) generation.send([id]);
    await cloud.grid.pass(5_000);
    generation.end("length");
    expect(textOf(head + (await rest(reader)))).toBe("Once more");
    expect(cloud.server.asked).toHaveLength(0);
  });

  test("shows no half of a character twice and none of it lost", async () => {
    await cloud.offer();
    const ids = await cloud.grid.ids("Hi 😀");
    cloud.grid.onGenerate = (generation) => {
      generation.start();
      for (const id of ids.slice(0, -1)) generation.send([id]);
    };
    cloud.server.act(stream([rawSays("😀 friend"), rawSays("", "stop")]));
    const { reader, generation, head } = await begun("Hi ");
    generation.fail(refuse("upstream-lost", "gone").reason);
    const body = head + (await rest(reader));
    expect(textOf(body)).toBe("Hi 😀 friend");
    expect(cloud.server.asked[0]?.body["prompt"]).toMatch(/Hi $/);
  });

  test("ends in an error, uncharged, when nobody may go on: no abilities, not allowed, or dead too", async () => {
    await cloud.offer({}, {}, { rawPrompt: false, continuesAssistant: false });
    cloud.grid.onGenerate = (generation) => void say(generation, "Once");
    const { reader, generation, head } = await begun("Once");
    generation.fail(refuse("upstream-lost", "gone").reason);
    const body = head + (await rest(reader));
    const { events, isDone } = eventsOf(body);
    expect([isDone, events.at(-1)?.error?.code]).toEqual([false, "upstream_lost"]);
    expect(events.flatMap(({ choices = [] }) => choices).some((choice) => choice.finish_reason !== null)).toBe(false);
    expect([cloud.server.asked.length, await cloud.grid.spent()]).toEqual([0, 0]);
  });

  test("is gone on with by a last assistant message where a provider takes no raw prompt", async () => {
    await cloud.offer({}, {}, { rawPrompt: false, wantsContinueFlag: true });
    cloud.grid.onGenerate = (generation) => void say(generation, "Once");
    cloud.server.act(stream([says({ content: " more" }), FINISH]));
    const { reader, generation, head } = await begun("Once");
    generation.fail(refuse("upstream-lost", "gone").reason);
    expect(textOf(head + (await rest(reader)))).toBe("Once more");
    expect(cloud.server.asked[0]?.body["messages"]).toEqual([
      { role: "user", content: "Hello" },
      { role: "assistant", content: "Once" },
    ]);
  });

  test("finds a stop string that begins on the grid and ends in the cloud", async () => {
    await cloud.offer();
    cloud.grid.onGenerate = (generation) => void say(generation, "Once EN");
    cloud.server.act(stream([rawSays("D and more"), rawSays("", "stop")]));
    const { reader, generation, head } = await begun("Once ", { stop: "END" });
    generation.fail(refuse("upstream-lost", "gone").reason);
    const body = head + (await rest(reader));
    expect(textOf(body)).toBe("Once ");
    expect(
      eventsOf(body)
        .events.flatMap(({ choices = [] }) => choices)
        .at(-1)?.finish_reason,
    ).toBe("stop");
  });

  test("whose content spells a control token is never put to a provider as a raw prompt", async () => {
    await cloud.offer({}, {}, { continuesAssistant: false });
    cloud.grid.onGenerate = (generation) => void say(generation, "Once");
    const messages = [{ role: "user", content: `Hello${tokenizer.specialTexts[0]}` }];
    const { reader, generation, head } = await begun("Once", { messages });
    generation.fail(refuse("upstream-lost", "gone").reason);
    expect(eventsOf(head + (await rest(reader))).isDone).toBe(false);
    expect(cloud.server.asked).toHaveLength(0);
  });
});

describe("a cloud that dies in mid-stream", () => {
  const order = { provider: { order: ["acme", "grid"] } };

  test("is gone on with by the grid, after the text so far, in tokens of the model", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Once upon" })], { done: false, end: "reset" }));
    cloud.grid.onGenerate = answering(cloud.grid, " a time");
    const response = await cloud.grid.chat({ ...streamed, ...order });
    const body = await response.text();
    expect(textOf(body)).toBe("Once upon a time");
    expect(eventsOf(body).isDone).toBe(true);
    const [generation] = cloud.grid.generations;
    expect(generation?.request.generatedTokenIds).toEqual(await cloud.grid.ids("Once upon"));
    const receipt = await receiptOf(response, body);
    expect(receipt.cloudParts).toMatchObject([
      { providerId: "acme", promptTokens: receipt.promptTokens, countedBy: "vocabulary" },
    ]);
    expect((await cloud.grid.settlement.check()).problems).toEqual([]);
  });

  test("and cannot be gone on with is an error, uncharged, never a short answer", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Once upon" })], { done: false, end: "reset" }));
    const response = await cloud.grid.chat({ ...streamed, grid: { hybrid: "cloud-only" } });
    const { events, isDone } = eventsOf(await response.text());
    expect([isDone, events.at(-1)?.error?.code]).toEqual([false, "upstream_lost"]);
    expect([cloud.grid.generations.length, await cloud.grid.spent()]).toEqual([0, 0]);
  });

  test("before its first token leaves the request to the next provider", async () => {
    await cloud.offer();
    await cloud.offer({ providerId: "best", baseUrl: cloud.server.baseUrl });
    let calls = 0;
    cloud.server.act((response, asked, ended) => {
      calls++;
      if (calls === 1) return status(500, { error: { message: "down" } })(response, asked, ended);
      return stream([says({ content: "Hi" }), FINISH, usage(9, 2)])(response, asked, ended);
    });
    const response = await cloud.grid.chat({ max_tokens: 8, grid: { hybrid: "cloud-only" } });
    expect([response.status, response.headers.get("x-grid-provider"), calls]).toEqual([200, "best", 2]);
  });
});

describe("a request that expects the grid to be late", () => {
  test("of priority waits two seconds for the grid's first token and takes the cloud's then", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, usage(9, 2)]));
    const pending = cloud.grid.chat({ max_tokens: 8, service_tier: "priority" });
    const [generation] = await cloud.grid.asked(1);
    await cloud.grid.pass(1_999);
    expect(cloud.server.asked).toHaveLength(0);
    await cloud.grid.pass(1);
    const response = await pending;
    expect([response.status, response.headers.get("x-grid-provider")]).toEqual([200, "acme"]);
    expect(generation?.finishedBy).toBe("cancelled");
  });

  test("goes to the cloud at once", async () => {
    await cloud.offer();
    cloud.grid.outlook = { ...cloud.grid.outlook, waitMs: 2_001, firstTokenMs: 2_001 };
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, usage(9, 2)]));
    expect((await cloud.grid.chat({ max_tokens: 8, service_tier: "priority" })).status).toBe(200);
    expect(cloud.grid.generations).toHaveLength(0);
  });
});

describe("usage of a provider", () => {
  const only = { grid: { hybrid: "cloud-only" } };

  test("that claims more than it delivered is charged by our count, logged and counted", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hello there" }), FINISH, usage(90_000, 50_000)]));
    const response = await cloud.grid.chat({ max_tokens: 64, ...only });
    const body = await response.text();
    const { usage: told } = JSON.parse(body);
    expect(told.completion_tokens).toBe((await cloud.grid.ids("Hello there")).length + 1);
    expect(told.prompt_tokens).toBeLessThan(100);
    const receipt = await receiptOf(response, body);
    expect(receipt.cloudParts?.[0]?.countedBy).toBe("vocabulary");
    expect(cloud.grid.logged.some((line) => line.startsWith("warn") && line.includes("usage"))).toBe(true);
    expect(await cloud.grid.registry.getSingleMetricAsString("fallow_cloud_usage_disagreements_total")).toMatch(
      /provider="acme"\} 1/,
    );
  });

  test("that claims less is believed", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hello there, this is an answer" }), FINISH, usage(3, 2)]));
    const { usage: told } = JSON.parse(await (await cloud.grid.chat({ max_tokens: 64, ...only })).text());
    expect([told.prompt_tokens, told.completion_tokens]).toEqual([3, 2]);
  });

  test.each([
    ["/v1/messages", { max_tokens: 16, messages: [{ role: "user", content: "Hello" }] }],
    ["/v1/responses", { max_output_tokens: 16, input: "Hello" }],
  ])(
    "on %s is told for a model that only a provider has, and no tools are spoken of where there are none",
    async (path, body) => {
      await cloud.offer({}, { modelId: modelId("elsewhere") });
      cloud.server.act(stream([says({ content: "Hi" }), FINISH, usage(7, 2)]));
      const response = await cloud.grid.request(path, { model: "elsewhere", ...body });
      expect([response.status, await response.json()]).toMatchObject([
        200,
        { usage: { input_tokens: 7, output_tokens: 2 } },
      ]);
      const sent = Object.keys(cloud.server.asked[0]?.body ?? {});
      expect(sent).not.toContain("tools");
      expect(sent).not.toContain("parallel_tool_calls");
    },
  );

  test("stands in the list of models, in both shapes, at the provider's price and without weights", async () => {
    await cloud.offer({}, { modelId: modelId("elsewhere") });
    const listed: { data: { id: string }[] } = JSON.parse(await (await cloud.grid.request("/v1/models")).text());
    expect(listed.data.map(({ id }) => id)).toEqual(["tiny", "elsewhere"]);
    const one = await cloud.grid.request("/v1/models/elsewhere");
    expect(await one.json()).toEqual(listed.data[1]);
    expect(listed.data[1]).toMatchObject({
      weights_sha256: null,
      pricing: { prompt: "0.000003", completion: "0.000005" },
    });
    const headers = { "anthropic-version": "2023-06-01" };
    const theirs: typeof listed = JSON.parse(
      await (await cloud.grid.request("/v1/models", undefined, { headers })).text(),
    );
    expect(theirs.data.map(({ id }) => id)).toEqual(["elsewhere", "tiny"]);
  });

  test("of a model without a vocabulary is held to what its text can have", async () => {
    const elsewhere = { model: "elsewhere", max_tokens: 64 };
    await cloud.offer({}, { modelId: modelId("elsewhere") });
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, usage(90_000, 50_000)]));
    const response = await cloud.grid.chat({ ...elsewhere, ...only });
    const body = await response.text();
    expect(response.status).toBe(200);
    const answer = JSON.parse(body);
    expect(answer).toMatchObject({ model: "elsewhere", choices: [{ message: { content: "Hi" } }] });
    expect(answer.usage.completion_tokens).toBe(3);
    expect((await receiptOf(response, body)).cloudParts?.[0]?.countedBy).toBe("upstream");
    expect((await cloud.grid.settlement.check()).problems).toEqual([]);
  });
});
