/** What the engine must know of each token: its bytes, and whether it ends generation. Bytes are asked for once per token. */
import type { LlamaApi, Pointer } from "./llama-ffi.ts";

/** A token's text is a few bytes; the longest in known vocabularies are runs of 128 spaces or the like. */
const PIECE_BYTES_START = 256;
/** `LLAMA_VOCAB_TYPE_NONE`: a stage that knows how many tokens there are, and nothing of them. The library aborts when asked. */
const NO_VOCABULARY = 0;

export class Vocabulary {
  readonly size: number;
  readonly pointer: Pointer;
  readonly #api: LlamaApi;
  readonly #pieces: (Uint8Array | undefined)[];
  readonly #isEnd: Uint8Array;
  readonly #isHidden: Uint8Array;
  #buffer = new Uint8Array(PIECE_BYTES_START);

  constructor(api: LlamaApi, model: Pointer) {
    this.#api = api;
    this.pointer = api.vocab(model);
    this.size = api.vocabSize(this.pointer);
    this.#pieces = new Array<Uint8Array | undefined>(this.size);
    this.#isEnd = new Uint8Array(this.size);
    this.#isHidden = new Uint8Array(this.size);
    if (api.vocabType(this.pointer) === NO_VOCABULARY) return;
    for (let token = 0; token < this.size; token++) {
      this.#isEnd[token] = api.isEndOfGeneration(this.pointer, token) ? 1 : 0;
      this.#isHidden[token] = api.isControl(this.pointer, token) ? 1 : 0;
    }
  }

  isEndOfGeneration(token: number): boolean {
    return this.#isEnd[token] === 1;
  }

  /** Control tokens that do not end generation: they have no text, so that a grammar can say nothing of them. */
  isHiddenControl(token: number): boolean {
    return this.#isHidden[token] === 1 && this.#isEnd[token] === 0;
  }

  /** Bytes as shown to a client: none for control tokens. */
  piece(token: number): Uint8Array {
    const known = this.#pieces[token];
    if (known !== undefined) return known;
    const piece = this.#render(token, false);
    this.#pieces[token] = piece;
    return piece;
  }

  /** Bytes with a control token's name written out. */
  rendered(token: number): Uint8Array {
    return this.#render(token, true);
  }

  #render(token: number, special: boolean): Uint8Array {
    let length = this.#api.piece(this.pointer, token, this.#buffer, this.#buffer.length, 0, special);
    if (length < 0) {
      this.#buffer = new Uint8Array(-length);
      length = this.#api.piece(this.pointer, token, this.#buffer, this.#buffer.length, 0, special);
    }
    return this.#buffer.slice(0, Math.max(0, length));
  }
}
