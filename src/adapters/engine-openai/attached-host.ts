/**
 * Loads nothing: the server holds the model already. What a load does here is to make sure of it. The model that it holds is compared with
 * the one of the catalogue as far as it tells (sizes, and how it tokenises), and what it can do is tried. A server that is away is not waited for: a
 * replica that loads for ever would keep the grid from loading another one.
 */

import { FallowError } from "../../domain/fault.ts";
import type { Engine, EngineHost, EngineLoadOptions, EngineLoadSpec } from "../../ports/engine.ts";
import type { Tokenizer, TokenizerHost } from "../../ports/tokenizer.ts";
import { ATTACHED_TIMES, AttachedEngine, type AttachedTimes } from "./attached-engine.ts";
import type { Dialect, ListedModel } from "./dialect.ts";
import { probeAbilities } from "./probe-abilities.ts";
import { type FoundServer, probeServer, type ServerWish } from "./probe-server.ts";
import type { AttachedModelFacts } from "./read-attached-model.ts";
import type { ServerHttp } from "./server-http.ts";
import { TextTokens } from "./text-tokens.ts";

export interface AttachedHostOptions {
  readonly server: ServerHttp;
  readonly wish: ServerWish;
  readonly tokenizers: TokenizerHost;
  /** What the file of weights says of itself, of which only the head need be there. */
  readonly readModel: (weightsPath: string) => Promise<AttachedModelFacts>;
  readonly times?: AttachedTimes;
  /** Of a server that the agent starts itself; absent: it is there or not. */
  readonly keeper?: ServerKeeper;
}

export interface ServerKeeper {
  use(): void;
  /** `keeps`: whoever used it comes back soon. */
  leave(how: { readonly keeps: boolean }): Promise<void>;
}

/** Words of several scripts, figures, spaces and signs: two vocabularies that agree on these are one. */
const SAMPLE = "Hello, world!  12345 naïve façade — 北京市 Привет мир\n\tfor (let i = 0; i < 10; i++) { return x**2; }";
/** Counts of parameters differ by what is counted: tied matrices, padded vocabularies. */
const PARAMETERS_OFF_MAX = 0.25;

export class AttachedHost implements EngineHost {
  readonly #options: AttachedHostOptions;

  constructor(options: AttachedHostOptions) {
    this.#options = options;
  }

  async load(spec: EngineLoadSpec, options: EngineLoadOptions): Promise<Engine> {
    const { keeper } = this.#options;
    keeper?.use();
    try {
      return await this.#load(spec, options);
    } catch (thrown) {
      await keeper?.leave({ keeps: !options.signal.aborted });
      throw thrown;
    }
  }

  async #load(spec: EngineLoadSpec, { signal, onProgress }: EngineLoadOptions): Promise<Engine> {
    const { server, wish, tokenizers, readModel, keeper, times = ATTACHED_TIMES } = this.#options;
    const found = await probeServer(server, wish, signal);
    const { dialect, described } = found;
    const listed = await listedAs(spec, found, { server, signal });
    const model = await readModel(spec.weightsPath);
    const tokenizer = await tokenizers.open(spec);
    try {
      onProgress?.(0.5);
      const { servedAs } = listed;
      const differs =
        whatDiffers(listed, model) ?? (await whatIsSpeltOtherwise({ server, dialect, servedAs, tokenizer, signal }));
      if (differs !== null) {
        throw new FallowError("attached-model-differs", `${servedAs} on the server is not ${spec.modelId}: ${differs}`);
      }
      const text = await TextTokens.of(tokenizer);
      const parts = { server, dialect, servedAs, tokenizer, text };
      const lacks = await probeAbilities({ ...parts, ...times, signal });
      signal.throwIfAborted();
      onProgress?.(1);
      const quantisation = listed.quantisation ?? "unknown";
      return new AttachedEngine({
        ...parts,
        times,
        release: ({ cause }) => keeper?.leave({ keeps: cause !== "closed" }) ?? Promise.resolve(),
        info: {
          libraryVersion: `${dialect.kind} ${described.version}`,
          variant: "cpu",
          // What computes there is not told; two servers of one kind, version and quantisation are taken to be alike.
          numericClass: `${dialect.kind}-${described.version}/attached/${quantisation}`,
          vocabSize: tokenizer.vocabSize,
          embeddingLength: model.embeddingLength,
          contextTokens: Math.min(spec.contextTokens, listed.contextTokens ?? spec.contextTokens),
          sequencesMax: spec.sequencesMax,
          layersOffloaded: 0,
          processId: 0,
          lacks,
        },
      });
    } catch (thrown) {
      await tokenizer.close();
      throw thrown;
    }
  }
}

async function listedAs(
  { modelId }: EngineLoadSpec,
  { dialect, described }: FoundServer,
  { server, signal }: { readonly server: ServerHttp; readonly signal: AbortSignal },
): Promise<ListedModel> {
  const offered = described.models.find((model) => model.modelId === modelId);
  const listed = (await dialect.models(server, signal)).find(({ servedAs }) => servedAs === offered?.servedAs);
  if (listed !== undefined) return listed;
  throw new FallowError("attached-model-missing", `the ${dialect.kind} server holds no ${modelId}`);
}

/** Null where nothing that the server tells is otherwise. */
export function whatDiffers(listed: ListedModel, model: AttachedModelFacts): string | null {
  const { vocabSize, embeddingLength, parameterCount } = listed;
  if (vocabSize !== null && vocabSize !== model.vocabSize) {
    return `a vocabulary of ${vocabSize}, and it should be ${model.vocabSize}`;
  }
  if (embeddingLength !== null && embeddingLength !== model.embeddingLength) {
    return `an embedding length of ${embeddingLength}, and it should be ${model.embeddingLength}`;
  }
  if (parameterCount === null) return null;
  const off = Math.abs(parameterCount - model.parameterCount) / model.parameterCount;
  return off > PARAMETERS_OFF_MAX ? `${parameterCount} parameters, and it should be ${model.parameterCount}` : null;
}

async function whatIsSpeltOtherwise(ask: {
  readonly server: ServerHttp;
  readonly dialect: Dialect;
  readonly servedAs: string;
  readonly tokenizer: Tokenizer;
  readonly signal: AbortSignal;
}): Promise<string | null> {
  const theirs = await ask.dialect.tokenize({ ...ask, text: SAMPLE });
  if (theirs === null) return null;
  const ours = await ask.tokenizer.tokenize([{ text: SAMPLE, special: false }], { addBos: false });
  const at = ours.findIndex((tokenId, place) => theirs[place] !== tokenId);
  if (at === -1 && theirs.length === ours.length) return null;
  const place = at === -1 ? ours.length : at;
  return `it tokenises otherwise: token ${place} of a sample is ${theirs[place] ?? "none"}, and it should be ${ours[place] ?? "none"}`;
}
