/**
 * Finds out what a provider's model can do by asking for it, since documents and version numbers promise more than servers keep. Each
 * question is small; together they cost at most `PROBE_TOKENS_MAX`. An ability counts only when the answer proves it:
 *
 * | ability            | asked                                                     | proof                                             |
 * | ------------------ | --------------------------------------------------------- | ------------------------------------------------- |
 * | streams, usage     | a short answer                                            | it came in events; usage came with it             |
 * | tools              | a function that must be called                            | the call came, with arguments that are JSON       |
 * | json schema        | a schema that the question does not suggest               | the answer has that form                          |
 * | logprobs           | two for each token                                        | some came                                         |
 * | seed               | a random text, twice with one seed and once with another  | the same twice, another the third time            |
 * | raw prompt         | an answer, then its first half again as a prompt          | the second half, letter by letter                 |
 * | continues assistant| the same with the first half as an assistant's message    | the second half, letter by letter                 |
 *
 * Not handled: a provider that answers the same question differently at temperature 0 is taken for one that continues nothing.
 */
import type { ProviderAbilities, ProviderModel } from "../../domain/provider.ts";
import type { CloudForm, CloudUsage } from "../../ports/cloud.ts";
import type { UpstreamFailure } from "../../ports/cloud-upstream.ts";

/** The sum of all questions below, and some room for templates. */
export const PROBE_TOKENS_MAX = { prompt: 1_500, output: 320 } as const;

export interface ProbeAnswer {
  readonly text: string;
  readonly calls: readonly { readonly name: string; readonly arguments: string }[];
  readonly usage: CloudUsage | null;
  readonly hasLogprobs: boolean;
  readonly isStream: boolean;
  readonly failure: UpstreamFailure | null;
}

/** Asks once; never rejects. */
export type ProbeAsk = (question: {
  readonly model: ProviderModel;
  readonly form: CloudForm;
  readonly tokensMax: number;
}) => Promise<ProbeAnswer>;

export type ProbeOutcome =
  | { readonly ok: true; readonly abilities: ProviderAbilities }
  | { readonly ok: false; readonly reason: UpstreamFailure };

export type ProbeStep = Exclude<keyof ProviderAbilities, "probedAtMs" | "wantsContinueFlag" | "tokensField">;

export interface FoundStep {
  readonly step: ProbeStep;
  readonly isThere: boolean;
}

/** What is assumed until it is shown to be otherwise: how most servers are. */
const HOPED: ProviderAbilities = {
  streams: true,
  reportsUsage: true,
  tools: false,
  jsonSchema: false,
  logprobs: false,
  seed: false,
  rawPrompt: false,
  continuesAssistant: false,
  probedAtMs: 0,
};
/** Ways to ask, the usual one first. */
const WAYS: readonly Partial<ProviderAbilities>[] = [
  {},
  { tokensField: "max_completion_tokens" },
  { reportsUsage: false },
  { reportsUsage: false, streams: false },
  { reportsUsage: false, streams: false, tokensField: "max_completion_tokens" },
];

/** Tells each ability as it is found, then all of them, or why the model cannot be asked at all. */
export async function* probeModel(
  model: ProviderModel,
  { ask, nowMs }: { ask: ProbeAsk; nowMs: number },
): AsyncGenerator<FoundStep, ProbeOutcome> {
  const way = await findWay(model, ask);
  if ("failure" in way) return { ok: false, reason: way };
  yield { step: "streams", isThere: way.streams };
  yield { step: "reportsUsage", isThere: way.reportsUsage };
  const asking: Asking = { ask, model: { ...model, abilities: way } };
  const tools = await callsTools(asking);
  yield { step: "tools", isThere: tools };
  const jsonSchema = await keepsSchema(asking);
  yield { step: "jsonSchema", isThere: jsonSchema };
  const logprobs = await givesLogprobs(asking);
  yield { step: "logprobs", isThere: logprobs };
  const seed = await keepsSeed(asking);
  yield { step: "seed", isThere: seed };
  const rawPrompt = await continuesRaw(asking);
  yield { step: "rawPrompt", isThere: rawPrompt };
  const continued = await continuesMessage(asking);
  const continuesAssistant = continued !== "no";
  yield { step: "continuesAssistant", isThere: continuesAssistant };
  const found = { tools, jsonSchema, logprobs, seed, rawPrompt, continuesAssistant };
  const flag = continued === "when-told" ? { wantsContinueFlag: true } : {};
  return { ok: true, abilities: { ...way, ...found, ...flag, probedAtMs: nowMs } };
}

interface Asking {
  readonly ask: ProbeAsk;
  readonly model: ProviderModel;
}

