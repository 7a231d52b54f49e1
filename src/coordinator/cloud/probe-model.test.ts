import { describe, expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import type { ProviderModel } from "../../domain/provider.ts";
import { PROBE_TOKENS_MAX, type ProbeAnswer, type ProbeAsk, type ProbeOutcome, probeModel } from "./probe-model.ts";

const MODEL: ProviderModel = {
  modelId: modelId("ours"),
  upstreamModel: "theirs",
  cost: { inputMicroUsdPerMtok: 1, outputMicroUsdPerMtok: 1 },
  price: { inputMicroUsdPerMtok: 1, outputMicroUsdPerMtok: 1 },
  contextTokensMax: 8_192,
  outputTokensMax: null,
  quantisation: null,
  abilities: null,
};
const NOTHING: ProbeAnswer = { text: "", calls: [], usage: null, hasLogprobs: false, isStream: true, failure: null };
const USAGE = { promptTokens: 1, cachedTokens: 0, completionTokens: 1 };
const REJECTED: ProbeAnswer = {
  ...NOTHING,
  failure: { failure: "rejected", message: "unknown field", retryAfterMs: null },
};
const COUNT = "one two three four five six seven eight";

type Question = Parameters<ProbeAsk>[0];
type Answers = (question: Question, body: Readonly<Record<string, unknown>>) => ProbeAnswer;

async function probed(answers: Answers): Promise<{ outcome: ProbeOutcome; tokens: number }> {
  let tokens = 0;
  const ask: ProbeAsk = (question) => {
    tokens += question.tokensMax;
    return Promise.resolve(answers(question, question.form.body));
  };
  const steps = probeModel(MODEL, { ask, nowMs: 5 });
  let step = await steps.next();
  while (step.done !== true) step = await steps.next();
  return { outcome: step.value, tokens };
}

/** Can all that there is, as the strictest server would. */
const able: Answers = ({ form, model }, body) => {
  if (body["tools"] !== undefined)
    return { ...NOTHING, calls: [{ name: "get_weather", arguments: '{"city":"Rome"}' }] };
  if (body["response_format"] !== undefined) return { ...NOTHING, text: '{"quux":"zig"}' };
  if (body["logprobs"] === true) return { ...NOTHING, text: "hello", hasLogprobs: true };
  if (body["seed"] !== undefined) return { ...NOTHING, text: `words of ${String(body["seed"])}` };
  if (form.kind === "raw") return { ...NOTHING, text: rest(form.prompt.slice("One, two, three, four, five,".length)) };
  const messages = Array.isArray(body["messages"]) ? body["messages"] : [];
  const last: unknown = messages.at(-1);
  const begun =
    messages.length > 1 && typeof last === "object" && last !== null && "content" in last ? String(last.content) : "";
  const goesOn = begun === "" || model.abilities?.wantsContinueFlag === true;
  return { ...NOTHING, text: goesOn ? rest(begun) : COUNT, usage: USAGE };
};
const rest = (begun: string) => COUNT.slice(begun.length);

describe("probing a model", () => {
  test("finds what is proved by an answer, and how it wants to be told", async () => {
    const { outcome, tokens } = await probed(able);
    expect(outcome).toEqual({
      ok: true,
      abilities: {
        streams: true,
        reportsUsage: true,
        tools: true,
        jsonSchema: true,
        logprobs: true,
        seed: true,
        rawPrompt: true,
        continuesAssistant: true,
        wantsContinueFlag: true,
        probedAtMs: 5,
      },
    });
    expect(tokens).toBeLessThanOrEqual(PROBE_TOKENS_MAX.output);
  });

  test("believes no server that takes every field and heeds none", async () => {
    const { outcome, tokens } = await probed(() => ({ ...NOTHING, text: COUNT, isStream: false }));
    expect(outcome).toMatchObject({
      ok: true,
      abilities: {
        streams: false,
        reportsUsage: false,
        tools: false,
        jsonSchema: false,
        logprobs: false,
        seed: false,
        rawPrompt: false,
        continuesAssistant: false,
      },
    });
    expect(tokens).toBeLessThanOrEqual(PROBE_TOKENS_MAX.output);
  });

  test("finds the field for the bound, and servers that want no stream options", async () => {
    const newer = await probed((question, body) =>
      question.model.abilities?.tokensField === "max_completion_tokens" ? able(question, body) : REJECTED,
    );
    expect(newer.outcome).toMatchObject({
      ok: true,
      abilities: { tokensField: "max_completion_tokens", streams: true },
    });
    const older = await probed((question, body) =>
      question.model.abilities?.reportsUsage === true ? REJECTED : able(question, body),
    );
    expect(older.outcome).toMatchObject({ ok: true, abilities: { streams: true, reportsUsage: false } });
  });

  test("gives up at the first failure that asking otherwise does not mend", async () => {
    let asked = 0;
    const failure = { failure: "unauthorised", message: "no such key", retryAfterMs: null } as const;
    const { outcome } = await probed(() => {
      asked += 1;
      return { ...NOTHING, failure };
    });
    expect([outcome, asked]).toEqual([{ ok: false, reason: failure }, 1]);
  });

  test("a text that begins anew, or repeats what it was given, is no continuation", async () => {
    for (const text of ["One two three", "five, one two three", ""]) {
      const { outcome } = await probed((question, body) =>
        question.tokensMax === 6 ? { ...NOTHING, text } : able(question, body),
      );
      expect(outcome).toMatchObject({ abilities: { rawPrompt: false, continuesAssistant: false } });
    }
  });
});
