import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  float32,
  float32s,
  type SampleTensor,
  type SampleValue,
  sampleGguf,
  string,
  strings,
  uint32,
  uint32s,
} from "../../test/support/gguf-bytes.ts";
import { byteSourceOf } from "./byte-source.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { stringsOf } from "./gguf-values.ts";
import { readManifest } from "./model-reader.ts";

const sha256 = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();
const read = (bytes: Uint8Array) => readManifest(byteSourceOf(bytes), sha256);
const tiny = readFileSync(fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url)));

test("the bundled model's manifest is read from its file", async () => {
  const model = await read(tiny);
  if (!model.ok) throw new Error(model.reason.message);
  const { chatTemplate, ...rest } = model.value.manifest;
  expect(rest).toMatchObject({
    architecture: "llama",
    quantisation: "Q8_0",
    parameterCount: 2_885_888,
    layerCount: 4,
    embeddingLength: 256,
    headCount: 4,
    headCountKv: 2,
    vocabSize: 2048,
    contextTokensMax: 1024,
    kvBytesPerToken: 4 * 2 * (64 + 64) * 2,
    fileBytes: tiny.length,
  });
  expect(chatTemplate).toContain("<|assistant|>");
});

describe("the file of a vocabulary alone", () => {
  test("is a GGUF without tensors that holds every token, and nothing of other keys", async () => {
    const model = await read(tiny);
    if (!model.ok) throw new Error(model.reason.message);
    const again = await readGgufHeader(byteSourceOf(model.value.tokenizer));
    if (!again.ok) throw new Error(again.reason.message);
    expect(again.value.tensors).toEqual([]);
    const keys = [...again.value.entries.keys()];
    expect(keys).toEqual([...keys].sort());
    expect(keys.filter((key) => !key.startsWith("tokenizer."))).toEqual(["general.architecture"]);
    expect(keys).not.toContain("tokenizer.chat_template");
    for (const name of ["tokens", "merges"]) {
      const key = `tokenizer.ggml.${name}`;
      const [whole, alone] = [model.value.header, again.value].map((header) => header.entries.get(key)?.value);
      if (whole?.type !== "array" || alone?.type !== "array") throw new Error(`${key} is an array`);
      expect([...stringsOf(alone)]).toEqual([...stringsOf(whole)]);
    }
  });
});

type Entries = Record<string, SampleValue | null>;

/** A small right model, with changes: null drops a key. */
function model(changes: Entries = {}, tensors?: readonly SampleTensor[]): Uint8Array {
  const entries: Entries = {
    "general.architecture": string("llama"),
    "general.file_type": uint32(7),
    "llama.block_count": uint32(2),
    "llama.context_length": uint32(512),
    "llama.embedding_length": uint32(64),
    "llama.attention.head_count": uint32(4),
    "llama.attention.head_count_kv": uint32(2),
    "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.tokens": strings(["a", "b", "c", "d"]),
    "tokenizer.ggml.merges": strings(["a b"]),
    "tokenizer.ggml.bos_token_id": uint32(1),
    ...changes,
  };
  const kept = Object.entries(entries).flatMap(([key, value]): [string, SampleValue][] =>
    value === null ? [] : [[key, value]],
  );
  return sampleGguf({ entries: kept, tensors: tensors ?? TENSORS, dataBytes: 4096 });
}

const TENSORS: readonly SampleTensor[] = [
  { name: "token_embd.weight", dimensions: [64n, 4n], type: 8, offset: 0n },
  { name: "blk.0.attn_q.weight", dimensions: [64n], type: 8, offset: 288n },
  { name: "blk.1.attn_q.weight", dimensions: [64n], type: 8, offset: 384n },
];

const manifestOf = async (bytes: Uint8Array) => {
  const result = await read(bytes);
  if (!result.ok) throw new Error(`${result.reason.code}: ${result.reason.message}`);
  return result.value.manifest;
};

describe("memory per token", () => {
  test("counts grouped heads", async () => {
    expect((await manifestOf(model())).kvBytesPerToken).toBe(2 * 2 * (16 + 16) * 2);
  });

  test("follows key and value lengths of their own", async () => {
    const changes = { "llama.attention.key_length": uint32(32), "llama.attention.value_length": uint32(8) };
    expect((await manifestOf(model(changes))).kvBytesPerToken).toBe(2 * 2 * (32 + 8) * 2);
  });

  test("adds up layers that differ", async () => {
    const manifest = await manifestOf(model({ "llama.attention.head_count_kv": uint32s([1, 4]) }));
    expect(manifest.kvBytesPerToken).toBe((1 + 4) * (16 + 16) * 2);
    expect(manifest.headCountKv).toBe(4);
  });

  test("takes all heads when the file does not group them", async () => {
    const manifest = await manifestOf(model({ "llama.attention.head_count_kv": null }));
    expect(manifest.headCountKv).toBe(4);
  });
});

