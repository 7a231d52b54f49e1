/** llama.cpp's own server: `/completion` takes and gives token ids. Wire shape as of 0.7.0; seen with that release (docs/engines-attached.md). */
import { z } from "zod";
import { unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, type ListedModel, plainToken, type StreamPart } from "../dialect.ts";
import { read, smallCount, tokenIds } from "../reading.ts";

const listSchema = z.object({
  data: z
    .array(
      z.looseObject({
        id: z.string(),
        meta: z
          .looseObject({
            n_vocab: smallCount.optional(),
            n_ctx: smallCount.optional(),
            n_embd: smallCount.optional(),
            n_params: z.number().optional(),
            ftype: z.string().optional(),
          })
          .nullish(),
      }),
    )
    .max(1_024),
});
const propsSchema = z.looseObject({
  total_slots: smallCount,
  build_info: z.string().optional(),
  model_ftype: z.string().optional(),
  default_generation_settings: z.looseObject({ n_ctx: smallCount }),
});
const probability = z.looseObject({
  id: z.number().int(),
  logprob: z.number().nullable(),
  top_logprobs: z.array(z.looseObject({ id: z.number().int(), logprob: z.number().nullable() })).optional(),
});
const eventSchema = z.looseObject({
  content: z.string(),
  tokens: tokenIds,
  stop: z.boolean(),
  tokens_predicted: smallCount.optional(),
  stop_type: z.string().optional(),
  completion_probabilities: z.array(probability).optional(),
  timings: z.looseObject({ cache_n: smallCount.optional() }).optional(),
});

export const LLAMA_SERVER: Dialect = {
  kind: "llama-server",
  isExact: true,
  healthPath: "/health",
  framing: "sse",
  neverHas: ["grammar-resume", "embeddings"],
  async identify(server, signal) {
    const answer = await server.get("/props", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    const props = propsSchema.safeParse(answer);
    return props.success ? (props.data.build_info ?? "unknown") : null;
  },
  async models(server, signal) {
    const bounds = { signal, withinMs: ASK_MS_MAX };
    const props = read(propsSchema, await server.get("/props", bounds), "/props");
    const { data } = read(listSchema, await server.get("/v1/models", bounds), "/v1/models");
    return data.map(
      ({ id, meta }): ListedModel => ({
        servedAs: id,
        contextTokens: props.default_generation_settings.n_ctx,
        sequencesMax: props.total_slots,
        quantisation: meta?.ftype ?? props.model_ftype ?? null,
        vocabSize: meta?.n_vocab ?? null,
        embeddingLength: meta?.n_embd ?? null,
        parameterCount: meta?.n_params ?? null,
      }),
    );
  },
  async tokenize({ server, text, signal }) {
    const body = { content: text, add_special: false, parse_special: false };
    const answer = await server.post("/tokenize", body, { signal, withinMs: ASK_MS_MAX });
    return read(z.looseObject({ tokens: tokenIds }), answer, "/tokenize").tokens;
  },
  request: (asked) => ({ path: "/completion", body: bodyOf(asked) }),
  reader: () => readEvent,
};

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  return {
    prompt: "tokenIds" in prompt ? prompt.tokenIds : prompt.text,
    n_predict: asked.tokensMax,
    stream: true,
    return_tokens: true,
    // Slots are shared by all tenants: what one asked must not be told by another's time to the first token.
    cache_prompt: false,
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    min_p: 0,
    repeat_penalty: 1,
    // Penalties are for what was generated; it knows only a window, which holds some of the prompt at first.
    repeat_last_n: asked.tokensMax,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    logit_bias: sampling.logitBias.map(([tokenId, bias]) => [tokenId, bias]),
    seed: asked.seed,
    ignore_eos: asked.ignoresStopTokens,
    ...(asked.grammar === null ? {} : { grammar: asked.grammar }),
    // Zero alternatives still need the token's own probability.
    ...(asked.topLogprobs === null ? {} : { n_probs: Math.max(1, asked.topLogprobs), post_sampling_probs: false }),
  };
}

function readEvent(event: unknown): StreamPart {
  const part = read(eventSchema, event, "/completion");
  const probabilities = part.completion_probabilities ?? [];
  return {
    tokens: part.tokens.map((tokenId, at) => {
      const found = probabilities[at];
      if (found === undefined || found.id !== tokenId || found.logprob === null) return plainToken(tokenId);
      const top = (found.top_logprobs ?? []).flatMap(({ id, logprob }) =>
        logprob === null ? [] : [{ tokenId: id, logprob }],
      );
      return { tokenId, logprob: found.logprob, top };
    }),
    text: part.content,
    countSoFar: part.tokens_predicted ?? null,
    end: part.stop ? (part.stop_type === "limit" ? "length" : "stop") : null,
    cachedTokens: part.timings?.cache_n ?? null,
  };
}
