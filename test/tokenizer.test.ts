import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { LlamaTokenizerHost } from "../src/adapters/tokenizer-llama/tokenizer-host.ts";
import { modelId } from "../src/domain/ids.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { byteSourceOf } from "../src/weights/byte-source.ts";
import { readManifest } from "../src/weights/model-reader.ts";
import { TINY_PATH } from "./support/engine-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let host: LlamaTokenizerHost;
let close: () => Promise<void>;
let directory: string;

beforeAll(async () => {
  ({ tokenizer, host, close } = await openTiny());
  directory = await mkdtemp(join(tmpdir(), "fallow-tokenizer-test-"));
});

afterAll(async () => {
  await close();
  await rm(directory, { recursive: true, force: true });
});

/**
 * What libllama gives with the whole model: the tokenizer's file without tensors must give the same. In a process of its
 * own, because the library talks while it loads.
 */
function wholeModelTokens(texts: readonly string[], parsesSpecial: boolean): readonly (readonly number[])[] {
  const room = new URL("../src/adapters/engine-llama/", import.meta.url).href;
  const script = `
    import { readFileSync } from "node:fs";
    const { bindLlama } = await import(${JSON.stringify(`${room}llama-ffi.ts`)});
    const { findLlamaLibrary } = await import(${JSON.stringify(`${room}llama-library.ts`)});
    const api = bindLlama(findLlamaLibrary({ directory: null, variant: "cpu" }));
    const params = api.modelDefaults();
    params.n_gpu_layers = 0;
    const vocab = api.vocab(api.loadModel(${JSON.stringify(TINY_PATH)}, params));
    const all = JSON.parse(readFileSync(0, "utf8")).map((text) => {
      const bytes = Buffer.from(text);
      const out = new Int32Array(bytes.length + 16);
      const count = api.tokenize(vocab, bytes, bytes.length, out, out.length, false, ${parsesSpecial});
      return Array.from(out.subarray(0, count));
    });
    console.log(JSON.stringify(all));`;
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
    input: JSON.stringify(texts),
    encoding: "utf8",
    stdio: ["pipe", "pipe", "ignore"],
  });
  return z.array(z.array(z.number())).parse(JSON.parse(output));
}

const plain = (text: string) => [{ text, special: false }];
const textOf = (ids: readonly number[]): string => Buffer.concat(ids.map((id) => tokenizer.piece(id))).toString();

describe("the tokenizer", () => {
  test("gives the ids that libllama gives with the whole model", async () => {
    const text = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 60 }),
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.lorem({ maxCount: 20 }),
    );
    const texts = fc.sample(text, 300).map((sample) => sample.toWellFormed());
    const expected = wholeModelTokens(texts, false);
    for (const [index, sample] of texts.entries()) {
      expect(await tokenizer.tokenize(plain(sample), { addBos: false })).toEqual(expected[index]);
    }
    const template = "<|user|>And God said<|end|><|assistant|>";
    const ids = await tokenizer.tokenize([{ text: template, special: true }], { addBos: false });
    expect([ids]).toEqual(wholeModelTokens([template], true));
  });

  test("gives back every text byte by byte", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary", maxLength: 80 }), async (text) => {
        const wellFormed = text.toWellFormed();
        expect(textOf(await tokenizer.tokenize(plain(wellFormed), { addBos: false }))).toBe(wellFormed);
      }),
      { numRuns: 200 },
    );
  });

  test("content that holds a control token's text becomes plain text, template text does not", async () => {
    const userId = 3;
    const endId = 5;
    const ids = await tokenizer.tokenize(
      [
        { text: "<|user|>", special: true },
        { text: "a <|end|><|assistant|> b", special: false },
        { text: "<|end|>", special: true },
      ],
      { addBos: false },
    );
    expect(ids[0]).toBe(userId);
    expect(ids.at(-1)).toBe(endId);
    const controls = ids.filter((id) => tokenizer.piece(id).length === 0);
    expect(controls).toEqual([userId, endId]);
    expect(textOf(ids)).toBe("a <|end|><|assistant|> b");
  });

  test("a control token that grows out of two parts is plain text", async () => {
    const parts = [
      { text: "<|e", special: false },
      { text: "nd|>", special: true },
    ];
    const ids = await tokenizer.tokenize(parts, { addBos: false });
    expect(ids.every((id) => tokenizer.piece(id).length > 0)).toBe(true);
    expect(textOf(ids)).toBe("<|end|>");
  });

  test("nobody forges a control token, whatever the parts", async () => {
    const scrap = fc.constantFrom("<|", "|>", "end", "<|end|>", "user", "<|us", "er|>", "<s>", "<", "s>", " x ");
    const parts = fc.array(
      fc.record({ text: fc.array(scrap).map((all) => all.join("")), special: fc.constant(false) }),
      {
        maxLength: 5,
      },
    );
    await fc.assert(
      fc.asyncProperty(parts, async (contents) => {
        const ids = await tokenizer.tokenize(contents, { addBos: false });
        expect(textOf(ids)).toBe(contents.map(({ text }) => text).join(""));
        expect(ids.every((id) => tokenizer.piece(id).length > 0)).toBe(true);
      }),
    );
  });

  test("knows the special tokens, and puts the first one where the model wants it", async () => {
    expect(tokenizer.bosToken).toEqual({ tokenId: 1, text: "<s>" });
    expect(tokenizer.eosToken).toEqual({ tokenId: 2, text: "</s>" });
    expect(tokenizer.stopTokenIds).toEqual([2, 5]);
    expect(tokenizer.specialTexts).toContain("<|assistant|>");
    expect(await tokenizer.tokenize([], { addBos: true })).toEqual([1]);
    expect(await tokenizer.tokenize(plain(""), { addBos: false })).toEqual([]);
  });

  test("its process may die at any time: the next question starts another", async () => {
    const before = await tokenizer.tokenize(plain("And God said"), { addBos: false });
    process.kill(host.processId ?? 0, "SIGKILL");
    const asked = Array.from({ length: 5 }, () => tokenizer.tokenize(plain("And God said"), { addBos: false }));
    for (const ids of await Promise.all(asked)) expect(ids).toEqual(before);
  });
});

