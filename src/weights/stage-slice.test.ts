import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { architectureModel, specName, specNamed } from "../../test/support/architecture-model.ts";
import { ARCHITECTURE_SPECS } from "../../test/support/architecture-specs.ts";
import { LAYERS } from "../../test/support/architecture-tensors.ts";
import { splitModel } from "../../test/support/split-model.ts";
import type { ChunkSet } from "../domain/chunk-set.ts";
import { sha256Hex } from "../domain/ids.ts";
import { chunkPlace, type LayerShare } from "../domain/weights.ts";
import { buildManifest } from "./build-manifest.ts";
import { byteSourceOf } from "./byte-source.ts";
import { chunksOfLayers, chunksOfParts } from "./chunks-of-layers.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { stageCountsRefused } from "./stage-architectures.ts";
import { copiedRanges, STAGE_INPUT_KEY, STAGE_OUTPUT_KEY, stageBytes } from "./stage-plan.ts";
import { planStage, readStagePlan } from "./stage-slice.ts";

const CHUNK_BYTES = 64 * 1024;
const NO_DIGEST = sha256Hex("00".repeat(32));
const sha256 = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();

function shareOf(first: number, count: number, of = LAYERS): LayerShare {
  return { first, count, hasEmbedding: first === 0, hasOutput: first + count === of };
}
const FIRST = shareOf(0, 2);
const MIDDLE = shareOf(2, 3);
const LAST = shareOf(4, 2);

async function headerOf(bytes: Uint8Array): Promise<GgufHeader> {
  const header = await readGgufHeader(byteSourceOf(bytes));
  if (!header.ok) throw new Error(header.reason.message);
  return header.value;
}

async function planned(files: readonly Uint8Array[], share: LayerShare) {
  const plan = await readStagePlan(files.map(byteSourceOf), share);
  if (!plan.ok) throw new Error(`${plan.reason.code}: ${plan.reason.message}`);
  return plan.value;
}

async function stageOf(files: readonly Uint8Array[], share: LayerShare): Promise<Uint8Array> {
  const plan = await planned(files, share);
  const parts: Uint8Array[] = [];
  for await (const bytes of stageBytes(plan, files.map(byteSourceOf))) parts.push(bytes);
  const file = Buffer.concat(parts);
  expect(file.length).toBe(plan.fileBytes);
  return file;
}

/** Of a stage that was written and read again. */
async function stageHeader(name: string, share: LayerShare): Promise<GgufHeader> {
  return headerOf(await stageOf([await architectureModel(specNamed(name), { isEmpty: true })], share));
}
const told = (header: GgufHeader, key: string): unknown => {
  const value = header.entries.get(key)?.value;
  return value?.type === "array" ? null : value?.value;
};
const tensorNames = (header: GgufHeader): string[] => header.tensors.map(({ name }) => name);

