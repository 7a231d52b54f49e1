/** The batch that `llama_decode` takes, in memory of our own that is filled anew for each step. */
import { assert } from "../../domain/assert.ts";
import type { Batch } from "./llama-ffi.ts";
import { allocateNative } from "./native-memory.ts";

const POINTER_BYTES = 8;

export interface BatchPlace {
  readonly position: number;
  readonly sequence: number;
  readonly wantsOutput: boolean;
}

export class DecodeBatch {
  readonly raw: Batch;
  readonly #capacity: number;
  readonly #tokens: Int32Array;
  readonly #hidden: Float32Array;
  readonly #embeddingLength: number;
  readonly #positions: Int32Array;
  readonly #sequencePointers: BigInt64Array;
  readonly #wantsOutput: Int8Array;
  readonly #sequenceTable: bigint;

  /** Room for `tokensMax` tokens, or hidden states of `embeddingLength` elements, of sequences numbered below `sequencesMax`. */
  constructor(size: { readonly tokensMax: number; readonly sequencesMax: number; readonly embeddingLength?: number }) {
    this.#capacity = size.tokensMax;
    const tokens = allocateNative(size.tokensMax * 4);
    this.#embeddingLength = size.embeddingLength ?? 0;
    const hidden = this.#embeddingLength === 0 ? null : allocateNative(size.tokensMax * this.#embeddingLength * 4);
    this.#hidden = new Float32Array(hidden?.buffer ?? new ArrayBuffer(0));
    const positions = allocateNative(size.tokensMax * 4);
    const counts = allocateNative(size.tokensMax * 4);
    const pointers = allocateNative(size.tokensMax * POINTER_BYTES);
    const outputs = allocateNative(size.tokensMax);
    const sequences = allocateNative(size.sequencesMax * 4);
    this.#tokens = new Int32Array(tokens.buffer);
    this.#positions = new Int32Array(positions.buffer);
    this.#sequencePointers = new BigInt64Array(pointers.buffer);
    this.#wantsOutput = new Int8Array(outputs.buffer);
    this.#sequenceTable = sequences.address;
    new Int32Array(counts.buffer).fill(1);
    for (const [index] of new Int32Array(sequences.buffer).entries()) new Int32Array(sequences.buffer)[index] = index;
    this.raw = {
      n_tokens: 0,
      token: hidden === null ? tokens.address : null,
      embd: hidden?.address ?? null,
      pos: positions.address,
      n_seq_id: counts.address,
      seq_id: pointers.address,
      logits: outputs.address,
    };
  }

  get tokens(): number {
    return this.raw.n_tokens;
  }

  /** Where the hidden states lie; null for a batch of tokens. */
  get hidden(): { readonly address: bigint; readonly bytes: number } | null {
    const { embd, n_tokens } = this.raw;
    return embd === null ? null : { address: embd, bytes: n_tokens * this.#embeddingLength * 4 };
  }

  clear(): void {
    this.raw.n_tokens = 0;
  }

  add(token: number, place: BatchPlace): void {
    this.#tokens[this.#place(place)] = token;
  }

  /** The hidden state of one position. */
  addHidden(state: Float32Array, place: BatchPlace): void {
    assert(state.length === this.#embeddingLength, `a hidden state has ${this.#embeddingLength} elements`);
    this.#hidden.set(state, this.#place(place) * this.#embeddingLength);
  }

  #place(place: BatchPlace): number {
    const at = this.raw.n_tokens;
    assert(at < this.#capacity, `a batch holds at most ${this.#capacity} tokens`);
    this.#positions[at] = place.position;
    this.#sequencePointers[at] = this.#sequenceTable + BigInt(4 * place.sequence);
    this.#wantsOutput[at] = place.wantsOutput ? 1 : 0;
    this.raw.n_tokens = at + 1;
    return at;
  }
}