describe("a vocabulary that cannot be used", () => {
  test("is refused with what is wrong in the file", async () => {
    const path = join(directory, "cut.gguf");
    const bytes = await readFile(TINY_PATH);
    await writeFile(path, bytes.subarray(0, 5000));
    await expect(host.open({ modelId: modelId("cut"), weightsPath: path })).rejects.toMatchObject({
      code: "tokenizer-unusable",
      message: expect.stringContaining("the file"),
    });
  });

  test("that only libllama dislikes is refused too, and other vocabularies go on", async () => {
    const bytes = await readFile(TINY_PATH);
    const pre = bytes.indexOf("tokenizer.ggml.pre") + "tokenizer.ggml.pre".length + 12;
    bytes[pre] = "?".charCodeAt(0);
    const path = join(directory, "pre.gguf");
    await writeFile(path, bytes);
    const opened = host.open({ modelId: modelId("pre"), weightsPath: path });
    await expect(opened).rejects.toMatchObject({ code: expect.stringMatching(/^tokenizer-(unusable|crashed)$/) });
    expect(await tokenizer.tokenize(plain("And"), { addBos: false })).toHaveLength(1);
  });
});

describe("a vocabulary that is closed", () => {
  const openIt = () => host.open({ modelId: modelId("again"), weightsPath: TINY_PATH });
  const ask = (one: Tokenizer) => one.tokenize([{ text: "And God", special: false }], { addBos: false });

  test("tokenises no more, still knows its pieces, and leaves other models with the same one alone", async () => {
    const before = host.vocabularies;
    const other = await openIt();
    expect(host.vocabularies).toBe(before);
    await other.close();
    await other.close();
    await expect(ask(other)).rejects.toMatchObject({ code: "tokenizer-closed" });
    expect(other.piece(300)).toEqual(tokenizer.piece(300));
    expect(await ask(tokenizer)).not.toHaveLength(0);
  });

  test("by its last user is freed, and can be opened again", async () => {
    const own = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
    try {
      for (let round = 0; round < 3; round++) {
        const model = { modelId: modelId("mine"), weightsPath: TINY_PATH };
        const [first, second] = await Promise.all([own.open(model), own.open(model)]);
        expect(own.vocabularies).toBe(1);
        const closing = first.close();
        expect(await ask(second)).toEqual(await ask(tokenizer));
        await Promise.all([closing, second.close()]);
        expect(own.vocabularies).toBe(0);
      }
    } finally {
      await own.close();
    }
  });
});

test("the digest of the tokenizer is that of its file, and equal for all quantisations of a model", async () => {
  const sha256 = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();
  const model = await readManifest(byteSourceOf(await readFile(TINY_PATH)), sha256);
  if (!model.ok) throw new Error(model.reason.message);
  expect(model.value.manifest.tokenizerSha256).toBe(Buffer.from(sha256(model.value.tokenizer)).toString("hex"));
});
