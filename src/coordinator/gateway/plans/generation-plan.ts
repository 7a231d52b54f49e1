/** A request that was understood and may run: the same for chats and completions. */
import type { ModelId, RequestId, Sha256Hex } from "../../../domain/ids.ts";
import type { ModelManifest } from "../../../domain/model.ts";
import type { MicroUsd, TokenPrice } from "../../../domain/money.ts";
import type { RoutePreferences } from "../../../domain/preferences.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { SamplingOptions } from "../../../domain/sampling.ts";
import type { ServiceTier } from "../../../domain/tier.ts";
import type { OutputParser } from "../../../inference/chat/conversation.ts";
import type { ApiKey } from "../../../ports/store.ts";
import type { Tokenizer } from "../../../ports/tokenizer.ts";
import type { AnswerFormat } from "../answers/answer-format.ts";
import type { CloudRecipe } from "../legs/cloud-recipe.ts";
import type { Vocabulary } from "./prepared-model.ts";

export interface PlannedChoice {
  readonly promptTokenIds: readonly number[];
  readonly parser: OutputParser;
}

/** What running and settling need to know of a model. */
export interface PlannedModel {
  readonly manifest: Pick<ModelManifest, "modelId" | "weightsSha256">;
  /** Null, both of them, where only cloud providers have the model. */
  readonly tokenizer: Tokenizer | null;
  readonly vocabulary: Vocabulary | null;
}

export interface GenerationPlan {
  readonly model: PlannedModel;
  readonly choices: readonly PlannedChoice[];
  /** Each prompt counted once, however many choices it has. */
  readonly promptTokens: number;
  /** Where `promptTokens` is only a bound, as nobody here has the model's vocabulary: what the prompt has more likely. */
  readonly promptTokensLikely?: number;
  /** Of each choice. */
  readonly tokensMax: number;
  /** The caller named `tokensMax`; else it is what the context leaves, and may be lowered to what he wants to pay. */
  readonly isTokensMaxAsked: boolean;
  readonly sampling: SamplingOptions;
  readonly stopStrings: readonly string[];
  readonly grammar: string | null;
  readonly ignoreStopTokens: boolean;
  readonly topLogprobs: number | null;
  /** Control tokens whose text the parsers must see. */
  readonly markers: ReadonlyMap<number, Uint8Array>;
  readonly seed: number | null;
  readonly tier: ServiceTier;
  readonly preferences: RoutePreferences;
  readonly isStream: boolean;
  readonly hasUsageChunk: boolean;
  /** How cloud providers are asked; absent: none can be. */
  readonly cloud?: CloudRecipe;
  /** Made when the answer's head is known. */
  readonly format: (head: AnswerHead) => AnswerFormat;
}

export interface AnswerHead {
  readonly requestId: RequestId;
  readonly createdAtMs: number;
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  readonly systemFingerprint: string;
  readonly hasUsageChunk: boolean;
}

/** What is fixed about a request before it is planned. */
export interface RequestTicket {
  readonly requestId: RequestId;
  readonly requestSha256: Sha256Hex;
  readonly key: ApiKey;
  readonly createdAtMs: number;
  readonly price: TokenPrice;
  readonly heldMicroUsd: MicroUsd;
}

export interface SamplingFields {
  readonly temperature?: number | null | undefined;
  readonly top_p?: number | null | undefined;
  readonly top_k?: number | null | undefined;
  readonly frequency_penalty?: number | null | undefined;
  readonly presence_penalty?: number | null | undefined;
  readonly logit_bias?: Readonly<Record<string, number>> | null | undefined;
  readonly stop?: string | readonly string[] | null | undefined;
}

/** The least `top_p` that still leaves the likeliest candidate; OpenAI takes 0 for it. */
const TOP_P_LEAST = 1e-6;
const TOP_K_DEFAULT = 40;

export function samplingOf(fields: SamplingFields, vocabSize: number): Outcome<SamplingOptions> {
  const logitBias: (readonly [number, number])[] = [];
  for (const [name, bias] of Object.entries(fields.logit_bias ?? {})) {
    const tokenId = Number(name);
    if (tokenId >= vocabSize) {
      return refuse("invalid-request", `logit_bias names token ${name}; this model's ids are 0 to ${vocabSize - 1}`, {
        param: "logit_bias",
      });
    }
    logitBias.push([tokenId, bias]);
  }
  logitBias.sort((a, b) => a[0] - b[0]);
  return ok({
    temperature: fields.temperature ?? 1,
    topK: fields.top_k ?? TOP_K_DEFAULT,
    topP: Math.max(fields.top_p ?? 1, TOP_P_LEAST),
    frequencyPenalty: fields.frequency_penalty ?? 0,
    presencePenalty: fields.presence_penalty ?? 0,
    logitBias,
  });
}

export function stopStringsOf(fields: SamplingFields): readonly string[] {
  if (fields.stop === null || fields.stop === undefined) return [];
  return typeof fields.stop === "string" ? [fields.stop] : [...new Set(fields.stop)];
}

/** `asked`: the caller's bound, or null for what the context leaves, at most `defaultMax`. */
export function tokensMaxOf(request: {
  readonly promptTokens: number;
  readonly asked: number | null;
  readonly defaultMax: number;
  readonly contextTokensMax: number;
  readonly param: string;
}): Outcome<number> {
  const { promptTokens, asked, contextTokensMax } = request;
  const over = promptTokens + (asked ?? 1) - contextTokensMax;
  if (over > 0) {
    const wanted = asked === null ? "at least 1 for the answer" : `${asked} for the answer`;
    return refuse(
      "context-length-exceeded",
      `this model's context holds ${contextTokensMax} tokens; the request needs ${promptTokens} for the prompt and ${wanted}: ${over} too many`,
      { param: request.param },
    );
  }
  return ok(asked ?? Math.min(request.defaultMax, contextTokensMax - promptTokens));
}

export function checkStreamOptions(body: {
  readonly stream?: boolean | null | undefined;
  readonly stream_options?: object | null | undefined;
}): Outcome<void> {
  if (body.stream !== true && body.stream_options !== null && body.stream_options !== undefined) {
    return refuse("invalid-request", "stream_options needs stream: true", { param: "stream_options" });
  }
  return ok(undefined);
}
