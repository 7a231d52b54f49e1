/**
 * Embeddings in a context of their own, made when first asked for: the main one gives logits. Each input is decoded in
 * chunks with every position's vector read out, and pooled here, so that a long input needs no batch of its own length.
 * The model's own pooling is followed (last or first token); a model without one gets the mean. Vectors have length one.
 */
import { assert } from "../../domain/assert.ts";
import { DecodeBatch } from "./decode-batch.ts";
import type { Pointer } from "./llama-ffi.ts";
import { type LoadedModel, metadataText } from "./loaded-model.ts";
import { FloatRows } from "./native-memory.ts";

/** Inputs decoded together. */
const INPUTS_TOGETHER_MAX = 8;
/** Positions per decode: each costs a row of logits too, which for a vocabulary of 150,000 is 0.6 MB. */
const CHUNK_TOKENS = 128;
/** Cells of all inputs together: bounds the context's memory. */
const CONTEXT_TOKENS_MAX = 8192;
const CONTEXT_STEP_TOKENS = 256;
const POOLING_NONE = 0;
const FLASH_ATTENTION_OFF = 0;

type Pooling = "mean" | "first" | "last";

export class Embedder {
  readonly #loaded: LoadedModel;
  readonly #context: Pointer;
  readonly #batch: DecodeBatch;
  readonly #rows: FloatRows;
  readonly #length: number;
  readonly #pooling: Pooling;
  readonly inputsTogether: number;

  private constructor(parts: { loaded: LoadedModel; context: Pointer; inputsTogether: number }) {
    const { loaded } = parts;
    this.#loaded = loaded;
    this.#context = parts.context;
    this.inputsTogether = parts.inputsTogether;
    this.#length = loaded.api.embeddingLength(loaded.model);
    this.#batch = new DecodeBatch({ tokensMax: CHUNK_TOKENS, sequencesMax: parts.inputsTogether });
    this.#rows = new FloatRows({ rowFloats: this.#length, rowsMax: CHUNK_TOKENS });
    this.#pooling = poolingOf(loaded);
  }

  /** Null when the context cannot be made: too little memory. */
  static create(loaded: LoadedModel): Embedder | null {
    const perInput = Math.ceil(loaded.contextTokens / CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS;
    const inputsTogether = Math.max(1, Math.min(INPUTS_TOGETHER_MAX, Math.floor(CONTEXT_TOKENS_MAX / perInput)));
    const params = loaded.api.contextDefaults();
    params.n_ctx = perInput * inputsTogether;
    params.n_batch = CHUNK_TOKENS;
    params.n_ubatch = CHUNK_TOKENS;
    params.n_seq_max = inputsTogether;
    params.n_outputs_max = CHUNK_TOKENS;
    params.n_outputs_max_per_seq = CHUNK_TOKENS;
    params.n_threads = loaded.threads;
    params.n_threads_batch = loaded.threads;
    params.flash_attn_type = FLASH_ATTENTION_OFF;
    params.pooling_type = POOLING_NONE;
    params.embeddings = true;
    const context = loaded.api.newContext(loaded.model, params);
    return context === null ? null : new Embedder({ loaded, context, inputsTogether });
  }

  /** Work on up to `inputsTogether` inputs. */
  start(inputs: readonly Int32Array[]): EmbeddingRun {
    assert(inputs.length <= this.inputsTogether, `${inputs.length} inputs are at most ${this.inputsTogether} at once`);
    const { api } = this.#loaded;
    api.clearMemory(api.memory(this.#context), false);
    return { inputs, done: inputs.map(() => 0), sums: inputs.map(() => new Float64Array(this.#length)) };
  }

  /** Decodes one chunk. Answers the vectors when it was the last, else null; or the library's error code. */
  advance(run: EmbeddingRun): readonly Float32Array[] | null | { readonly errorCode: number } {
    const owners: { input: number; position: number }[] = [];
    this.#batch.clear();
    for (const [input, tokens] of run.inputs.entries()) {
      const from = run.done[input] ?? 0;
      const to = Math.min(tokens.length, from + CHUNK_TOKENS - this.#batch.tokens);
      for (let position = from; position < to; position++) {
        this.#batch.add(tokens[position] ?? 0, { position, sequence: input, wantsOutput: true });
        owners.push({ input, position });
      }
      run.done[input] = to;
    }
    const { api } = this.#loaded;
    const code = api.decode(this.#context, this.#batch.raw);
    const address = code === 0 ? api.embeddings(this.#context) : null;
    if (address === null) return { errorCode: code };
    const rows = this.#rows.at(address);
    for (const [index, owner] of owners.entries()) this.#take(run, owner, rows[index]);
    return run.inputs.every((tokens, input) => run.done[input] === tokens.length) ? run.sums.map(normalised) : null;
  }

  #take(run: EmbeddingRun, owner: { input: number; position: number }, row: Float32Array | undefined): void {
    const sum = run.sums[owner.input];
    const length = run.inputs[owner.input]?.length ?? 0;
    assert(sum !== undefined && row !== undefined, "every output has a row and an owner");
    if (this.#pooling === "first" && owner.position !== 0) return;
    if (this.#pooling === "last" && owner.position !== length - 1) return;
    for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] ?? 0) + (row[at] ?? 0);
  }
}

export interface EmbeddingRun {
  readonly inputs: readonly Int32Array[];
  /** Tokens decoded of each input. */
  readonly done: number[];
  readonly sums: readonly Float64Array[];
}

function poolingOf(loaded: LoadedModel): Pooling {
  const architecture = metadataText(loaded.api, loaded.model, "general.architecture") ?? "";
  switch (metadataText(loaded.api, loaded.model, `${architecture}.pooling_type`)) {
    case "2":
      return "first";
    case "3":
      return "last";
    default:
      return "mean";
  }
}

/** To length one; the mean's divisor falls away. */
function normalised(sum: Float64Array): Float32Array {
  let squares = 0;
  for (const value of sum) squares += value * value;
  const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  return Float32Array.from(sum, (value) => value * scale);
}
