/** How answers of cloud providers begin and end: for clients that leave, ask twice, want several choices, tools or JSON. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { modelId } from "../src/domain/ids.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { type CloudGateway, openCloudGateway } from "./support/cloud-gateway.ts";
import { eventsOf } from "./support/gateway-fixture.ts";
import { FINISH, says, stream, USAGE } from "./support/hostile-upstream.ts";
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

const ONLY = { max_tokens: 64, grid: { hybrid: "cloud-only" } };
const TOOL = { type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } };
const call = (fields: object) => says({ tool_calls: [{ index: 0, ...fields }] });

interface Whole {
  readonly choices: readonly { readonly message: Record<string, unknown>; readonly finish_reason: string }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}
async function whole(fields: object): Promise<Whole> {
  const response = await cloud.grid.chat({ ...ONLY, ...fields });
  expect(response.status).toBe(200);
  return JSON.parse(await response.text());
}

describe("an answer of a provider", () => {
  test("whose client leaves pays for what was written to it, and the provider is told to stop", async () => {
    await cloud.offer();
    const gone = Promise.withResolvers<void>();
    cloud.server.act((response, asked, ended) => {
      void ended.then(gone.resolve);
      return stream([says({ content: "Hello there" })], { done: false, end: false })(response, asked, ended);
    });
    const response = await cloud.grid.chat({ ...ONLY, stream: true });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    await gone.promise;
    await cloud.grid.gateway.drain(60_000);
    const [receipt] = await cloud.grid.store.receipts.list({ limit: 1 });
    const tokens = (await cloud.grid.ids("Hello there")).length;
    expect(receipt).toMatchObject({ outputTokens: tokens });
    expect(await cloud.grid.spent()).toBe(receipt?.costMicroUsd);
    expect(await cloud.grid.balance()).toMatchObject({ held: 0 });
    expect((await cloud.grid.settlement.check()).problems).toEqual([]);
  });

  test("is given once for one idempotency key", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, USAGE]));
    const once = { headers: { "idempotency-key": "k" } };
    const first = await (await cloud.grid.chat(ONLY, once)).text();
    const spent = await cloud.grid.spent();
    const again = await cloud.grid.chat(ONLY, once);
    expect([await again.text(), again.headers.get("idempotent-replayed")]).toEqual([first, "true"]);
    expect([cloud.server.asked.length, await cloud.grid.spent()]).toEqual([1, spent]);
  });

  test("with several choices asks for each, and charges the prompt once", async () => {
    await cloud.offer();
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, USAGE]));
    const one = await whole({});
    const two = await whole({ n: 2 });
    expect(two.choices.map(({ message }) => message["content"])).toEqual(["Hi", "Hi"]);
    expect(cloud.server.asked.map(({ body }) => body["n"])).toEqual([undefined, undefined, undefined]);
    expect(two.usage.prompt_tokens).toBe(one.usage.prompt_tokens);
    expect(two.usage.completion_tokens).toBe(2 * one.usage.completion_tokens);
  });

  test("with several choices of a model without a vocabulary has the prompt that the provider counts", async () => {
    await cloud.offer({}, { modelId: modelId("elsewhere") });
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, USAGE]));
    expect((await whole({ model: "elsewhere", n: 2 })).usage).toMatchObject({ prompt_tokens: 7, completion_tokens: 4 });
  });

  test("shows its calls and its reasoning in our shape, with ids of ours", async () => {
    await cloud.offer();
    cloud.server.act(
      stream([
        says({ reasoning_content: "Let me look." }),
        call({ id: "theirs", type: "function", function: { name: "weather", arguments: "" } }),
        call({ function: { arguments: '{"at":' } }),
        call({ function: { arguments: '"home"}' } }),
        says({}, { finish: "tool_calls" }),
        USAGE,
      ]),
    );
    const answer = await whole({ tools: [TOOL] });
    expect(answer.choices).toMatchObject([
      {
        message: {
          content: null,
          reasoning_content: "Let me look.",
          tool_calls: [
            { id: expect.stringMatching(/^call_/), function: { name: "weather", arguments: '{"at":"home"}' } },
          ],
        },
        finish_reason: "tool_calls",
      },
    ]);
  });

  test.each([
    ["its content filter ends", stream([says({ content: "Hello" }), says({}, { finish: "content_filter" }), USAGE])],
    [
      "breaks off in a call",
      stream([call({ id: "x", type: "function", function: { name: "weather", arguments: "{" } })], {
        done: false,
        end: "reset",
      }),
    ],
  ])("that %s is an error, uncharged, and nobody goes on with it", async (_, act) => {
    await cloud.offer();
    cloud.server.act(act);
    const asked = { max_tokens: 64, stream: true, tools: [TOOL], provider: { order: ["acme", "grid"] } };
    // An error event, or where nothing was read before it an answer with the error's status.
    const body = await (await cloud.grid.chat(asked)).text();
    expect([body.includes("[DONE]"), body.includes('"upstream_lost"')]).toEqual([false, true]);
    expect(body).not.toContain('"finish_reason":"stop"');
    expect([cloud.grid.generations.length, await cloud.grid.spent()]).toEqual([0, 0]);
  });
});

describe("an answer of the grid", () => {
  const lost = refuse("upstream-lost", "all nodes are gone").reason;

  test("that is held to JSON does not go on where nothing holds it to that", async () => {
    await cloud.offer();
    const begun = '{"a": ';
    cloud.grid.onGenerate = (generation) => {
      generation.start();
      void cloud.grid.ids(begun).then((ids) => {
        for (const id of ids) generation.send([id]);
        generation.fail(lost);
      });
    };
    const response = await cloud.grid.chat({
      ...{ max_tokens: 64, stream: true, response_format: { type: "json_object" } },
      grid: { hybrid: "prefer-grid" },
    });
    expect(eventsOf(await response.text()).isDone).toBe(false);
    expect([cloud.server.asked.length, await cloud.grid.spent()]).toEqual([0, 0]);
  });

  test("keeps its rules on nodes, with the cloud and without", async () => {
    const grid = { exclude_regions: ["us"], trust_min: 0.5 };
    const constraints = { excludedRegions: ["us"], trustMin: 0.5, priceMicroUsdPerHourMax: null };
    cloud.grid.onGenerate = (generation) => generation.fail(lost);
    await cloud.grid.chat({ max_tokens: 8, grid });
    await cloud.offer();
    await cloud.grid.chat({ max_tokens: 8, grid: { ...grid, hybrid: "prefer-grid" } });
    // The second one comes back to the grid, as the provider fails too.
    expect(cloud.grid.generations).toHaveLength(3);
    for (const { request } of cloud.grid.generations) expect(request.terms.constraints).toMatchObject(constraints);
  });
});
