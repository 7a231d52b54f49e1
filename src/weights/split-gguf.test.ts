import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  float32,
  type SampleTensor,
  type SampleValue,
  sampleGguf,
  string,
  strings,
  uint32,
} from "../../test/support/gguf-bytes.ts";
import { byteSourceOf } from "./byte-source.ts";
import { readManifest } from "./model-reader.ts";
import { splitFileName, splitNameOf } from "./split-gguf.ts";

const sha256 = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();

const METADATA: Readonly<Record<string, SampleValue>> = {
  "general.architecture": string("llama"),
  "general.file_type": uint32(7),
  "llama.block_count": uint32(2),
  "llama.context_length": uint32(512),
  "llama.embedding_length": uint32(64),
  "llama.attention.head_count": uint32(4),
  "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
  "tokenizer.ggml.model": string("gpt2"),
  "tokenizer.ggml.tokens": strings(["a", "b", "c", "d"]),
  "tokenizer.ggml.merges": strings(["a b"]),
};
const tensor = (name: string, offset: bigint, rows = 1n): SampleTensor => ({
  name,
  dimensions: rows === 1n ? [64n] : [64n, rows],
  type: 8,
  offset,
});

/** As gguf-split writes them: numbers of 16 and 32 bits, all metadata in the first. */
function piece(
  number: number,
  tensors: readonly SampleTensor[],
  more: {
    readonly count?: number;
    readonly total?: number;
    readonly metadata?: Readonly<Record<string, SampleValue>>;
  } = {},
): Uint8Array {
  const { count = 3, total = 3, metadata = number === 0 ? METADATA : {} } = more;
  const split = { "split.no": uint16(number), "split.count": uint16(count), "split.tensors.count": int32(total) };
  return sampleGguf({ entries: Object.entries({ ...metadata, ...split }), tensors, dataBytes: 1024 });
}
const uint16 = (value: number): SampleValue => ({ type: 2, bytes: Uint8Array.of(value & 255, value >> 8) });
const int32 = (value: number): SampleValue => ({ type: 5, bytes: uint32(value).bytes });

const EMBEDDING = tensor("token_embd.weight", 0n, 4n);
const [FIRST, SECOND] = [tensor("blk.0.attn_q.weight", 0n), tensor("blk.1.attn_q.weight", 0n)];
const pieces = () => [piece(0, [EMBEDDING]), piece(1, [FIRST]), piece(2, [SECOND])];
const NAMES = [1, 2, 3].map((number) => splitFileName({ prefix: "m", number, count: 3 }));

const read = async (files: readonly Uint8Array[], names: readonly string[] | null = null) => {
  const model = await readManifest(files.map(byteSourceOf), sha256, names);
  return model.ok ? model.value : model.reason;
};

describe("a split model", () => {
  test("is read as one: metadata of the first, tensors and bytes of all", async () => {
    const files = pieces();
    const model = await read(files, NAMES);
    if (!("manifest" in model)) throw new Error(model.message);
    expect(model.manifest.layerCount).toBe(2);
    expect(model.manifest.fileBytes).toBe(files.reduce((sum, { length }) => sum + length, 0));
    expect(model.manifest.parameterCount).toBe(64 * 6);
    expect(model.headers.map(({ tensors }) => tensors.length)).toEqual([1, 1, 1]);
    expect([...model.header.entries.keys()].filter((key) => key.startsWith("split."))).toEqual([]);
  });

  test("may have no tensors in its first file, as gguf-split can write it", async () => {
    const files = [
      piece(0, [], { count: 2 }),
      piece(1, [EMBEDDING, { ...FIRST, offset: 288n }, { ...SECOND, offset: 384n }], { count: 2 }),
    ];
    expect(await read(files)).toHaveProperty("manifest.layerCount", 2);
  });

  test.each<[string, () => readonly Uint8Array[], readonly string[] | null, string, RegExp]>([
    [
      "a missing file",
      () => pieces().slice(0, 2),
      NAMES.slice(0, 2),
      "split-missing",
      /split.count is 3: 1 .*number 3 of 3/,
    ],
    ["a missing first file", () => pieces().slice(1), null, "split-missing", /number 1 of 3/],
    ["the first file alone", () => pieces().slice(0, 1), null, "split-missing", /number 2, 3 of 3/],
    [
      "a file twice",
      () => [...pieces().slice(0, 2), piece(1, [FIRST])],
      NAMES,
      "split-doubled",
      /00002.*00003.*both number 2 of 3/,
    ],
    ["another order", () => pieces().toReversed(), null, "split-order", /file 1 is number 3 of 3/],
    [
      "a file of a model of 4",
      () => [...pieces().slice(0, 2), piece(2, [SECOND], { count: 4 })],
      NAMES,
      "split-foreign",
      /of 4 files/,
    ],
    [
      "a tensor in two files",
      () => [...pieces().slice(0, 2), piece(2, [FIRST])],
      NAMES,
      "split-doubled",
      /blk.0.attn_q.weight.*00002.*00003/,
    ],
    [
      "fewer tensors than said",
      () => pieces().map((_, at) => piece(at, [[EMBEDDING], [FIRST], []][at] ?? [])),
      NAMES,
      "split-foreign",
      /is 3.*hold 2/,
    ],
    [
      "a file of another architecture",
      () => [...pieces().slice(0, 2), piece(2, [SECOND], { metadata: { "general.architecture": string("qwen2") } })],
      NAMES,
      "split-foreign",
      /"qwen2".*"llama"/,
    ],
    [
      "a file that counts other tensors",
      () => [...pieces().slice(0, 2), piece(2, [SECOND], { total: 9 })],
      NAMES,
      "split-foreign",
      /"9".*"3"/,
    ],
    [
      "names that an engine does not find",
      pieces,
      ["a.gguf", "b.gguf", "c.gguf"],
      "split-foreign",
      /"a.gguf".*NAME-00001-of-00003/,
    ],
    [
      "names of two models",
      pieces,
      [NAMES[0] ?? "", "n-00002-of-00003.gguf", NAMES[2] ?? ""],
      "split-foreign",
      /n-00002.*m-00002/,
    ],
    ["a number beyond the count", () => [piece(7, [EMBEDDING])], null, "bad-metadata", /split.no of file 1 is 7/],
    [
      "two whole models",
      () => [0, 1].map(() => piece(0, [EMBEDDING], { count: 1 })),
      null,
      "split-doubled",
      /whole models/,
    ],
    ["60,000 files", () => [piece(0, [EMBEDDING], { count: 60_000 })], null, "too-large", /60000; at most 512/],
  ])("is refused by name for %s", async (_, files, names, code, message) => {
    const model = await read(files(), names);
    expect("code" in model ? model.code : "read").toBe(code);
    expect("code" in model ? model.message : "").toMatch(message);
  });

  test("names the file in which a header is broken", async () => {
    const [one, two] = pieces();
    const model = await read(
      [one ?? new Uint8Array(), two ?? new Uint8Array(), new TextEncoder().encode("<html>not a model")],
      NAMES,
    );
    expect(model).toMatchObject({ code: "not-gguf", message: expect.stringContaining("m-00003-of-00003.gguf") });
  });
});

test("names of split files are read and written alike, other names are not split", () => {
  expect(splitNameOf("big-model-00002-of-00011.gguf")).toEqual({ prefix: "big-model", number: 2, count: 11 });
  expect(splitFileName({ prefix: "big-model", number: 2, count: 11 })).toBe("big-model-00002-of-00011.gguf");
  for (const name of ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00002.bin"]) expect(splitNameOf(name)).toBe(null);
});