describe("the file of a stage", () => {
  test("holds its layers' tensors byte by byte, numbered from 0", async () => {
    const whole = await architectureModel(specNamed("llama"));
    const [from, stage] = [await headerOf(whole), await stageOf([whole], MIDDLE)];
    const to = await headerOf(stage);
    expect(tensorNames(to).filter((name) => name.startsWith("blk."))).toEqual(
      tensorNames(from)
        .filter((name) => /^blk\.[234]\./.test(name))
        .map((name) => name.replace(/^blk\.(\d)/, (_, layer: string) => `blk.${Number(layer) - 2}`)),
    );
    for (const tensor of to.tensors) {
      const name = tensor.name.replace(/^blk\.(\d)/, (_, layer: string) => `blk.${Number(layer) + 2}`);
      const own = from.tensors.find((other) => other.name === name);
      if (own === undefined || !name.startsWith("blk.")) continue;
      expect(tensor.dimensions).toEqual(own.dimensions);
      const [a, b] = [
        stage.subarray(tensor.offset, tensor.offset + tensor.sizeBytes),
        whole.subarray(own.offset, own.offset + own.sizeBytes),
      ];
      expect(Buffer.compare(a, b), tensor.name).toBe(0);
    }
  });

  test("tells how many layers it has, and the engine which tensor holds what leaves it", async () => {
    const [first, middle, last] = await Promise.all([FIRST, MIDDLE, LAST].map((share) => stageHeader("llama", share)));
    if (first === undefined || middle === undefined || last === undefined) throw new Error("three stages");
    expect([first, middle, last].map((header) => told(header, "llama.block_count"))).toEqual([2, 3, 2]);
    expect([first, middle, last].map((header) => told(header, STAGE_OUTPUT_KEY))).toEqual([
      "l_out-1",
      "l_out-2",
      undefined,
    ]);
    expect(told(middle, STAGE_INPUT_KEY)).toBe(undefined);
  });

  test("has the vocabulary in the last stage alone, and no template", async () => {
    const [first, middle, last] = await Promise.all([FIRST, MIDDLE, LAST].map((share) => stageHeader("qwen2", share)));
    if (first === undefined || middle === undefined || last === undefined) throw new Error("three stages");
    expect(told(first, "tokenizer.ggml.model")).toBe("no_vocab");
    expect(told(first, "qwen2.vocab_size")).toBe(2048);
    expect(told(middle, "qwen2.vocab_size")).toBe(8);
    expect(first.entries.has("tokenizer.ggml.tokens")).toBe(false);
    expect(last.entries.has("tokenizer.ggml.tokens")).toBe(true);
    expect([...last.entries.keys()].filter((key) => key.includes("template"))).toEqual([]);
  });

  test("between two others is little more than its layers", async () => {
    const whole = await architectureModel(specNamed("llama"), { isEmpty: true });
    const plan = await planned([whole], MIDDLE);
    const layers = copiedRanges(plan).reduce((sum, { bytes }) => sum + bytes, 0);
    expect(plan.fileBytes - layers).toBeLessThan(24_000);
  });

  test("is the same from a split model as from one file", async () => {
    const whole = await architectureModel(specNamed("qwen3"));
    const files = await splitModel(whole, 3);
    for (const share of [FIRST, MIDDLE, LAST]) {
      expect(Buffer.compare(await stageOf(files, share), await stageOf([whole], share))).toBe(0);
    }
  });

  test("of all layers is the model", async () => {
    const whole = await architectureModel(specNamed("llama"), { isEmpty: true });
    const header = await headerOf(await stageOf([whole], shareOf(0, LAYERS)));
    expect(tensorNames(header)).toEqual(tensorNames(await headerOf(whole)));
  });
});

describe("the head", () => {
  test("of its own stands where a tied one would, so that it is there once", async () => {
    const whole = await architectureModel(specNamed("llama"));
    const stage = await stageOf([whole], LAST);
    const [from, to] = [await headerOf(whole), await headerOf(stage)];
    const [head, taken] = [
      from.tensors.find(({ name }) => name === "output.weight"),
      to.tensors.find(({ name }) => name === "token_embd.weight"),
    ];
    if (head === undefined || taken === undefined) throw new Error("both are there");
    expect(tensorNames(to)).not.toContain("output.weight");
    const bytes = stage.subarray(taken.offset, taken.offset + taken.sizeBytes);
    expect(Buffer.compare(bytes, whole.subarray(head.offset, head.offset + head.sizeBytes))).toBe(0);
  });

  test("that the loader demands stands beside an embedding of zeros", async () => {
    const plan = await planned([await architectureModel(specNamed("phi2"), { isEmpty: true })], LAST);
    const zeros = plan.pieces.filter((piece) => piece.kind === "zeros").map(({ bytes }) => bytes);
    expect(Math.max(...zeros)).toBe((2048 * 256 * 54) / 256);
    expect(tensorNames(await stageHeader("phi2", LAST))).toEqual(
      expect.arrayContaining(["token_embd.weight", "output.weight", "output.bias", "output_norm.bias"]),
    );
  });

  test("that is the embedding is read by the last stage too", async () => {
    const whole = await architectureModel(specNamed("llama/tied"), { isEmpty: true });
    const embedding = (await headerOf(whole)).tensors.find(({ name }) => name === "token_embd.weight");
    const ranges = copiedRanges(await planned([whole], LAST));
    expect(ranges.map(({ offset }) => offset)).toContain(embedding?.offset);
  });

  test("costs the first stage no copy of its embedding", async () => {
    const names = tensorNames(await stageHeader("llama/tied", FIRST));
    expect(names).toContain("output.weight");
    expect(tensorNames(await stageHeader("gemma", FIRST))).not.toContain("output.weight");
  });
});

