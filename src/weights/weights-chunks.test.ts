import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../domain/ids.ts";
import { leafHash, nodeHash } from "../domain/merkle-tree.ts";
import {
  CHUNK_BYTES_DEFAULT,
  CHUNK_BYTES_LARGE,
  CHUNK_BYTES_MIN,
  LARGE_MODEL_BYTES,
  type WeightsManifest,
} from "../domain/weights.ts";
import { buildManifest, chunkBytesFor } from "./build-manifest.ts";
import { byteSourceOf } from "./byte-source.ts";
import { ChunkDigester, checkDigests, chunkRootOf, digestOfChunk, joinDigests } from "./chunk-digests.ts";
import { bytesOfChunks, chunksOfEachLayer, chunksOfLayers, chunksOfParts, layersIn } from "./chunks-of-layers.ts";
import type { GgufHeader, GgufTensor } from "./gguf-header.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { bytesOfParts, weightsParts } from "./weights-parts.ts";

const sha256 = (data: Uint8Array): Uint8Array => new Uint8Array(createHash("sha256").update(data).digest());
const hexOf = (data: Uint8Array) => sha256Hex(createHash("sha256").update(data).digest("hex"));
const tiny = new Uint8Array(readFileSync(fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url))));

async function headerOf(bytes: Uint8Array): Promise<GgufHeader> {
  const header = await readGgufHeader(byteSourceOf(bytes));
  if (!header.ok) throw new Error(header.reason.message);
  return header.value;
}

const digestsOf = (bytes: Uint8Array, chunkBytes: number, step = 100_000) => {
  const digester = new ChunkDigester({ chunkBytes, sha256 });
  for (let at = 0; at < bytes.length; at += step) digester.push(bytes.subarray(at, at + step));
  return digester.end();
};

async function tinyManifest(chunkBytes = CHUNK_BYTES_MIN): Promise<WeightsManifest> {
  const file = {
    name: "tiny.gguf",
    sha256: hexOf(tiny),
    digests: digestsOf(tiny, chunkBytes),
    header: await headerOf(tiny),
  };
  const rest = { layerCount: 4, source: { kind: "local" as const }, licence: null, tokenizerSha256: hexOf(tiny) };
  return buildManifest({ files: [file], chunkBytes, ...rest }, sha256);
}

/** A model's header without its bytes: tensors of these names and sizes, one after the other. */
function headerWith(tensors: readonly (readonly [name: string, sizeBytes: number])[], alignment = 32): GgufHeader {
  let offset = 4096;
  const placed: GgufTensor[] = tensors.map(([name, sizeBytes]) => {
    const tensor = { name, dimensions: [sizeBytes], type: 24, offset, sizeBytes };
    offset += Math.ceil(sizeBytes / alignment) * alignment;
    return tensor;
  });
  return { version: 3, alignment, entries: new Map(), tensors: placed, dataOffset: 4096, fileBytes: offset };
}

function manifestWith(headers: readonly GgufHeader[], layerCount: number, chunkBytes: number): WeightsManifest {
  return {
    version: 1,
    weightsSha256: hexOf(tiny),
    chunkBytes,
    files: headers.map(({ fileBytes }, at) => ({
      name: `f${at}.gguf`,
      fileBytes,
      sha256: hexOf(tiny),
      chunkRoot: hexOf(tiny),
    })),
    layerCount,
    parts: weightsParts(headers, layerCount),
    source: { kind: "local" },
    licence: null,
    tokenizerSha256: hexOf(tiny),
  };
}

describe("digests of chunks", () => {
  test("are those of the file cut at multiples of the chunk size, however the bytes come", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200_000 }), (step) => {
        const digests = digestsOf(tiny, CHUNK_BYTES_MIN, step);
        const count = Math.ceil(tiny.length / CHUNK_BYTES_MIN);
        expect(digests.length).toBe(count * 32);
        for (const chunk of [0, 1, count - 1]) {
          const bytes = tiny.subarray(chunk * CHUNK_BYTES_MIN, (chunk + 1) * CHUNK_BYTES_MIN);
          expect(digestOfChunk(digests, chunk)).toEqual(sha256(bytes));
        }
      }),
      { numRuns: 8 },
    );
  });

  test("of three chunks have the root that RFC 6962 writes out", () => {
    const [a, b, c] = ["a", "b", "c"].map((text) => sha256(new TextEncoder().encode(text)));
    if (a === undefined || b === undefined || c === undefined) throw new Error("three digests");
    const leaf = (digest: Uint8Array) => leafHash(digest, sha256);
    const root = nodeHash(nodeHash(leaf(a), leaf(b), sha256), leaf(c), sha256);
    expect(chunkRootOf(joinDigests([a, b, c]), sha256)).toBe(Buffer.from(root).toString("hex"));
  });

  test("of a manifest are taken, and with any bit flipped, short or long refused by name", async () => {
    const manifest = await tinyManifest();
    const digests = digestsOf(tiny, CHUNK_BYTES_MIN);
    expect(checkDigests(manifest, digests, sha256)).toEqual({ ok: true, value: null });
    fc.assert(
      fc.property(fc.nat(digests.length - 1), fc.nat(7), (at, bit) => {
        const changed = Uint8Array.from(digests);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        const checked = checkDigests(manifest, changed, sha256);
        expect(checked.ok ? "taken" : checked.reason.code).toBe("digests-root");
      }),
      { numRuns: 40 },
    );
    for (const wrong of [digests.subarray(32), digests.subarray(1), joinDigests([digests, sha256(tiny)])]) {
      const checked = checkDigests(manifest, wrong, sha256);
      expect(checked.ok ? "taken" : checked.reason.code).toBe("digests-length");
      expect(checked.ok ? "" : checked.reason.message).toMatch(/\d+ bytes; \d+ chunks have \d+/);
    }
  });
});

