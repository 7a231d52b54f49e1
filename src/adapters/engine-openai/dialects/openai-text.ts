/**
 * Any server of OpenAI's `/v1/completions` with a prompt of text; LM Studio is the one that is known to be so. Written after its
 * documentation; no LM Studio ever ran here.
 */
import { z } from "zod";
import { unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, NOTHING, type StreamPart } from "../dialect.ts";
import { read, smallCount } from "../reading.ts";

const listSchema = z.object({
  data: z.array(z.looseObject({ id: z.string() })).max(1_024),
});
const lmListSchema = z.looseObject({
  data: z
    .array(
      z.looseObject({
        id: z.string(),
        type: z.string().optional(),
        quantization: z.string().optional(),
        max_context_length: smallCount.optional(),
        loaded_context_length: smallCount.optional(),
      }),
    )
    .max(1_024),
});
const eventSchema = z.looseObject({
  choices: z.array(z.looseObject({ text: z.string(), finish_reason: z.string().nullish() })).max(1),
});
const SEQUENCES_MAX = 4;

export const LM_STUDIO: Dialect = {
  kind: "lmstudio",
  isExact: false,
  healthPath: "/v1/models",
  framing: "sse",
  neverHas: ["grammar", "grammar-resume", "logit-bias", "logprobs", "ignore-stop-tokens", "embeddings"],
  /** Its own list beside OpenAI's is what tells it from others; it tells no version. */
  async identify(server, signal) {
    const told = await server.get("/api/v0/models", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    return lmListSchema.safeParse(told).success ? "unknown" : null;
  },
  async models(server, signal) {
    const bounds = { signal, withinMs: ASK_MS_MAX };
    const own = lmListSchema.safeParse(await server.get("/api/v0/models", bounds).catch(unlessUnreachable));
    const details = new Map(own.success ? own.data.data.map((model) => [model.id, model]) : []);
    const { data } = read(listSchema, await server.get("/v1/models", bounds), "/v1/models");
    return data.map(({ id }) => ({
      servedAs: id,
      contextTokens: details.get(id)?.loaded_context_length ?? details.get(id)?.max_context_length ?? null,
      sequencesMax: SEQUENCES_MAX,
      quantisation: details.get(id)?.quantization ?? null,
      vocabSize: null,
      embeddingLength: null,
      parameterCount: null,
    }));
  },
  tokenize: () => Promise.resolve(null),
  request: (asked) => ({ path: "/v1/completions", body: bodyOf(asked) }),
  reader: () => readEvent,
};

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  return {
    model: asked.servedAs,
    prompt: "text" in prompt ? prompt.text : "",
    max_tokens: asked.tokensMax,
    stream: true,
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    repeat_penalty: 1,
    min_p: 0,
    seed: asked.seed,
  };
}

function readEvent(event: unknown): StreamPart {
  const [choice] = read(eventSchema, event, "/v1/completions").choices;
  if (choice === undefined) return { ...NOTHING, tokens: null };
  const { text, finish_reason = null } = choice;
  const end = finish_reason === null ? null : finish_reason === "length" ? "length" : "stop";
  return { ...NOTHING, tokens: null, text, end };
}
