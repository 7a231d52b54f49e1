import type { ModelId } from "../domain/ids.ts";

/** A model's vocabulary in the coordinator: it renders, tokenises, counts and detokenises; nodes only see token ids. */
export interface Tokenizer {
  readonly modelId: ModelId;
  readonly vocabSize: number;
  readonly bosToken: SpecialToken | null;
  readonly eosToken: SpecialToken | null;
  /** Tokens that end generation. */
  readonly stopTokenIds: readonly number[];
  /** Texts of control tokens, e.g. `<|end|>`: content that holds one is tokenised as plain text, so nobody forges a role. */
  readonly specialTexts: readonly string[];
  /** Bytes of a token as shown to a client: empty for control tokens. */
  piece(tokenId: number): Uint8Array;
  /** Text parts in order; a `special` part may name control tokens (template text), a plain one never does (content). */
  tokenize(parts: readonly TokenizerPart[], options: { addBos: boolean }): Promise<readonly number[]>;
  /** Frees what the vocabulary costs; `tokenize` rejects from here on, `piece` goes on. May be called twice. */
  close(): Promise<void>;
}

export interface TokenizerPart {
  readonly text: string;
  readonly special: boolean;
}

export interface SpecialToken {
  readonly tokenId: number;
  readonly text: string;
}

/** Opens a vocabulary. Rejects with a `FallowError` (`tokenizer-unusable`) when the file's vocabulary cannot be loaded. */
export interface TokenizerHost {
  open(model: { modelId: ModelId; weightsPath: string }): Promise<Tokenizer>;
  close(): Promise<void>;
}