describe("parts of weights", () => {
  test("of the bundled model name its ends, its layers and its header, and hold each tensor byte once", async () => {
    const header = await headerOf(tiny);
    const parts = weightsParts([header], 4);
    const names = parts.map(({ kind, layer }) => (layer === undefined ? kind : `${kind} ${layer}`));
    expect(names.slice(0, 6)).toEqual(["header", "embedding", "layer 0", "layer 1", "layer 2", "layer 3"]);
    expectEachByteOnce([header], parts);
    expect(parts.flatMap(({ ranges }) => ranges).length).toBeLessThan(20);
  });

  test("law: every tensor byte is in exactly one part, whatever the order and the files", () => {
    const name = fc.oneof(
      fc
        .tuple(fc.nat(9), fc.constantFrom("attn_q", "ffn_up", "ffn_norm"))
        .map(([layer, tail]) => `blk.${layer}.${tail}.weight`),
      fc.constantFrom(
        "token_embd.weight",
        "token_embd_norm.weight",
        "output.weight",
        "output_norm.weight",
        "rope_freqs.weight",
        "odd",
      ),
    );
    const tensors = fc.uniqueArray(fc.tuple(name, fc.integer({ min: 1, max: 5_000 })), {
      selector: ([text]) => text,
      maxLength: 40,
      size: "max",
    });
    fc.assert(
      fc.property(
        fc.array(tensors, { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 12 }),
        (files, layerCount) => {
          const headers = files.map((one) => headerWith(one));
          expectEachByteOnce(headers, weightsParts(headers, layerCount));
        },
      ),
    );
  });

  test("leave out a hole between two tensors of one layer, and take padding along", () => {
    const tensor = (name: string, offset: number, sizeBytes: number): GgufTensor => ({
      name,
      dimensions: [sizeBytes],
      type: 24,
      offset,
      sizeBytes,
    });
    const tensors = [tensor("blk.0.a", 4096, 100), tensor("blk.0.b", 4224, 100), tensor("blk.0.c", 8192, 100)];
    const parts = weightsParts([{ ...headerWith([]), tensors, fileBytes: 9000 }], 1);
    expect(parts.find(({ kind }) => kind === "layer")?.ranges).toEqual([
      { file: 0, offset: 4096, bytes: 228 },
      { file: 0, offset: 8192, bytes: 100 },
    ]);
  });

  test("of a model without an output matrix say that its end reads the embedding too", () => {
    const body = [
      ["token_embd.weight", 1_000_000],
      ["blk.0.w", 1_000_000],
      ["output_norm.weight", 100],
    ] as const;
    const tied = manifestWith([headerWith(body)], 1, CHUNK_BYTES_MIN);
    const untied = manifestWith([headerWith([...body, ["output.weight", 1_000_000]])], 1, CHUNK_BYTES_MIN);
    const last = { first: 0, count: 1, hasEmbedding: false, hasOutput: true };
    const first = { ...last, hasEmbedding: true, hasOutput: false };
    const middle = { ...first, hasEmbedding: false };
    const embedding = (manifest: WeightsManifest) =>
      chunksOfParts(
        manifest,
        manifest.parts.filter(({ kind }) => kind === "embedding"),
      );
    expect(chunksOfLayers(tied, last).includes(embedding(tied))).toBe(true);
    expect(chunksOfLayers(tied, first).includes(embedding(tied))).toBe(true);
    expect(chunksOfLayers(tied, middle).includes(embedding(tied))).toBe(false);
    expect(chunksOfLayers(untied, last).includes(embedding(untied))).toBe(false);
  });
});

