/** What a provider that means well gets and gives, over the real adapter and a real server. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  FINISH,
  type HostileUpstream,
  says,
  startHostileUpstream,
  status,
  stream,
  USAGE,
  WELL,
} from "./support/hostile-upstream.ts";
import { aModel, CHAT, openUpstreamLab, SECRET, textOf, type UpstreamLab } from "./support/upstream-lab.ts";

let server: HostileUpstream;
let lab: UpstreamLab;
beforeAll(async () => {
  server = await startHostileUpstream();
  lab = openUpstreamLab();
});
afterEach(() => server.act(WELL));
afterAll(async () => {
  await lab.close();
  await server.stop();
});
const ask = (more: Partial<Parameters<UpstreamLab["ask"]>[0]> = {}) => lab.ask({ baseUrl: server.baseUrl, ...more });

describe("what goes out", () => {
  test("carries the model's own name there, the key, a bound of tokens, and no name of the tenant", async () => {
    server.act(WELL);
    const body = { ...CHAT.body, model: "ours", user: "ten_1", stream: false, temperature: 0.5 };
    await ask({ form: { kind: "chat", body } });
    const sent = server.asked.at(-1);
    expect(sent?.path).toBe("/v1/chat/completions");
    expect(sent?.headers).toMatchObject({ authorization: `Bearer ${SECRET}`, "accept-encoding": "identity" });
    expect(sent?.body).toEqual({
      ...CHAT.body,
      temperature: 0.5,
      model: "theirs",
      max_tokens: 64,
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  test("asks as the model was found to take it", async () => {
    server.act(status(200, { choices: [{ index: 0, message: { content: "x" }, finish_reason: "stop" }] }));
    const model = aModel({ streams: false, tokensField: "max_completion_tokens", wantsContinueFlag: true });
    const messages = [
      { role: "user", content: "Count" },
      { role: "assistant", content: "1, 2," },
    ];
    await ask({ model, form: { kind: "chat", body: { messages, max_tokens: 5 } } });
    expect(server.asked.at(-1)?.body).toEqual({
      messages,
      model: "theirs",
      max_completion_tokens: 5,
      continue_final_message: true,
      add_generation_prompt: false,
    });
  });

  test("an answer that nobody reads along is asked for in one body", async () => {
    server.act(
      status(200, { choices: [{ index: 0, message: { content: "Hi" }, finish_reason: "stop" }], usage: USAGE.usage }),
    );
    const events = await ask({ isWhole: true });
    expect(server.asked.at(-1)?.body).toEqual({ ...CHAT.body, model: "theirs", max_tokens: 64 });
    expect(events.map(({ kind }) => kind)).toEqual(["opened", "text", "choice-end", "end"]);
    expect(events.at(-1)).toMatchObject({ usage: { completionTokens: USAGE.usage.completion_tokens } });
  });

  test("a raw prompt goes to /completions", async () => {
    server.act(stream([{ choices: [{ index: 0, text: " world", finish_reason: "length" }] }]));
    const events = await ask({ form: { kind: "raw", prompt: "hello", body: { seed: 7 } } });
    expect(server.asked.at(-1)).toMatchObject({ path: "/v1/completions", body: { prompt: "hello", seed: 7 } });
    expect(events).toContainEqual({ kind: "text", choice: 0, text: " world" });
    expect(events).toContainEqual({ kind: "choice-end", choice: 0, reason: "length" });
  });
});

describe("what comes back", () => {
  test("a stream becomes its events, with the usage at the end", async () => {
    server.act(WELL);
    expect(await ask()).toEqual([
      { kind: "opened" },
      { kind: "text", choice: 0, text: "Hello" },
      { kind: "text", choice: 0, text: " there" },
      { kind: "choice-end", choice: 0, reason: "stop" },
      { kind: "end", usage: { promptTokens: 7, cachedTokens: 0, completionTokens: 2 } },
    ]);
  });

  test("pieces of any size make the same events", async () => {
    const whole = `: hello\n\n${[says({ content: "Grüße, 世界 🌍" }), FINISH, USAGE].map((one) => `data: ${JSON.stringify(one)}\r\n\r\n`).join("")}data: [DONE]\n\n`;
    const bytes = Buffer.from(whole);
    for (const size of [1, 2, 3, 7, 4_096]) {
      server.act(async (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        for (let at = 0; at < bytes.length; at += size) {
          await new Promise((resolve) => response.write(bytes.subarray(at, at + size), resolve));
        }
        response.end();
      });
      const events = await ask();
      expect(textOf(events), `pieces of ${size}`).toBe("Grüße, 世界 🌍");
      expect(events.at(-1)).toMatchObject({ kind: "end", usage: { completionTokens: 2 } });
    }
  });

  test("reasoning, refusals and parallel tool calls keep their places", async () => {
    server.act(
      stream([
        says({ reasoning_content: "hm" }),
        says({ reasoning: "!" }),
        says({ tool_calls: [{ index: 0, id: "a", function: { name: "f", arguments: "" } }] }),
        says({ tool_calls: [{ index: 0, function: { arguments: "{}" } }] }),
        says({ tool_calls: [{ index: 1, id: "b", function: { name: "g", arguments: '{"x":' } }] }),
        says({ tool_calls: [{ index: 1, function: { arguments: "1}" } }] }),
        says({ refusal: "no" }),
        says({}, { finish: "tool_calls" }),
      ]),
    );
    expect((await ask()).slice(1)).toEqual([
      { kind: "reasoning", choice: 0, text: "hm" },
      { kind: "reasoning", choice: 0, text: "!" },
      { kind: "tool-call", choice: 0, index: 0, id: "a", name: "f" },
      { kind: "tool-arguments", choice: 0, index: 0, text: "{}" },
      { kind: "tool-call", choice: 0, index: 1, id: "b", name: "g" },
      { kind: "tool-arguments", choice: 0, index: 1, text: '{"x":' },
      { kind: "tool-arguments", choice: 0, index: 1, text: "1}" },
      { kind: "text", choice: 0, text: "no" },
      { kind: "choice-end", choice: 0, reason: "tool_calls" },
      { kind: "end", usage: null },
    ]);
  });

  test("several choices end each for itself", async () => {
    server.act(
      stream([
        says({ content: "a" }),
        says({ content: "b" }, { index: 1 }),
        says({}, { index: 1, finish: "length" }),
        FINISH,
      ]),
    );
    const events = await ask({ form: { kind: "chat", body: { ...CHAT.body, n: 2 } } });
    expect([textOf(events, 0), textOf(events, 1)]).toEqual(["a", "b"]);
    expect(events.at(-1)).toEqual({ kind: "end", usage: null });
  });

  test("a whole body where a stream was asked for is taken, and noticed", async () => {
    server.act(
      status(200, {
        choices: [{ index: 0, message: { role: "assistant", content: "whole" }, finish_reason: "stop" }],
        usage: { prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 1 } },
      }),
    );
    expect(await ask()).toEqual([
      { kind: "opened" },
      { kind: "noticed", what: "no-stream" },
      { kind: "text", choice: 0, text: "whole" },
      { kind: "choice-end", choice: 0, reason: "stop" },
      { kind: "end", usage: { promptTokens: 1, cachedTokens: 1, completionTokens: 1 } },
    ]);
  });

  test("a complete answer without [DONE] is taken, and noticed", async () => {
    server.act(stream([says({ content: "x" }), FINISH], { done: false }));
    expect((await ask()).slice(-2)).toEqual([
      { kind: "noticed", what: "no-done" },
      { kind: "end", usage: null },
    ]);
  });

  test.each([
    ["negative", { prompt_tokens: -5, completion_tokens: 2 }],
    ["huge", { prompt_tokens: 1, completion_tokens: 1e15 }],
    ["fractional", { prompt_tokens: 1.5, completion_tokens: 2 }],
    ["a text", "many"],
  ])("usage that is %s is dropped and noticed, and spoils no answer", async (_, usage) => {
    server.act(stream([says({ content: "x" }), FINISH, { choices: [], usage }]));
    const events = await ask();
    expect(events).toContainEqual({ kind: "noticed", what: "usage-nonsense" });
    expect(events.at(-1)).toEqual({ kind: "end", usage: null });
  });

  test("usage that is wrong and could be right is passed on: the caller counts himself", async () => {
    server.act(
      stream([
        says({ content: "x" }),
        FINISH,
        { choices: [], usage: { prompt_tokens: 90_000, completion_tokens: 90_000 } },
      ]),
    );
    expect((await ask()).at(-1)).toMatchObject({ kind: "end", usage: { promptTokens: 90_000 } });
  });

  test("limits in the headers are told before the answer", async () => {
    server.act(
      stream([says({ content: "x" }), FINISH], {
        headers: {
          "x-ratelimit-remaining-requests": "3",
          "x-ratelimit-reset-requests": "1m2.5s",
          "x-ratelimit-remaining-tokens": "0",
          "x-ratelimit-reset-tokens": "250ms",
        },
      }),
    );
    const limits = { requestsLeft: 3, requestsResetMs: 62_500, tokensLeft: 0, tokensResetMs: 250 };
    expect((await ask()).slice(0, 2)).toEqual([{ kind: "limits", limits }, { kind: "opened" }]);
  });

  test("a connection serves one answer after the other", async () => {
    server.act(WELL);
    await ask();
    const before = server.connections();
    for (let count = 0; count < 5; count++) await ask();
    expect(server.connections() - before).toBeLessThanOrEqual(1);
  });

  test("the list of models is what the provider says", async () => {
    server.act(status(200, { object: "list", data: [{ id: "b" }, { id: "a" }] }));
    const provider = { providerId: "acme", baseUrl: server.baseUrl, credential: null };
    expect(await lab.upstream.models(provider, { totalMsMax: 20_000 })).toEqual({ ok: true, value: ["a", "b"] });
    server.act(status(401, { error: { message: "no" } }));
    const refused = await lab.upstream.models(provider, { totalMsMax: 20_000 });
    expect(refused).toMatchObject({ ok: false, reason: { failure: "unauthorised" } });
  });
});

test("after a cancel there is no event, and the provider's connection is closed", async () => {
  let gone: Promise<void> | null = null;
  const opened = new Promise<void>((resolve) => {
    server.act((response, _, ended) => {
      gone = ended;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${JSON.stringify(says({ content: "x" }))}\n\n`);
      resolve();
    });
  });
  const kinds: string[] = [];
  const said = new Promise<void>((resolve) => {
    const run = lab.call({ baseUrl: server.baseUrl }, (event) => {
      kinds.push(event.kind);
      if (event.kind !== "text") return;
      run.cancel();
      run.cancel();
      resolve();
    });
  });
  await opened;
  await said;
  await gone;
  expect(kinds).toEqual(["opened", "text"]);
});