describe("what a stage reads", () => {
  test.each(ARCHITECTURE_SPECS.map((spec) => [specName(spec), spec] as const))(
    "of %s lies in the chunks of its share",
    async (_, spec) => {
      const header = await headerOf(await architectureModel(spec, { isEmpty: true }));
      const manifest = manifestWithout([header]);
      const refused = stageCountsRefused(spec.name);
      for (const share of [FIRST, MIDDLE, LAST, shareOf(5, 1)]) {
        const plan = planStage([header], share);
        if (refused.includes(share.count) && !plan.ok && plan.reason.message.includes("no window")) continue;
        if (!plan.ok) throw new Error(plan.reason.message);
        const headers = manifest.parts.filter(({ kind }) => kind === "header");
        const read = chunksOfParts(manifest, [...headers, { kind: "shared", ranges: copiedRanges(plan.value) }]);
        const owned = chunksOfLayers(manifest, share);
        expect(read.runs().every(([at, count]) => runIn(owned, at, count))).toBe(true);
        // Position embeddings and norms of a tied embedding come along with the head, unread.
        const isTiedWithMore = !spec.hasHead && spec.ends.some(({ name }) => /^(position|token)_embd/.test(name));
        if (!isTiedWithMore) expect(read.runs()).toEqual(owned.runs());
      }
    },
  );

  test("is all there in a sparse file of its share's chunks", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("llama", "llama/tied", "gpt2", "openelm"),
        fc.integer({ min: 0, max: LAYERS - 1 }),
        fc.integer({ min: 1, max: LAYERS }),
        fc.boolean(),
        async (name, first, length, isSplit) => {
          const whole = await architectureModel(specNamed(name), { isEmpty: true });
          // Bytes that tell their place, so that a byte taken from elsewhere shows.
          const { dataOffset } = await headerOf(whole);
          for (let at = dataOffset; at < whole.length; at += 4) new DataView(whole.buffer).setUint32(at, at, true);
          const files = isSplit ? await splitModel(whole, 2) : [whole];
          const share = shareOf(first, Math.min(length, LAYERS - first));
          const sparse = await sparseOf(files, share);
          expect(Buffer.compare(await stageOf(sparse, share), await stageOf(files, share))).toBe(0);
        },
      ),
      { numRuns: 12 },
    );
  });
});

/** Without digests: parts and chunks alone. */
function manifestWithout(headers: readonly GgufHeader[]) {
  return buildManifest(
    {
      files: headers.map((header, at) => ({
        name: `m${at}.gguf`,
        sha256: NO_DIGEST,
        digests: new Uint8Array(Math.ceil(header.fileBytes / CHUNK_BYTES) * 32),
        header,
      })),
      chunkBytes: CHUNK_BYTES,
      layerCount: LAYERS,
      source: { kind: "local" },
      licence: null,
      tokenizerSha256: NO_DIGEST,
    },
    sha256,
  );
}

function runIn(set: ChunkSet, first: number, count: number): boolean {
  return Array.from({ length: count }, (_, at) => first + at).every((chunk) => set.has(chunk));
}

/** The files with all chunks that are not the share's overwritten. */
async function sparseOf(files: readonly Uint8Array[], share: LayerShare): Promise<Uint8Array[]> {
  const manifest = manifestWithout(await Promise.all(files.map(headerOf)));
  const owned = chunksOfLayers(manifest, share);
  const sparse = files.map((bytes) => new Uint8Array(bytes.length).fill(0xee));
  for (const [first, count] of owned.runs()) {
    for (let chunk = first; chunk < first + count; chunk++) {
      const { file, offset, bytes } = chunkPlace(manifest, chunk);
      sparse[file]?.set(files[file]?.subarray(offset, offset + bytes) ?? [], offset);
    }
  }
  return sparse;
}
