/**
 * A GBNF grammar as libllama runs it. The library aborts the process when a token is accepted that does not fit, so that a
 * token is accepted only after the grammar allowed it. Control tokens are never allowed: the library would match their
 * names as text, which no client sees.
 */
import type { TokenMask } from "../../inference/sampler.ts";
import type { LlamaApi, Pointer } from "./llama-ffi.ts";
import { allocateNative } from "./native-memory.ts";
import type { Vocabulary } from "./vocabulary.ts";

export const GRAMMAR_BYTES_MAX = 256 * 1024;
/** The library parses groups and follows rules by recursion: past these its stack would run out, and the process with it. */
const GROUP_DEPTH_MAX = 128;
const RULES_MAX = 8192;
const TOKEN_DATA_WORDS = 3;
const DATA_ARRAY_BYTES = 32;

/** `llama_token_data_array` with room for the whole vocabulary; one per process. */
export class GrammarCandidates {
  readonly #ids: Int32Array;
  readonly #logits: Float32Array;
  readonly #size: BigInt64Array;
  readonly #header: Pointer;

  constructor(vocabSize: number) {
    const data = allocateNative(vocabSize * TOKEN_DATA_WORDS * 4);
    const header = allocateNative(DATA_ARRAY_BYTES);
    this.#ids = new Int32Array(data.buffer);
    this.#logits = new Float32Array(data.buffer);
    this.#size = new BigInt64Array(header.buffer);
    this.#header = header.address;
    this.#size[0] = data.address;
    this.#size[2] = -1n;
    this.#size[3] = 0n;
  }

  apply(api: LlamaApi, sampler: Pointer, ids: Int32Array, count: number, allowed: Uint8Array): void {
    for (let index = 0; index < count; index++) {
      this.#ids[TOKEN_DATA_WORDS * index] = ids[index] ?? 0;
      this.#logits[TOKEN_DATA_WORDS * index + 1] = 0;
    }
    this.#size[1] = BigInt(count);
    api.applySampler(sampler, this.#header);
    for (let index = 0; index < count; index++) {
      allowed[index] = this.#logits[TOKEN_DATA_WORDS * index + 1] === 0 ? 1 : 0;
    }
  }
}

export class GrammarMask implements TokenMask {
  readonly #api: LlamaApi;
  readonly #sampler: Pointer;
  readonly #vocabulary: Vocabulary;
  readonly #candidates: GrammarCandidates;
  readonly #one = { id: new Int32Array(1), allowed: new Uint8Array(1) };

  private constructor(parts: {
    api: LlamaApi;
    sampler: Pointer;
    vocabulary: Vocabulary;
    candidates: GrammarCandidates;
  }) {
    this.#api = parts.api;
    this.#sampler = parts.sampler;
    this.#vocabulary = parts.vocabulary;
    this.#candidates = parts.candidates;
  }

  /** Null when the library cannot parse the grammar; what it disliked is on standard error. */
  static parse(
    grammar: string,
    parts: { api: LlamaApi; vocabulary: Vocabulary; candidates: GrammarCandidates },
  ): GrammarMask | null {
    const sampler = parts.api.newGrammar(parts.vocabulary.pointer, grammar, "root");
    return sampler === null ? null : new GrammarMask({ ...parts, sampler });
  }

  allow(ids: Int32Array, count: number, allowed: Uint8Array): void {
    this.#candidates.apply(this.#api, this.#sampler, ids, count, allowed);
    for (let index = 0; index < count; index++) {
      if (this.#vocabulary.isHiddenControl(ids[index] ?? 0)) allowed[index] = 0;
    }
  }

  /** Takes a token that `allow` has let through for this state. */
  accept(token: number): void {
    this.#api.acceptToken(this.#sampler, token);
  }

  /** Takes a token of an earlier attempt; false when the grammar does not allow it. */
  acceptIfAllowed(token: number): boolean {
    const { id, allowed } = this.#one;
    id[0] = token;
    this.allow(id, 1, allowed);
    if (allowed[0] === 0) return false;
    if (!this.#vocabulary.isEndOfGeneration(token)) this.accept(token);
    return true;
  }

  free(): void {
    this.#api.freeSampler(this.#sampler);
  }
}

/** Parses the grammars of one model; what its masks share is made with the first of them. */
export class GrammarParser {
  readonly #parts: { readonly api: LlamaApi; readonly vocabulary: Vocabulary };
  #candidates: GrammarCandidates | null = null;

  constructor(parts: { readonly api: LlamaApi; readonly vocabulary: Vocabulary }) {
    this.#parts = parts;
  }

  /** The mask, or why there is none. */
  parse(grammar: string): GrammarMask | string {
    const refusal = grammarRefusal(grammar);
    if (refusal !== null) return refusal;
    const { api, vocabulary } = this.#parts;
    this.#candidates ??= new GrammarCandidates(vocabulary.size);
    const mask = GrammarMask.parse(grammar, { api, vocabulary, candidates: this.#candidates });
    return mask ?? "libllama cannot parse the grammar: it needs a rule `root`, no undefined rule and no left recursion";
  }
}

/** Why a grammar may not reach the library, or null. */
export function grammarRefusal(grammar: string): string | null {
  const bytes = Buffer.byteLength(grammar);
  if (bytes === 0) return "the grammar is empty";
  if (bytes > GRAMMAR_BYTES_MAX) return `the grammar has ${bytes} bytes, at most ${GRAMMAR_BYTES_MAX} are taken`;
  if (grammar.includes("\0")) return "the grammar holds a zero byte";
  const rules = grammar.split("::=").length - 1;
  if (rules > RULES_MAX) return `the grammar has ${rules} rules, at most ${RULES_MAX} are taken`;
  let depth = 0;
  for (const character of grammar) {
    if (character === "(") depth++;
    if (character === ")") depth = Math.max(0, depth - 1);
    if (depth > GROUP_DEPTH_MAX) return `the grammar nests groups deeper than ${GROUP_DEPTH_MAX}`;
  }
  return null;
}
