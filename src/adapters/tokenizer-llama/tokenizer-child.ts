/** The process that tokenises: libllama with vocabularies only. Ends with its parent. */
import { absurd } from "../../domain/assert.ts";
import { abiMismatch } from "../engine-llama/abi-check.ts";
import { makeStderrBlocking, writeLastWords } from "../engine-llama/blocking-stderr.ts";
import { bindLlama, type LlamaApi, type Pointer } from "../engine-llama/llama-ffi.ts";
import { dieWithParent } from "../engine-llama/parent-death.ts";
import { Vocabulary } from "../engine-llama/vocabulary.ts";
import type { TextFragment } from "./text-fragments.ts";
import type { TokenizerCommand, TokenizerReport, VocabularyReport } from "./tokenizer-protocol.ts";

const ATTRIBUTE_UNKNOWN = 1;
const ATTRIBUTE_CONTROL = 8;
/** Room for tokens beyond one per byte: added prefixes. */
const SPARE_TOKENS = 16;

let api: LlamaApi | null = null;
/** By their numbers, which are not used again. */
const vocabularies: ({ readonly vocabulary: Vocabulary; readonly model: Pointer } | null)[] = [];

function report(message: TokenizerReport): void {
  process.send?.(message);
}

function open(llama: LlamaApi, path: string): VocabularyReport | string {
  const params = llama.modelDefaults();
  params.vocab_only = true;
  params.n_gpu_layers = 0;
  const model = llama.loadModel(path, params);
  if (model === null) return "libllama cannot load the vocabulary";
  const vocabulary = new Vocabulary(llama, model);
  vocabularies.push({ vocabulary, model });
  return describe(llama, vocabulary, vocabularies.length - 1);
}

function describe(llama: LlamaApi, vocabulary: Vocabulary, index: number): VocabularyReport {
  const { pointer, size } = vocabulary;
  const decoder = new TextDecoder();
  const pieces: Uint8Array[] = [];
  const pieceStarts = new Int32Array(size + 1);
  const specialTexts: string[] = [];
  const stops: number[] = [];
  let total = 0;
  for (let token = 0; token < size; token++) {
    const piece = vocabulary.piece(token);
    pieces.push(piece);
    total += piece.length;
    pieceStarts[token + 1] = total;
    if ((llama.tokenAttributes(pointer, token) & (ATTRIBUTE_UNKNOWN | ATTRIBUTE_CONTROL)) !== 0) {
      specialTexts.push(decoder.decode(vocabulary.rendered(token)));
    }
    if (vocabulary.isEndOfGeneration(token)) stops.push(token);
  }
  const special = (token: number): { tokenId: number; text: string } | null =>
    token < 0 || token >= size ? null : { tokenId: token, text: decoder.decode(vocabulary.rendered(token)) };
  return {
    vocabulary: index,
    pieces: Buffer.concat(pieces),
    pieceStarts,
    specialTexts: specialTexts.filter((text) => text !== ""),
    stopTokenIds: Int32Array.from(stops),
    bos: special(llama.bos(pointer)),
    eos: special(llama.eos(pointer)),
    addsBos: llama.addsBos(pointer),
  };
}

function tokenize(llama: LlamaApi, vocab: Pointer, fragments: readonly TextFragment[]): Int32Array | string {
  const encoder = new TextEncoder();
  const parts: Int32Array[] = [];
  let total = 0;
  for (const fragment of fragments) {
    const bytes = encoder.encode(fragment.text);
    const out = new Int32Array(bytes.length + SPARE_TOKENS);
    const count = llama.tokenize(vocab, bytes, bytes.length, out, out.length, false, fragment.parsesSpecial);
    if (count < 0) return `llama_tokenize answered ${count} for ${bytes.length} bytes`;
    parts.push(out.subarray(0, count));
    total += count;
  }
  const all = new Int32Array(total);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function serve(llama: LlamaApi, command: Exclude<TokenizerCommand, { kind: "start" }>): void {
  const { key } = command;
  switch (command.kind) {
    case "open": {
      const result = open(llama, command.path);
      report(
        typeof result === "string" ? { kind: "failed", key, message: result } : { kind: "opened", key, report: result },
      );
      break;
    }
    case "tokenize": {
      const opened = vocabularies[command.vocabulary] ?? null;
      const result =
        opened === null ? "no such vocabulary" : tokenize(llama, opened.vocabulary.pointer, command.fragments);
      report(
        typeof result === "string"
          ? { kind: "failed", key, message: result }
          : { kind: "tokenized", key, tokenIds: result },
      );
      break;
    }
    case "close": {
      const opened = vocabularies[command.vocabulary] ?? null;
      vocabularies[command.vocabulary] = null;
      if (opened !== null) llama.freeModel(opened.model);
      report({ kind: "closed", key });
      break;
    }
    default:
      absurd(command);
  }
}

dieWithParent();
process.on("disconnect", () => process.exit(0));
process.on("message", (command: TokenizerCommand) => {
  if (command.kind === "start") {
    makeStderrBlocking();
    const bound = bindLlama(command.library, { loadsBackends: false });
    const mismatch = abiMismatch(bound);
    if (mismatch !== null) {
      writeLastWords(`fallow tokenizer: ${mismatch}`);
      process.exit(70);
    }
    api = bound;
  } else if (api === null) {
    report({ kind: "failed", key: command.key, message: "the library is not loaded" });
  } else {
    serve(api, command);
  }
});
