/**
 * Reaches into the graph while the library computes it. The library asks of each tensor whether it is to be shown, and shows it
 * once it was computed: the stage's hidden states are copied out, and the answer that nothing more is wanted then ends the
 * graph, so that what stands behind (output norm, head) is not computed. Where the library changes what it is given before the
 * first layer (`STAGE_INPUT_KEY`), the hidden states are put in again behind that.
 *
 * A batch may be computed in several pieces, each with a graph of its own: rows follow each other in the order of the batch.
 */
import type { LlamaApi, Pointer } from "./llama-ffi.ts";
import { allocateNative } from "./native-memory.ts";

export interface TapNames {
  /** Null: nothing is copied out. */
  readonly output: string | null;
  /** Null: nothing is put in. */
  readonly input: string | null;
}

export class TensorTap {
  readonly address: Pointer;
  readonly #api: LlamaApi;
  readonly #names: TapNames;
  readonly #buffer: Pointer;
  readonly #numbers: Float32Array;
  readonly #bytesMax: number;
  #source: { readonly address: Pointer; readonly bytes: number } | null = null;
  #bytesIn = 0;
  #bytesOut = 0;

  /** Of the tensors with these names, up to so many numbers in a decode. */
  constructor(api: LlamaApi, { names, numbersMax }: { readonly names: TapNames; readonly numbersMax: number }) {
    this.#api = api;
    this.#names = names;
    this.#bytesMax = numbersMax * Float32Array.BYTES_PER_ELEMENT;
    const native = allocateNative(this.#bytesMax);
    this.#buffer = native.address;
    this.#numbers = new Float32Array(native.buffer);
    this.address = api.evalCallback((tensor, isQuestion) => this.#see(tensor, isQuestion));
  }

  /** Before each decode: where the batch's hidden states lie, if there are any. */
  begin(source: { readonly address: Pointer; readonly bytes: number } | null): void {
    this.#source = source;
    this.#bytesIn = 0;
    this.#bytesOut = 0;
  }

  /** Whether all hidden states of the batch were put in where they belong. */
  get hasPutAll(): boolean {
    return this.#names.input === null || this.#source === null || this.#bytesIn === this.#source.bytes;
  }

  /** What was copied out since, or null where it is not so many numbers. Overwritten by the next decode. */
  take(count: number): Float32Array | null {
    return this.#bytesOut === count * Float32Array.BYTES_PER_ELEMENT ? this.#numbers.subarray(0, count) : null;
  }

  #see(tensor: Pointer, isQuestion: boolean): boolean {
    const name = this.#api.tensorName(tensor);
    if (isQuestion) return name === this.#names.output || name === this.#names.input;
    const bytes = Number(this.#api.tensorBytes(tensor));
    if (name === this.#names.input) {
      // More than the batch has is a tensor that is not what its name says: the count tells.
      if (this.#source !== null && this.#bytesIn + bytes <= this.#source.bytes) {
        this.#api.writeTensor(tensor, this.#source.address + BigInt(this.#bytesIn), 0, bytes);
      }
      this.#bytesIn += bytes;
      return true;
    }
    if (this.#bytesOut + bytes <= this.#bytesMax) {
      this.#api.readTensor(tensor, this.#buffer + BigInt(this.#bytesOut), 0, bytes);
    }
    this.#bytesOut += bytes;
    return false;
  }
}
