/**
 * One `llama_decode` of a stage: token ids or hidden states go in, hidden states of the stage's last layer or rows of logits
 * come out. Parts of one decode are of equal length, so that the library computes each as it would alone.
 */
import { assert } from "../../domain/assert.ts";
import type { LayerShare } from "../../domain/weights.ts";
import { PREFILL_TOKENS_MAX } from "../../inference/batch-policy.ts";
import {
  STAGE_FIRST_KEY,
  STAGE_INPUT_KEY,
  STAGE_MODEL_LAYERS_KEY,
  STAGE_OUTPUT_KEY,
} from "../../weights/stage-plan.ts";
import { DecodeBatch } from "./decode-batch.ts";
import type { LlamaApi, Pointer } from "./llama-ffi.ts";
import { type LoadedModel, type LoadResult, loadModel, type ModelRequest, metadataText } from "./loaded-model.ts";
import { type TapNames, TensorTap } from "./tensor-tap.ts";

/** The library keeps a row of logits for each position whose hidden state is wanted: 512 of them are 300 MB in a vocabulary of 150,000. */
const LOGITS_BYTES_MAX = 64 * 1024 * 1024;
/** But never fewer positions than make a piece of a prompt worth its decode. */
const POSITIONS_MIN = 32;
/** Rows of drafts that are verified together, beyond one of each sequence. */
export const DRAFT_ROWS_MAX = 32;

export interface DecodePart {
  readonly slot: number;
  readonly start: number;
  readonly count: number;
  readonly tokenIds: Int32Array | null;
  readonly hidden: Float32Array | null;
  /** Of the part's first position in the input. */
  readonly offset: number;
  /** Rows of logits wanted, after the last so many positions. */
  readonly rows: number;
}

export interface StageRequest extends Omit<ModelRequest, "stage"> {
  readonly share: LayerShare;
}

export type StageLoadResult =
  | { readonly ok: true; readonly value: StageDecoder }
  | Extract<LoadResult, { readonly ok: false }>;

export class StageDecoder {
  readonly loaded: LoadedModel;
  readonly share: LayerShare;
  readonly embeddingLength: number;
  readonly #tap: TensorTap | null;
  readonly #batch: DecodeBatch;
  readonly #onFatal: (message: string) => never;

