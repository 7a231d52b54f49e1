/** One model's vocabulary in the coordinator: pieces from a table here, ids from the tokenising process. */
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { ModelId } from "../../domain/ids.ts";
import type { SpecialToken, Tokenizer, TokenizerPart } from "../../ports/tokenizer.ts";
import { SpecialTexts, type TextFragment, textFragments } from "./text-fragments.ts";
import type { VocabularyReport } from "./tokenizer-protocol.ts";

export class LlamaTokenizer implements Tokenizer {
  readonly modelId: ModelId;
  readonly vocabSize: number;
  readonly bosToken: SpecialToken | null;
  readonly eosToken: SpecialToken | null;
  readonly stopTokenIds: readonly number[];
  readonly specialTexts: readonly string[];
  readonly #vocabulary: VocabularyReport;
  readonly #specials: SpecialTexts;
  readonly #close: () => Promise<void>;
  readonly #tokenize: (fragments: readonly TextFragment[]) => Promise<Int32Array>;

  #closing: Promise<void> | null = null;

  constructor(parts: {
    readonly modelId: ModelId;
    readonly vocabulary: VocabularyReport;
    readonly tokenize: (fragments: readonly TextFragment[]) => Promise<Int32Array>;
    /** Called once. */
    readonly close: () => Promise<void>;
  }) {
    const { vocabulary } = parts;
    this.modelId = parts.modelId;
    this.vocabSize = vocabulary.pieceStarts.length - 1;
    this.bosToken = vocabulary.bos;
    this.eosToken = vocabulary.eos;
    this.stopTokenIds = Array.from(vocabulary.stopTokenIds);
    this.specialTexts = vocabulary.specialTexts;
    this.#vocabulary = vocabulary;
    this.#specials = new SpecialTexts(vocabulary.specialTexts);
    this.#tokenize = parts.tokenize;
    this.#close = parts.close;
  }

  piece(tokenId: number): Uint8Array {
    const { pieces, pieceStarts } = this.#vocabulary;
    assert(tokenId >= 0 && tokenId < this.vocabSize, `token ${tokenId} is below ${this.vocabSize}`);
    return pieces.subarray(pieceStarts[tokenId] ?? 0, pieceStarts[tokenId + 1] ?? 0);
  }

  /** `addBos` puts the beginning-of-sequence token first if the model's metadata asks for one. */
  async tokenize(parts: readonly TokenizerPart[], options: { addBos: boolean }): Promise<readonly number[]> {
    if (this.#closing !== null)
      throw new FallowError("tokenizer-closed", `the vocabulary of ${this.modelId} is closed`);
    const fragments = textFragments(parts, this.#specials);
    const tokenIds = fragments.length === 0 ? [] : Array.from(await this.#tokenize(fragments));
    const { addsBos, bos } = this.#vocabulary;
    return options.addBos && addsBos && bos !== null ? [bos.tokenId, ...tokenIds] : tokenIds;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }
}
