/**
 * SGLang's own `/generate`: `input_ids` in, `output_ids` out. Its streams tell all ids so far with each event, or those that are new,
 * depending on how it was started; `meta_info.completion_tokens` tells which. Written after its documentation; no SGLang ever ran here.
 */
import { z } from "zod";
import { FallowError } from "../../../domain/fault.ts";
import { tokenizePlain, unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, plainToken, type StreamPart } from "../dialect.ts";
import { read, smallCount, tokenIds } from "../reading.ts";

const infoSchema = z.looseObject({
  version: z.string().optional(),
  max_total_num_tokens: smallCount.nullish(),
  context_length: smallCount.nullish(),
  max_running_requests: smallCount.nullish(),
});
const listSchema = z.object({
  data: z
    .array(z.looseObject({ id: z.string(), owned_by: z.string().optional(), max_model_len: smallCount.nullish() }))
    .max(1_024),
});
const eventSchema = z.looseObject({
  text: z.string(),
  output_ids: tokenIds,
  meta_info: z.looseObject({
    completion_tokens: smallCount,
    cached_tokens: smallCount.nullish(),
    finish_reason: z.union([z.looseObject({ type: z.string() }), z.string()]).nullish(),
  }),
});
const SEQUENCES_MAX = 64;

export const SGLANG: Dialect = {
  kind: "sglang",
  isExact: true,
  healthPath: "/health",
  framing: "sse",
  // Its grammars are EBNF of another kind, and its log-probabilities come in lists of their own.
  neverHas: ["grammar", "grammar-resume", "logit-bias", "logprobs", "embeddings"],
  async identify(server, signal) {
    const told = await server.get("/get_server_info", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    const info = infoSchema.safeParse(told);
    return info.success && told !== null ? (info.data.version ?? "unknown") : null;
  },
  async models(server, signal) {
    const bounds = { signal, withinMs: ASK_MS_MAX };
    const info = read(infoSchema, await server.get("/get_server_info", bounds), "/get_server_info");
    const { data } = read(listSchema, await server.get("/v1/models", bounds), "/v1/models");
    return data.map(({ id, max_model_len }) => ({
      servedAs: id,
      contextTokens: max_model_len ?? info.context_length ?? null,
      sequencesMax: Math.max(1, Math.min(SEQUENCES_MAX, info.max_running_requests ?? SEQUENCES_MAX)),
      quantisation: null,
      vocabSize: null,
      embeddingLength: null,
      parameterCount: null,
    }));
  },
  tokenize: tokenizePlain,
  request: (asked) => ({ path: "/generate", body: bodyOf(asked) }),
  reader: makeReader,
};

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  return {
    ...("tokenIds" in prompt ? { input_ids: prompt.tokenIds } : { text: prompt.text }),
    stream: true,
    extra_key: asked.cacheScope,
    sampling_params: {
      max_new_tokens: asked.tokensMax,
      temperature: sampling.temperature,
      top_k: sampling.topK,
      top_p: sampling.topP,
      frequency_penalty: sampling.frequencyPenalty,
      presence_penalty: sampling.presencePenalty,
      ignore_eos: asked.ignoresStopTokens,
      sampling_seed: asked.seed,
    },
  };
}

function makeReader(): (event: unknown) => StreamPart {
  const seen: number[] = [];
  return (event) => {
    const { output_ids, meta_info } = read(eventSchema, event, "/generate");
    const { completion_tokens: count, finish_reason = null, cached_tokens = null } = meta_info;
    const isWhole = output_ids.length === count;
    if (isWhole && seen.some((tokenId, at) => output_ids[at] !== tokenId)) {
      throw new FallowError("attached-malformed", "/generate: what it told before is not what it tells now");
    }
    const fresh = isWhole ? output_ids.slice(seen.length) : output_ids;
    seen.push(...fresh);
    const reason = typeof finish_reason === "string" ? finish_reason : (finish_reason?.type ?? null);
    return {
      tokens: fresh.map(plainToken),
      // Of the whole answer: of no use beside its ids.
      text: "",
      countSoFar: count,
      end: reason === null ? null : reason === "length" ? "length" : "stop",
      cachedTokens: cached_tokens,
    };
  };
}