  private constructor(parts: {
    loaded: LoadedModel;
    share: LayerShare;
    tap: TensorTap | null;
    onFatal: (message: string) => never;
  }) {
    const { loaded, share } = parts;
    this.loaded = loaded;
    this.share = share;
    this.#tap = parts.tap;
    this.#onFatal = parts.onFatal;
    this.embeddingLength = loaded.api.inputLength(loaded.model);
    this.#batch = new DecodeBatch({
      tokensMax: loaded.batchTokens,
      sequencesMax: loaded.sequencesMax,
      embeddingLength: share.hasEmbedding ? 0 : this.embeddingLength,
    });
  }

  static load(api: LlamaApi, request: StageRequest, onFatal: (message: string) => never): StageLoadResult {
    const { share } = request;
    const found: { tap: TensorTap | null } = { tap: null };
    const result = loadModel(api, {
      ...request,
      stage: ({ model, vocabSize }) => {
        const positionsMax = positionsOfDecode(vocabSize, share, request.sequencesMax);
        const outputsMax = share.hasOutput
          ? Math.min(positionsMax, request.sequencesMax + DRAFT_ROWS_MAX)
          : positionsMax;
        const names = tapNames(api, model, share);
        if (names.output !== null || names.input !== null) {
          found.tap = new TensorTap(api, { names, numbersMax: positionsMax * api.inputLength(model) });
        }
        return { positionsMax, outputsMax, evalCallback: found.tap?.address ?? null };
      },
    });
    if (!result.ok) return result;
    const refusal = shareRefusal(api, result.value.model, share);
    if (refusal !== null) return { ok: false, code: "stage-refused", message: refusal };
    return {
      ok: true,
      value: new StageDecoder({ loaded: result.value, share, tap: found.tap, onFatal }),
    };
  }

  /** Positions that one decode may take, of all parts together. */
  get positionsMax(): number {
    return this.loaded.batchTokens;
  }

  /** Rows of logits that one decode may give. */
  get rowsMax(): number {
    return Math.min(this.loaded.batchTokens, this.loaded.sequencesMax + DRAFT_ROWS_MAX);
  }

  /** Parts are sorted by slot: the library merges neighbours into one piece of work. */
  decode(parts: readonly DecodePart[]): void {
    this.#batch.clear();
    for (const part of parts) this.#add(part);
    this.#tap?.begin(this.#batch.hidden);
    const { api, context } = this.loaded;
    const code = api.decode(context, this.#batch.raw);
    if (code !== 0) this.#onFatal(`llama_decode answered ${code} for ${this.#batch.tokens} positions`);
    if (this.#tap?.hasPutAll === false)
      this.#onFatal("hidden states could not be put in before the stage's first layer");
  }

  /** Of all positions of the last decode, in the order of its parts. Overwritten by the next. */
  hidden(): Float32Array {
    const rows = this.#tap?.take(this.#batch.tokens * this.embeddingLength) ?? null;
    return rows ?? this.#onFatal(`the stage's last layer did not give ${this.#batch.tokens} rows of hidden states`);
  }

  /** The rows wanted of the last decode, in order. Overwritten by the next. */
  logits(): readonly Float32Array[] {
    const { api, context, logitRows } = this.loaded;
    const address = api.logits(context);
    return address === null
      ? this.#onFatal("llama_get_logits answered NULL after a decode with outputs")
      : logitRows.at(address);
  }

  #add(part: DecodePart): void {
    const { share, embeddingLength } = this;
    for (let at = 0; at < part.count; at++) {
      const wantsOutput = share.hasOutput ? at >= part.count - part.rows : true;
      const place = { position: part.start + at, sequence: part.slot, wantsOutput };
      const index = part.offset + at;
      if (part.tokenIds !== null) {
        this.#batch.add(part.tokenIds[index] ?? 0, place);
      } else {
        assert(part.hidden !== null, "a part has token ids or hidden states");
        this.#batch.addHidden(part.hidden.subarray(index * embeddingLength, (index + 1) * embeddingLength), place);
      }
    }
  }
}

function positionsOfDecode(vocabSize: number, share: LayerShare, sequencesMax: number): number {
  const affordable = share.hasOutput ? PREFILL_TOKENS_MAX : Math.floor(LOGITS_BYTES_MAX / (4 * Math.max(1, vocabSize)));
  return Math.max(sequencesMax, POSITIONS_MIN, Math.min(PREFILL_TOKENS_MAX, affordable));
}

/**
 * Why this file is not the stage that was planned, or null. A file without our keys is a whole model: cut by something else, it may hold an
 * architecture that cannot be.
 */
function shareRefusal(api: LlamaApi, model: Pointer, share: LayerShare): string | null {
  const layers = api.layerCount(model);
  if (layers !== share.count) return `the file holds ${layers} layers, the stage is to have ${share.count}`;
  const first = metadataText(api, model, STAGE_FIRST_KEY);
  const ofModel = metadataText(api, model, STAGE_MODEL_LAYERS_KEY);
  const isWhole = share.hasEmbedding && share.hasOutput;
  if (first === null && ofModel === null && isWhole) return null;
  const wanted = `layers ${share.first} to ${share.first + share.count - 1}`;
  if (first === null || ofModel === null) return `the file does not say that it is a stage: ${wanted} were to be in it`;
  const isLast = share.first + share.count === Number(ofModel);
  if (Number(first) === share.first && share.hasEmbedding === (share.first === 0) && share.hasOutput === isLast)
    return null;
  return `the file is a stage from layer ${first} on of a model of ${ofModel}, not ${wanted} with ${endsOf(share)}`;
}

function endsOf({ hasEmbedding, hasOutput }: LayerShare): string {
  return `${hasEmbedding ? "an" : "no"} embedding and ${hasOutput ? "a" : "no"} head`;
}

/** As the stage's file tells; a file that tells nothing is of an architecture that needs nothing. */
function tapNames(api: LlamaApi, model: Pointer, share: LayerShare): TapNames {
  const output = share.hasOutput ? null : (metadataText(api, model, STAGE_OUTPUT_KEY) ?? `l_out-${share.count - 1}`);
  const input = share.hasEmbedding ? null : metadataText(api, model, STAGE_INPUT_KEY);
  return { output, input };
}
