/** Text Generation Inference: `/generate_stream` takes text. Written after its documentation; no TGI ever ran here. */
import { z } from "zod";
import { unlessUnreachable } from "../asking.ts";
import { ASK_MS_MAX, type AskedText, type Dialect, NOTHING, type StreamPart } from "../dialect.ts";
import { read, smallCount } from "../reading.ts";

const infoSchema = z.looseObject({
  model_id: z.string(),
  max_total_tokens: smallCount.nullish(),
  max_concurrent_requests: smallCount.nullish(),
  version: z.string().optional(),
});
const eventSchema = z.looseObject({
  token: z.looseObject({ id: z.number().int(), text: z.string(), special: z.boolean().optional() }),
  details: z.looseObject({ finish_reason: z.string(), generated_tokens: smallCount.optional() }).nullish(),
});
const SEQUENCES_MAX = 64;
/** Greedy decoding is asked for by not sampling: a temperature of 0 is refused. */
const TOP_P_BELOW = 0.999;

export const TGI: Dialect = {
  kind: "tgi",
  isExact: false,
  healthPath: "/health",
  framing: "sse",
  // It has a frequency penalty and no presence penalty; grammars are JSON schemas or regular expressions.
  neverHas: ["grammar", "grammar-resume", "logit-bias", "logprobs", "penalties", "ignore-stop-tokens", "embeddings"],
  async identify(server, signal) {
    const told = await server.get("/info", { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
    const info = infoSchema.safeParse(told);
    return info.success ? (info.data.version ?? "unknown") : null;
  },
  async models(server, signal) {
    const info = read(infoSchema, await server.get("/info", { signal, withinMs: ASK_MS_MAX }), "/info");
    return [
      {
        servedAs: info.model_id,
        contextTokens: info.max_total_tokens ?? null,
        sequencesMax: Math.max(1, Math.min(SEQUENCES_MAX, info.max_concurrent_requests ?? SEQUENCES_MAX)),
        quantisation: null,
        vocabSize: null,
        embeddingLength: null,
        parameterCount: null,
      },
    ];
  },
  tokenize: () => Promise.resolve(null),
  request: (asked) => ({ path: "/generate_stream", body: bodyOf(asked) }),
  reader: () => readEvent,
};

function bodyOf({ prompt, sampling, ...asked }: AskedText): Record<string, unknown> {
  const isGreedy = sampling.temperature === 0;
  return {
    inputs: "text" in prompt ? prompt.text : "",
    parameters: {
      max_new_tokens: asked.tokensMax,
      do_sample: !isGreedy,
      details: true,
      ...(isGreedy ? {} : { temperature: sampling.temperature, top_k: sampling.topK, seed: asked.seed }),
      // It takes none of 1.
      ...(isGreedy || sampling.topP > TOP_P_BELOW ? {} : { top_p: sampling.topP }),
    },
  };
}

function readEvent(event: unknown): StreamPart {
  const { token, details = null } = read(eventSchema, event, "/generate_stream");
  const end = details === null ? null : details.finish_reason === "length" ? "length" : "stop";
  return { ...NOTHING, tokens: null, text: token.special === true ? "" : token.text, end };
}
