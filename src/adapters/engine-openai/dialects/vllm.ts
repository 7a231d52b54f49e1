/**
 * vLLM's OpenAI server: `/v1/completions` takes a prompt of token ids, and `return_token_ids` (0.10.2 and later) gives those of the answer.
 * Written after its documentation; no vLLM ever ran here (docs/engines-attached.md).
 */
import { z } from "zod";
import type { SampledToken } from "../../../domain/sampling.ts";
import { tokenizePlain, unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, NOTHING, plainToken, type StreamPart } from "../dialect.ts";
import { read, smallCount, tokenIds } from "../reading.ts";

const listSchema = z.object({
  data: z
    .array(z.looseObject({ id: z.string(), owned_by: z.string().optional(), max_model_len: smallCount.nullish() }))
    .max(1_024),
});
/** With `return_tokens_as_token_ids` tokens are told as `token_id:123`. */
const logprobsSchema = z.looseObject({
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullish(),
});
const eventSchema = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        text: z.string(),
        token_ids: tokenIds.nullish(),
        logprobs: logprobsSchema.nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .max(1),
  usage: z
    .looseObject({
      completion_tokens: smallCount.nullish(),
      prompt_tokens_details: z.looseObject({ cached_tokens: smallCount.nullish() }).nullish(),
    })
    .nullish(),
});
/** Servers that say nothing of it run this many at once at most; vLLM's own default is 256. */
const SEQUENCES_MAX = 64;

export const VLLM: Dialect = {
  kind: "vllm",
  isExact: true,
  healthPath: "/health",
  framing: "sse",
  neverHas: ["grammar-resume", "embeddings"],
  async identify(server, signal) {
    const bounds = { signal, withinMs: ASK_MS_MAX };
    const list = listSchema.safeParse(await server.get("/v1/models", bounds).catch(unlessUnreachable));
    if (!list.success || !list.data.data.some(({ owned_by }) => owned_by === "vllm")) return null;
    const told = await server.get("/version", bounds).catch(unlessUnreachable);
    const version = z.looseObject({ version: z.string() }).safeParse(told);
    return version.success ? version.data.version : "unknown";
  },
  async models(server, signal) {
    const answer = await server.get("/v1/models", { signal, withinMs: ASK_MS_MAX });
    return read(listSchema, answer, "/v1/models").data.map(({ id, max_model_len }) => ({
      servedAs: id,
      contextTokens: max_model_len ?? null,
      sequencesMax: SEQUENCES_MAX,
      quantisation: null,
      vocabSize: null,
      embeddingLength: null,
      parameterCount: null,
    }));
  },
  tokenize: tokenizePlain,
  request: (asked) => ({ path: "/v1/completions", body: bodyOf(asked) }),
  reader: () => readEvent,
};

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  return {
    model: asked.servedAs,
    prompt: "tokenIds" in prompt ? prompt.tokenIds : prompt.text,
    max_tokens: asked.tokensMax,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    return_token_ids: true,
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    seed: asked.seed,
    ignore_eos: asked.ignoresStopTokens,
    skip_special_tokens: true,
    cache_salt: asked.cacheScope,
    ...(sampling.logitBias.length === 0 ? {} : { logit_bias: Object.fromEntries(sampling.logitBias) }),
    // The newer name and the older one: a server takes the one that it knows and passes over the other.
    ...(asked.grammar === null
      ? {}
      : { structured_outputs: { grammar: asked.grammar }, guided_grammar: asked.grammar }),
    ...(asked.topLogprobs === null ? {} : { logprobs: asked.topLogprobs, return_tokens_as_token_ids: true }),
  };
}

function readEvent(event: unknown): StreamPart {
  const { choices, usage } = read(eventSchema, event, "/v1/completions");
  const [choice] = choices;
  const cachedTokens = usage?.prompt_tokens_details?.cached_tokens ?? null;
  if (choice === undefined) return { ...NOTHING, cachedTokens };
  const { text, token_ids = null, logprobs = null, finish_reason = null } = choice;
  return {
    tokens: token_ids === null ? null : token_ids.map((tokenId, at) => withLogprob(tokenId, at, logprobs ?? null)),
    text,
    countSoFar: usage?.completion_tokens ?? null,
    end: finish_reason === null ? null : finish_reason === "length" ? "length" : "stop",
    cachedTokens,
  };
}

function withLogprob(tokenId: number, at: number, told: z.infer<typeof logprobsSchema> | null): SampledToken {
  const logprob = told?.token_logprobs[at] ?? null;
  if (logprob === null) return plainToken(tokenId);
  const top = Object.entries(told?.top_logprobs?.[at] ?? {}).flatMap(([name, value]) => {
    const id = /^token_id:(\d+)$/.exec(name)?.[1];
    return id === undefined ? [] : [{ tokenId: Number(id), logprob: value }];
  });
  return { tokenId, logprob, top };
}
