/**
 * How one kind of server is spoken to: where its models are listed, how a text is asked for, what its stream means. Everything else (bounds,
 * stop strings, counting, faults) is the same for all of them and is not here.
 */
import type { AttachedKind, EngineAbility } from "../../domain/attached-engine.ts";
import type { SampledToken, SamplingOptions } from "../../domain/sampling.ts";
import type { ServerHttp } from "./server-http.ts";
import type { Framing } from "./stream-events.ts";

export interface Dialect {
  readonly kind: AttachedKind;
  /** It takes and gives token ids; else text. */
  readonly isExact: boolean;
  /** Answers with 2xx while it serves. */
  readonly healthPath: string;
  readonly framing: Framing;
  /** What this API has no field for, whatever the server behind it can. */
  readonly neverHas: readonly EngineAbility[];
  /** Its version when it is of this kind, else null. Rejects as `ServerHttp` does when it does not answer at all. */
  identify(server: ServerHttp, signal: AbortSignal): Promise<string | null>;
  models(server: ServerHttp, signal: AbortSignal): Promise<readonly ListedModel[]>;
  /** Ids of a text in the server's own vocabulary, without a beginning-of-sequence token; null where it does not tell. */
  tokenize(ask: {
    server: ServerHttp;
    servedAs: string;
    text: string;
    signal: AbortSignal;
  }): Promise<readonly number[] | null>;
  request(asked: AskedText): { readonly path: string; readonly body: Readonly<Record<string, unknown>> };
  /** A reader for one answer. Throws `attached-malformed` at what is no event of this kind. */
  reader(): (event: unknown) => StreamPart;
}

/** What a server says of a model; null where it does not. */
export interface ListedModel {
  readonly servedAs: string;
  readonly contextTokens: number | null;
  readonly sequencesMax: number | null;
  readonly quantisation: string | null;
  readonly vocabSize: number | null;
  readonly embeddingLength: number | null;
  readonly parameterCount: number | null;
}

export interface AskedText {
  readonly servedAs: string;
  readonly prompt: { readonly tokenIds: readonly number[] } | { readonly text: string };
  readonly tokensMax: number;
  readonly sampling: SamplingOptions;
  /** 31 bits. */
  readonly seed: number;
  readonly grammar: string | null;
  readonly ignoresStopTokens: boolean;
  readonly topLogprobs: number | null;
  /** Keeps what is cached apart, where the server can. */
  readonly cacheScope: string;
}

export interface StreamPart {
  /** Null: this kind gives text only. */
  readonly tokens: readonly SampledToken[] | null;
  readonly text: string;
  /** Tokens generated up to here, as the server counts; null where it does not tell. */
  readonly countSoFar: number | null;
  readonly end: "stop" | "length" | null;
  /** Prompt tokens that it had in its cache. */
  readonly cachedTokens: number | null;
}

export const NOTHING: StreamPart = { tokens: [], text: "", countSoFar: null, end: null, cachedTokens: null };

/** Lists and settings: small, and asked of a server that may be busy with a long prompt. */
export const ASK_MS_MAX = 10_000;

export function plainToken(tokenId: number): SampledToken {
  return { tokenId, logprob: null, top: [] };
}