describe("chunks of layers", () => {
  const layerTensors = (layer: number) =>
    [
      ["attn_norm", 16_384],
      ["attn_q", 1_100_000],
      ["attn_k", 300_000],
      ["ffn_up", 3_000_000],
      ["ffn_down", 3_000_000],
    ].map(([tail, bytes]) => [`blk.${layer}.${tail}.weight`, Number(bytes)] as const);
  const model = headerWith([
    ["token_embd.weight", 40_000_000],
    ...Array.from({ length: 32 }, (_, layer) => layerTensors(layer)).flat(),
    ["output_norm.weight", 16_384],
    ["output.weight", 40_000_000],
  ]);

  test("8 to 15 of 32 are those bytes, the header, and at most a chunk at each end", () => {
    const chunkBytes = CHUNK_BYTES_DEFAULT;
    const manifest = manifestWith([model], 32, chunkBytes);
    const share = { first: 8, count: 8, hasEmbedding: false, hasOutput: false };
    const needed = chunksOfLayers(manifest, share);
    const own = bytesOfParts(manifest.parts.filter(({ layer }) => layer !== undefined && layer >= 8 && layer < 16));
    const fetched = bytesOfChunks(manifest, needed);
    // One run of layers: a chunk too many at its start and its end, and the header's.
    expect(fetched).toBeGreaterThanOrEqual(own);
    expect(fetched).toBeLessThanOrEqual(own + 2 * chunkBytes + chunkBytes);
    expect(needed.runs()).toHaveLength(2);
    expect(fetched / model.fileBytes).toBeLessThan(0.21);
    // Who has them has layers 8 to 15 and no others, and who lacks one chunk of them lacks a layer.
    const eachLayer = chunksOfEachLayer(manifest);
    expect(layersIn(eachLayer, needed)).toEqual([[8, 8]]);
    const [, [from, count] = [0, 0]] = needed.runs();
    needed.delete(from + count - 1);
    expect(layersIn(eachLayer, needed)).toEqual([[8, 7]]);
  });

  test("of all shares of a chain together are all chunks of the model that hold something", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 31 }), { maxLength: 6 }), (cuts) => {
        const manifest = manifestWith([model], 32, CHUNK_BYTES_MIN * 4);
        const starts = [0, ...cuts.toSorted((a, b) => a - b)];
        const together = chunksOfParts(manifest, []);
        for (const [index, first] of starts.entries()) {
          const end = starts[index + 1] ?? 32;
          const share = { first, count: end - first, hasEmbedding: first === 0, hasOutput: end === 32 };
          together.addAll(chunksOfLayers(manifest, share));
        }
        expect(together.includes(chunksOfParts(manifest, manifest.parts))).toBe(true);
        expect(bytesOfChunks(manifest, chunksOfLayers(manifest, null))).toBe(model.fileBytes);
      }),
      { numRuns: 20 },
    );
  });
});

describe("the size of chunks", () => {
  test("is 1 MiB, 4 MiB from 64 GiB on, and more where there would be too many", () => {
    expect(chunkBytesFor([5])).toBe(CHUNK_BYTES_DEFAULT);
    expect(chunkBytesFor([LARGE_MODEL_BYTES - 1])).toBe(CHUNK_BYTES_DEFAULT);
    expect(chunkBytesFor([LARGE_MODEL_BYTES / 2, LARGE_MODEL_BYTES / 2])).toBe(CHUNK_BYTES_LARGE);
    expect(chunkBytesFor([5 * 1024 ** 4])).toBe(2 * CHUNK_BYTES_LARGE);
    expect(chunkBytesFor([17 * 1024 ** 4])).toBe(null);
  });
});

function expectEachByteOnce(headers: readonly GgufHeader[], parts: WeightsManifest["parts"]): void {
  const ranges = parts.flatMap((part) => part.ranges.map((range) => ({ ...range, end: range.offset + range.bytes })));
  const sorted = ranges.toSorted((a, b) => a.file - b.file || a.offset - b.offset);
  for (const [at, range] of sorted.entries()) {
    const before = sorted[at - 1];
    if (before?.file === range.file) expect(range.offset).toBeGreaterThanOrEqual(before.end);
    expect(range.end).toBeLessThanOrEqual(headers[range.file]?.fileBytes ?? 0);
  }
  for (const part of parts) {
    expect(part.ranges).toEqual(part.ranges.toSorted((a, b) => a.file - b.file || a.offset - b.offset));
  }
  for (const [file, { tensors }] of headers.entries()) {
    for (const { name, offset, sizeBytes } of tensors) {
      const holders = ranges.filter(
        (one) => one.file === file && one.offset <= offset && one.end >= offset + sizeBytes,
      );
      expect([name, holders.length]).toEqual([name, 1]);
    }
  }
}
