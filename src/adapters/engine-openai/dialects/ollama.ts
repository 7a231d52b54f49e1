/** Ollama's `/api/generate` in raw mode: text in, text out, one JSON object a line. Written after its documentation; no Ollama ever ran here. */
import { z } from "zod";
import { unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, type ListedModel, type StreamPart } from "../dialect.ts";
import { read, smallCount } from "../reading.ts";
import type { ServerHttp } from "../server-http.ts";

const tagsSchema = z.looseObject({ models: z.array(z.looseObject({ name: z.string() })).max(1_024) });
const showSchema = z.looseObject({
  details: z.looseObject({ quantization_level: z.string().optional() }).optional(),
  model_info: z.record(z.string(), z.unknown()).optional(),
});
const eventSchema = z.looseObject({
  response: z.string(),
  done: z.boolean(),
  done_reason: z.string().optional(),
});
/** `OLLAMA_NUM_PARALLEL` is told nowhere; what is beyond it waits inside the server. */
const SEQUENCES_MAX = 4;
/** Described one by one. */
const MODELS_DESCRIBED_MAX = 64;

export const OLLAMA: Dialect = {
  kind: "ollama",
  isExact: false,
  healthPath: "/api/version",
  framing: "ndjson",
  neverHas: ["grammar", "grammar-resume", "logit-bias", "logprobs", "ignore-stop-tokens", "embeddings"],
  async identify(server, signal) {
    const told = await server.get("/api/version", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    const version = z.looseObject({ version: z.string() }).safeParse(told);
    if (!version.success) return null;
    const tags = await server.get("/api/tags", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    return tagsSchema.safeParse(tags).success ? version.data.version : null;
  },
  async models(server, signal) {
    const answer = await server.get("/api/tags", { signal, withinMs: ASK_MS_MAX });
    const { models } = read(tagsSchema, answer, "/api/tags");
    const described: ListedModel[] = [];
    for (const { name } of models.slice(0, MODELS_DESCRIBED_MAX)) described.push(await describe(server, name, signal));
    return described;
  },
  tokenize: () => Promise.resolve(null),
  request: (asked) => ({ path: "/api/generate", body: bodyOf(asked) }),
  reader: () => readEvent,
};

async function describe(server: ServerHttp, name: string, signal: AbortSignal): Promise<ListedModel> {
  const answer = await server.post("/api/show", { model: name }, { signal, withinMs: ASK_MS_MAX });
  const { details, model_info: info = {} } = read(showSchema, answer, "/api/show");
  const architecture = info["general.architecture"];
  const figure = (key: string) => {
    const value = info[key];
    return typeof value === "number" && Number.isFinite(value) ? value : null;
  };
  return {
    servedAs: name,
    contextTokens: figure(`${String(architecture)}.context_length`),
    sequencesMax: SEQUENCES_MAX,
    quantisation: details?.quantization_level ?? null,
    vocabSize: figure(`${String(architecture)}.vocab_size`),
    embeddingLength: figure(`${String(architecture)}.embedding_length`),
    parameterCount: figure("general.parameter_count"),
  };
}

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  return {
    model: asked.servedAs,
    prompt: "text" in prompt ? prompt.text : "",
    // The template was applied already.
    raw: true,
    stream: true,
    options: {
      num_predict: asked.tokensMax,
      temperature: sampling.temperature,
      top_k: sampling.topK,
      top_p: sampling.topP,
      min_p: 0,
      repeat_penalty: 1,
      frequency_penalty: sampling.frequencyPenalty,
      presence_penalty: sampling.presencePenalty,
      seed: asked.seed,
    },
  };
}

const countsSchema = z.looseObject({ eval_count: smallCount.optional() });

function readEvent(event: unknown): StreamPart {
  const { response, done, done_reason } = read(eventSchema, event, "/api/generate");
  const count = countsSchema.safeParse(event);
  return {
    tokens: null,
    text: response,
    countSoFar: count.success ? (count.data.eval_count ?? null) : null,
    end: done ? (done_reason === "length" ? "length" : "stop") : null,
    cachedTokens: null,
  };
}
