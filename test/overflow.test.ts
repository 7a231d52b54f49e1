/**
 * A grid that overflows to another grid as its cloud, both real: processes, engines, HTTP, the stock client. Between them stands a proxy
 * that counts what goes out and keeps what comes back.
 */
import type OpenAI from "openai";
import { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { CLOUD_PRICE, type OverflowLab, openOverflowLab, PROVIDER } from "./support/overflow-lab.ts";

const PROMPT = "In the beginning God created the heaven and the earth.";
const MESSAGES = [{ role: "user" as const, content: PROMPT }];
const TOKENS = 200;
/** Of an answer that is surely not over when its node is killed; the context has 1,024. */
const LONG_TOKENS = 900;

/** The small model likes to end early. */
type Body = OpenAI.ChatCompletionCreateParamsStreaming & { readonly ignore_eos: boolean };
interface Read {
  readonly text: string;
  readonly finishReason: string | null;
  readonly error: unknown;
  readonly usage: z.infer<typeof usageSchema> | null;
}
const usageSchema = z.object({
  prompt_tokens: z.number(),
  completion_tokens: z.number(),
  cost: z.number(),
  grid: z
    .object({
      parts: z.array(z.object({ provider: z.string(), prompt_tokens: z.number(), completion_tokens: z.number() })),
    })
    .optional(),
});

let lab: OverflowLab;
beforeAll(async () => {
  lab = await openOverflowLab({ agentsAtStart: 1 });
}, 240_000);
afterAll(async () => {
  await lab.close();
});

/** `onText` is called with the text so far. */
async function read(fields: object, onText: (text: string) => void = () => undefined): Promise<Read> {
  const body: Body = {
    model: "tiny",
    messages: MESSAGES,
    max_completion_tokens: TOKENS,
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    ignore_eos: true,
    ...fields,
  };
  let text = "";
  let finishReason: string | null = null;
  let usage: Read["usage"] = null;
  try {
    for await (const chunk of await lab.client.chat.completions.create(body)) {
      const [choice] = chunk.choices;
      text += choice?.delta.content ?? "";
      finishReason = choice?.finish_reason ?? finishReason;
      if (chunk.usage) usage = usageSchema.parse(chunk.usage);
      onText(text);
    }
  } catch (error) {
    return { text, finishReason, error, usage };
  }
  return { text, finishReason, error: null, usage };
}

/** What the provider said, as text, of the last request that went out. */
function saidLast(): string {
  const lines = lab.proxy.asked.at(-1)?.said.split("\n") ?? [];
  const chunk = z.object({
    choices: z.array(
      z.object({ text: z.string().optional(), delta: z.object({ content: z.string().nullish() }).optional() }),
    ),
  });
  return lines
    .filter((line) => line.startsWith("data: {"))
    .flatMap((line) => chunk.safeParse(JSON.parse(line.slice("data: ".length))).data?.choices ?? [])
    .map((choice) => choice.text ?? choice.delta?.content ?? "")
    .join("");
}

async function expectBalanced(): Promise<void> {
  expect(await lab.json("/admin/v1/ledger/check")).toMatchObject({ isBalanced: true, openHolds: 0 });
}

describe("a grid with a node", () => {
  test("serves what it can itself: nothing goes out", async () => {
    const before = lab.proxy.asked.length;
    for (const service_tier of ["default", "priority", "flex"] as const) {
      expect(await read({ service_tier, max_completion_tokens: 8 })).toMatchObject({ error: null });
    }
    expect(lab.proxy.asked).toHaveLength(before);
  });

  test("serves a model that only the provider has, in our shape, counted and charged", async () => {
    const chat = await lab.client.chat.completions.create({
      model: "acme/only",
      messages: MESSAGES,
      max_completion_tokens: 8,
      temperature: 0,
    });
    expect(chat).toMatchObject({
      id: expect.stringMatching(/^chatcmpl-/),
      model: "acme/only",
      choices: [{ message: { role: "assistant", content: expect.stringMatching(/./) } }],
    });
    const raw = { model: "acme/only", prompt: PROMPT, max_tokens: 8, temperature: 0, ignore_eos: true };
    const completion = await lab.client.completions.create(raw);
    expect(completion).toMatchObject({
      id: expect.stringMatching(/^cmpl-/),
      choices: [{ text: expect.stringMatching(/./) }],
    });
    expect(lab.proxy.asked.at(-1)).toMatchObject({ path: "/v1/completions", body: { model: "tiny", prompt: PROMPT } });
    await expectBalanced();
  });

  test("that is saturated sends a priority request to the cloud", async () => {
    // Nobody reads these: each holds its slot, or its place in the queue, for as long as its client is there.
    const gone = new AbortController();
    const busy = Array.from({ length: 120 }, () =>
      lab.client.chat.completions
        .create(
          { model: "tiny", messages: MESSAGES, max_completion_tokens: 400, service_tier: "priority", ...FILLER },
          { signal: gone.signal },
        )
        .catch(() => null),
    );
    try {
      const before = lab.proxy.asked.length;
      const answer = await read({ service_tier: "priority", max_completion_tokens: 16 });
      expect(answer).toMatchObject({ error: null, usage: { grid: { parts: [{ provider: PROVIDER }] } } });
      expect(lab.proxy.asked).toHaveLength(before + 1);
      const {
        prompt_tokens: prompt,
        completion_tokens: output,
        cost,
      } = answer.usage ?? { prompt_tokens: 0, completion_tokens: 0, cost: 0 };
      const lines = [prompt * CLOUD_PRICE.inputMicroUsdPerMtok, output * CLOUD_PRICE.outputMicroUsdPerMtok];
      expect(Math.round(cost * 1e6)).toBe(lines.reduce((sum, line) => sum + Math.ceil(line / 1e6), 0));
    } finally {
      gone.abort();
      await Promise.all(busy);
    }
  });

  test("goes on with an answer whose provider dies in its middle", async () => {
    // A busy machine puts several tokens into one event.
    lab.proxy.cutAfter(5);
    const answer = await read({ provider: { order: [PROVIDER, "grid"] } });
    expect(answer).toMatchObject({ error: null, finishReason: "length" });
    const [cloud, grid] = answer.usage?.grid?.parts.toSorted((a) => (a.provider === PROVIDER ? -1 : 1)) ?? [];
    expect([cloud?.provider, grid?.provider]).toEqual([PROVIDER, "grid"]);
    expect((cloud?.completion_tokens ?? 0) + (grid?.completion_tokens ?? 0)).toBe(answer.usage?.completion_tokens);
    expect([cloud?.prompt_tokens, grid?.prompt_tokens]).toEqual([answer.usage?.prompt_tokens, 0]);
    expect(answer.text.startsWith(saidLast())).toBe(true);
    expect(answer.text.length).toBeGreaterThan(saidLast().length);
    await expectBalanced();
  });

  test("charges a provider that lies about usage by its own count", async () => {
    lab.proxy.change((line) => line.replace(/"(prompt|completion)_tokens":(\d+)/g, '"$1_tokens":$2000'));
    const answer = await read({ max_completion_tokens: 16, grid: { hybrid: "cloud-only" } });
    lab.proxy.change(null);
    expect(answer.error).toBeNull();
    expect(answer.usage?.completion_tokens).toBeLessThanOrEqual(17);
    expect(answer.usage?.prompt_tokens).toBeLessThan(200);
    const metrics = String(await lab.json("/metrics"));
    expect(metrics).toMatch(new RegExp(`fallow_cloud_usage_disagreements_total\\{provider="${PROVIDER}"\\} 1`));
  });
});

const FILLER = { grid: { hybrid: "grid-only" }, ignore_eos: true };

describe("a grid all of whose nodes are killed", () => {
  test("in mid-stream goes on in the cloud when that is allowed: no character twice, none lost", async () => {
    const struck = { isDone: false, text: "" };
    const wish = { grid: { hybrid: "prefer-grid" }, max_completion_tokens: LONG_TOKENS };
    const answer = await read(wish, (text) => {
      if (struck.isDone || text.length < 40) return;
      struck.isDone = true;
      void lab.killAgents();
    });
    expect(answer).toMatchObject({ error: null, finishReason: "length" });
    const [grid, cloud] = answer.usage?.grid?.parts ?? [];
    expect([grid?.provider, cloud?.provider]).toEqual(["grid", PROVIDER]);
    const asked = lab.proxy.asked.at(-1);
    expect(asked?.path).toBe("/v1/completions");
    const prompt = String(asked?.body["prompt"]);
    const said = saidLast();
    const shownBefore = answer.text.slice(0, answer.text.length - said.length);
    expect(answer.text).toBe(shownBefore + said);
    expect(prompt.endsWith(shownBefore)).toBe(true);
    expect(shownBefore.length).toBeGreaterThanOrEqual(40);
    await expectBalanced();
  });

  test("refuses with the reason, and what would help, when it is not allowed", async () => {
    const before = lab.proxy.asked.length;
    const { error } = await read({});
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ status: 503 });
    expect(String(error)).toContain("prefer-grid");
    expect(lab.proxy.asked).toHaveLength(before);
  });

  test.each([
    ["a region", { grid: { regions: ["us"] } }],
    ["a price", { provider: { max_price: { completion: 4 } } }],
    ["a cost", { grid: { max_cost_usd: 0.0001 } }],
    ["confidentiality", { grid: { confidentiality: "own-nodes" } }],
    ["data collection", { provider: { data_collection: "deny" } }],
    ["another provider", { provider: { only: ["someone-else"] } }],
  ])("sends nothing out against a rule on %s", async (_, rule) => {
    const before = lab.proxy.asked.length;
    const { error } = await read({ service_tier: "priority", ...rule });
    expect(error).toBeInstanceOf(APIError);
    expect(lab.proxy.asked).toHaveLength(before);
  });

  test("and the same request without a rule goes out", async () => {
    const before = lab.proxy.asked.length;
    expect(await read({ service_tier: "priority", max_completion_tokens: 8 })).toMatchObject({ error: null });
    expect(lab.proxy.asked).toHaveLength(before + 1);
  });

  test("and whose provider dies too ends in an error, uncharged, never in a short answer", async () => {
    lab.proxy.cutAfter(5);
    const answer = await read({ service_tier: "priority" });
    expect(answer.text).not.toBe("");
    expect(answer).toMatchObject({ finishReason: null, usage: null });
    expect(answer.error).toBeInstanceOf(APIError);
    await expectBalanced();
  });
});
