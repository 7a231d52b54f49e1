/** Is the vocabulary whole? Native loaders index these arrays by each other's numbers. */
import type { GgufHeader } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import { numbersOf } from "./gguf-values.ts";
import type { Metadata } from "./metadata.ts";

/** Tokenisers of libllama that decoder models use: byte-level BPE, SentencePiece, and Gemma 4's. */
const TOKENIZER_MODELS = ["gpt2", "llama", "gemma4"];
const VOCABULARY_MAX = 1_048_576;
const TOKEN_TYPES = { least: 0, most: 6 };

/** The number of tokens. */
export function checkVocabulary(header: GgufHeader, metadata: Metadata): number {
  const model = metadata.text("tokenizer.ggml.model");
  if (!TOKENIZER_MODELS.includes(model)) {
    throw new GgufProblem(
      "bad-vocabulary",
      `tokenizer.ggml.model is "${model}", not one of ${TOKENIZER_MODELS.join(", ")}`,
    );
  }
  const tokens = metadata.array("tokenizer.ggml.tokens");
  if (tokens === null) throw new GgufProblem("missing-metadata", "the file has no tokenizer.ggml.tokens");
  if (tokens.elementType !== "string" || tokens.count < 1 || tokens.count > VOCABULARY_MAX) {
    const message = `tokenizer.ggml.tokens holds ${tokens.count} × ${tokens.elementType}, not 1 to ${VOCABULARY_MAX} strings`;
    throw new GgufProblem("bad-vocabulary", message);
  }
  const size = tokens.count;
  checkScores(metadata, size);
  checkTokenTypes(metadata, size);
  const merges = metadata.array("tokenizer.ggml.merges");
  if (merges !== null && merges.elementType !== "string") {
    throw new GgufProblem("bad-vocabulary", `tokenizer.ggml.merges holds ${merges.elementType}, not strings`);
  }
  if (model === "gpt2" && merges === null) {
    throw new GgufProblem("missing-metadata", "the file has no tokenizer.ggml.merges, which its tokeniser needs");
  }
  checkSpecialIds(header, metadata, size);
  checkEmbedding(header, size);
  return size;
}

function checkScores(metadata: Metadata, size: number): void {
  const scores = metadata.array("tokenizer.ggml.scores");
  if (scores === null) return;
  if (scores.elementType !== "float32" || scores.count !== size) {
    const message = `tokenizer.ggml.scores holds ${scores.count} × ${scores.elementType}, not ${size} × float32`;
    throw new GgufProblem("bad-vocabulary", message);
  }
  const broken = numbersOf(scores).findIndex((score) => Number.isNaN(score));
  if (broken >= 0) throw new GgufProblem("bad-vocabulary", `tokenizer.ggml.scores[${broken}] is NaN`);
}

function checkTokenTypes(metadata: Metadata, size: number): void {
  const types = metadata.array("tokenizer.ggml.token_type");
  if (types === null) return;
  if (types.elementType !== "int32" || types.count !== size) {
    const message = `tokenizer.ggml.token_type holds ${types.count} × ${types.elementType}, not ${size} × int32`;
    throw new GgufProblem("bad-vocabulary", message);
  }
  const wrong = numbersOf(types).find((type) => type < TOKEN_TYPES.least || type > TOKEN_TYPES.most);
  if (wrong !== undefined) {
    throw new GgufProblem(
      "bad-vocabulary",
      `tokenizer.ggml.token_type holds ${wrong}; types are 0 to ${TOKEN_TYPES.most}`,
    );
  }
}

/** `tokenizer.ggml.bos_token_id` and its like. */
function checkSpecialIds(header: GgufHeader, metadata: Metadata, size: number): void {
  for (const key of header.entries.keys()) {
    if (!/^tokenizer\.ggml\.[a-z_]+_token_id$/.test(key)) continue;
    // Files without such a token write the largest uint32, which the loader reads as "none".
    const id = metadata.integer(key, { least: 0, most: 0xffffffff });
    if (id >= size && id !== 0xffffffff) {
      throw new GgufProblem("bad-vocabulary", `${key} is ${id}; the vocabulary has ${size} tokens`);
    }
  }
}

function checkEmbedding(header: GgufHeader, size: number): void {
  const embedding = header.tensors.find((tensor) => tensor.name === "token_embd.weight");
  if (embedding === undefined) throw new GgufProblem("bad-tensor", "the file has no tensor token_embd.weight");
  const rows = embedding.dimensions[1] ?? 1;
  if (rows !== size) {
    const message = `token_embd.weight has ${rows} rows, the vocabulary ${size} tokens`;
    throw new GgufProblem("bad-vocabulary", message);
  }
}