async function findWay(model: ProviderModel, ask: ProbeAsk): Promise<ProviderAbilities | UpstreamFailure> {
  let first: UpstreamFailure | null = null;
  for (const way of WAYS) {
    const abilities = { ...HOPED, ...way };
    const answer = await ask({ model: { ...model, abilities }, form: chat("Say hello."), tokensMax: 16 });
    if (answer.failure === null) {
      const reportsUsage = abilities.reportsUsage && answer.usage !== null;
      return { ...abilities, streams: abilities.streams && answer.isStream, reportsUsage };
    }
    first ??= answer.failure;
    // Only what looks like a quarrel about a field is worth another way.
    if (answer.failure.failure !== "rejected") return answer.failure;
  }
  return first ?? { failure: "rejected", message: "it takes no way of asking", retryAfterMs: null };
}

async function callsTools({ ask, model }: Asking): Promise<boolean> {
  const tool = {
    type: "function",
    function: {
      name: "get_weather",
      description: "Weather at a place",
      parameters: { type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"] },
    },
  };
  const more = { tools: [tool], tool_choice: { type: "function", function: { name: "get_weather" } }, temperature: 0 };
  const { calls, failure } = await ask({ model, form: chat("What is the weather in Rome?", more), tokensMax: 48 });
  const [call] = calls;
  return failure === null && call?.name === "get_weather" && typeof parsed(call.arguments) === "object";
}

async function keepsSchema({ ask, model }: Asking): Promise<boolean> {
  const schema = {
    type: "object",
    properties: { quux: { type: "string", enum: ["zig", "zag"] } },
    required: ["quux"],
    additionalProperties: false,
  };
  const format = { type: "json_schema", json_schema: { name: "probe", strict: true, schema } };
  const more = { response_format: format, temperature: 0 };
  const { text, failure } = await ask({ model, form: chat("Write a short poem.", more), tokensMax: 48 });
  const value = parsed(text);
  return (
    failure === null &&
    typeof value === "object" &&
    value !== null &&
    "quux" in value &&
    /^z[ia]g$/.test(String(value.quux))
  );
}

async function givesLogprobs({ ask, model }: Asking): Promise<boolean> {
  const form = chat("Say hello.", { logprobs: true, top_logprobs: 2 });
  const { hasLogprobs, failure } = await ask({ model, form, tokensMax: 4 });
  return failure === null && hasLogprobs;
}

async function keepsSeed({ ask, model }: Asking): Promise<boolean> {
  const write = async (seed: number) => {
    const form = chat("Write random words.", { seed, temperature: 1.5 });
    const { text, failure } = await ask({ model, form, tokensMax: 16 });
    return failure === null && text !== "" ? text : null;
  };
  const first = await write(1_001);
  if (first === null || (await write(1_001)) !== first) return false;
  const other = await write(2_002);
  return other !== null && other !== first;
}

async function continuesRaw({ ask, model }: Asking): Promise<boolean> {
  const prompt = "One, two, three, four, five,";
  const raw = (text: string, tokensMax: number) =>
    ask({ model, form: { kind: "raw", prompt: text, body: { temperature: 0 } }, tokensMax });
  const halves = halvesOf(await raw(prompt, 16));
  if (halves === null) return false;
  return isRest(await raw(prompt + halves.before, 6), halves.after);
}

async function continuesMessage({ ask, model }: Asking): Promise<"no" | "by-itself" | "when-told"> {
  const question = { role: "user", content: "Write the numbers from one to twenty as words." };
  const speak = (more: readonly unknown[], abilities: ProviderModel["abilities"], tokensMax: number) =>
    ask({
      model: { ...model, abilities },
      form: { kind: "chat", body: { messages: [question, ...more], temperature: 0 } },
      tokensMax,
    });
  const halves = halvesOf(await speak([], model.abilities, 24));
  if (halves === null || model.abilities === null) return "no";
  const begun = [{ role: "assistant", content: halves.before }];
  if (isRest(await speak(begun, model.abilities, 6), halves.after)) return "by-itself";
  const told = { ...model.abilities, wantsContinueFlag: true };
  return isRest(await speak(begun, told, 6), halves.after) ? "when-told" : "no";
}

/** Cut before a blank near the middle, where a tokeniser cuts too. Null when there is too little to tell anything by. */
function halvesOf({ text, failure }: ProbeAnswer): { readonly before: string; readonly after: string } | null {
  if (failure !== null) return null;
  const at = text.indexOf(" ", Math.floor(text.length / 3));
  const before = text.slice(0, at);
  const after = text.slice(at);
  return at > 0 && before.trim() !== "" && after.trim().length >= 3 ? { before, after } : null;
}

/** What came is how the rest goes on, or goes on beyond it. */
function isRest({ text, failure }: ProbeAnswer, rest: string): boolean {
  return failure === null && text.trim().length >= 2 && (rest.startsWith(text) || text.startsWith(rest));
}

function chat(content: string, more: Readonly<Record<string, unknown>> = {}): CloudForm {
  return { kind: "chat", body: { messages: [{ role: "user", content }], ...more } };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
