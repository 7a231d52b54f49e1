/** Messages between the tokenizer host and its process. Both ends are this package: the types are the schema. */
import type { LlamaLibraryFiles } from "../engine-llama/llama-library.ts";
import type { TextFragment } from "./text-fragments.ts";

export type TokenizerCommand =
  | { readonly kind: "start"; readonly library: LlamaLibraryFiles }
  | { readonly kind: "open"; readonly key: number; readonly path: string }
  | { readonly kind: "close"; readonly key: number; readonly vocabulary: number }
  | {
      readonly kind: "tokenize";
      readonly key: number;
      readonly vocabulary: number;
      readonly fragments: readonly TextFragment[];
    };

export interface VocabularyReport {
  /** Number of the vocabulary in this process. */
  readonly vocabulary: number;
  /** All pieces, one after the other, as shown to clients; where each begins, and the end. */
  readonly pieces: Uint8Array;
  readonly pieceStarts: Int32Array;
  readonly specialTexts: readonly string[];
  readonly stopTokenIds: Int32Array;
  /** Token id and text, or null. */
  readonly bos: { readonly tokenId: number; readonly text: string } | null;
  readonly eos: { readonly tokenId: number; readonly text: string } | null;
  /** Does the model's metadata want a beginning-of-sequence token before every text. */
  readonly addsBos: boolean;
}

export type TokenizerReport =
  | { readonly kind: "opened"; readonly key: number; readonly report: VocabularyReport }
  | { readonly kind: "tokenized"; readonly key: number; readonly tokenIds: Int32Array }
  | { readonly kind: "closed"; readonly key: number }
  | { readonly kind: "failed"; readonly key: number; readonly message: string };