test("a file that calls itself another quantisation than it holds is named for what it holds", async () => {
  expect((await manifestOf(model())).quantisation).toBe("Q8_0");
  expect((await manifestOf(model({ "general.file_type": uint32(1) }))).quantisation).toBe("Q8_0");
  expect((await manifestOf(model({ "general.file_type": null }))).quantisation).toBe("Q8_0");
});

describe("a model that cannot be run is refused", () => {
  test.each<[string, Entries, string, RegExp]>([
    ["an unknown architecture", { "general.architecture": string("mamba") }, "unknown-architecture", /"mamba".*llama/],
    ["no architecture", { "general.architecture": null }, "missing-metadata", /general.architecture/],
    ["an architecture as number", { "general.architecture": uint32(1) }, "bad-metadata", /not a string/],
    ["no layers", { "llama.block_count": uint32(0) }, "bad-metadata", /block_count is the uint32 0/],
    ["too many layers", { "llama.block_count": uint32(4_000_000_000) }, "bad-metadata", /block_count/],
    ["more layers than tensors", { "llama.block_count": uint32(3) }, "bad-tensor", /blk\.2/],
    ["fewer layers than tensors", { "llama.block_count": uint32(1) }, "bad-tensor", /block_count is 1.*blk\.1/],
    ["layers as text", { "llama.block_count": string("2") }, "bad-metadata", /not an integer/],
    ["no heads", { "llama.attention.head_count": uint32(0) }, "bad-metadata", /head_count/],
    ["more heads than width", { "llama.attention.head_count": uint32(65) }, "bad-metadata", /heads/],
    ["more kv heads than heads", { "llama.attention.head_count_kv": uint32(8) }, "bad-metadata", /kv/],
    ["heads of too few layers", { "llama.attention.head_count_kv": uint32s([1, 1, 1]) }, "bad-metadata", /2 integers/],
    ["a NaN in a float", { "llama.attention.layer_norm_rms_epsilon": float32(Number.NaN) }, "bad-metadata", /NaN/],
    ["a negative rope base", { "llama.rope.freq_base": float32(-1) }, "bad-metadata", /rope.freq_base/],
    ["another width than its tensors", { "llama.embedding_length": uint32(32) }, "bad-tensor", /rows of 64/],
    ["no tokens", { "tokenizer.ggml.tokens": null }, "missing-metadata", /tokens/],
    ["tokens that are numbers", { "tokenizer.ggml.tokens": uint32s([1, 2]) }, "bad-vocabulary", /strings/],
    [
      "more tokens than embeddings",
      { "tokenizer.ggml.tokens": strings(["a", "b", "c", "d", "e"]) },
      "bad-vocabulary",
      /4 rows.*5 tokens/,
    ],
    ["scores of another length", { "tokenizer.ggml.scores": float32s([1, 2]) }, "bad-vocabulary", /2 × float32/],
    ["a NaN score", { "tokenizer.ggml.scores": float32s([1, 2, Number.NaN, 3]) }, "bad-vocabulary", /scores\[2\]/],
    ["token types of another length", { "tokenizer.ggml.token_type": uint32s([1], 5) }, "bad-vocabulary", /token_type/],
    ["an unknown token type", { "tokenizer.ggml.token_type": uint32s([1, 1, 1, 77], 5) }, "bad-vocabulary", /77/],
    ["no merges", { "tokenizer.ggml.merges": null }, "missing-metadata", /merges/],
    ["merges that are numbers", { "tokenizer.ggml.merges": uint32s([1]) }, "bad-vocabulary", /merges/],
    [
      "a first token out of the vocabulary",
      { "tokenizer.ggml.bos_token_id": uint32(4) },
      "bad-vocabulary",
      /bos_token_id is 4/,
    ],
    ["an unknown tokeniser", { "tokenizer.ggml.model": string("bert") }, "bad-vocabulary", /"bert"/],
    [
      "parts in other files",
      { "split.count": uint32(3) },
      "split-missing",
      /split.count is 3.*missing, number 2, 3 of 3/,
    ],
    [
      "a template of megabytes",
      { "tokenizer.chat_template": string("x".repeat(1_100_000)) },
      "too-large",
      /chat_template/,
    ],
  ])("for %s", async (_, changes, code, message) => {
    const result = await read(model(changes));
    expect(result.ok ? "read" : result.reason.code).toBe(code);
    expect(result.ok ? "" : result.reason.message).toMatch(message);
  });

  test("for no embedding", async () => {
    const result = await read(model({}, TENSORS.slice(1)));
    expect(result.ok ? null : result.reason).toMatchObject({ code: "bad-tensor" });
  });
});
