import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GgufBytes, type SampleValue, sampleGguf } from "../../test/support/gguf-bytes.ts";
import { type ByteSource, byteSourceOf } from "./byte-source.ts";
import { readGgufHeader } from "./gguf-reader.ts";
import { GGUF_REFUSAL_CODES } from "./gguf-refusal.ts";

const tiny = readFileSync(fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url)));
const refusalOf = async (bytes: Uint8Array) => {
  const result = await readGgufHeader(byteSourceOf(bytes));
  return result.ok ? null : result.reason;
};

describe("the bundled model's header", () => {
  test("is read whole", async () => {
    const result = await readGgufHeader(byteSourceOf(tiny));
    if (!result.ok) throw new Error(result.reason.message);
    const { entries, tensors, alignment, fileBytes } = result.value;
    expect(entries.get("general.architecture")?.value).toEqual({ type: "string", value: "llama" });
    expect(entries.get("llama.block_count")?.value).toEqual({ type: "uint32", value: 4 });
    const tokens = entries.get("tokenizer.ggml.tokens")?.value;
    expect(tokens?.type === "array" ? [tokens.elementType, tokens.count] : null).toEqual(["string", 2048]);
    expect(alignment).toBe(32);
    const end = Math.max(...tensors.map((tensor) => tensor.offset + tensor.sizeBytes));
    expect(end).toBeLessThanOrEqual(fileBytes);
    expect(tensors).toHaveLength(38);
  });

  test("may come in pieces of any size", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 70_000 }), async (most) => {
        const slow: ByteSource = {
          sizeBytes: tiny.length,
          read: (offset, length) =>
            Promise.resolve(tiny.subarray(offset, offset + Math.min(length, Math.max(most, length)))),
        };
        expect((await readGgufHeader(slow)).ok).toBe(true);
      }),
      { numRuns: 5 },
    );
  });

  test("truncated anywhere is refused as truncated", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: tiny.length - 1 }), async (length) => {
        const refusal = await refusalOf(tiny.subarray(0, length));
        // A file without room for the counts it declares is refused for those.
        expect(["truncated", "too-large"]).toContain(refusal?.code);
      }),
      { numRuns: 300 },
    );
  });

  test("with flipped bits is read or refused, never a crash", async () => {
    const flip = fc.record({ at: fc.nat(63_000), bit: fc.nat(7) });
    await fc.assert(
      fc.asyncProperty(fc.array(flip, { minLength: 1, maxLength: 8 }), async (flips) => {
        const bytes = Uint8Array.from(tiny);
        for (const { at, bit } of flips) bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        const refusal = await refusalOf(bytes);
        if (refusal !== null) {
          expect(GGUF_REFUSAL_CODES).toContain(refusal.code);
          expect(refusal.message.length).toBeGreaterThan(10);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("hostile headers", () => {
  const huge = 0xffff_ffff_ffff_fff0n;

  test("random bytes behind the magic number are read or refused", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (noise) => {
        const bytes = new GgufBytes().magic(3).raw(noise).done();
        expect(await refusalOf(bytes)).not.toBeNull();
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["another magic number", new GgufBytes().u32(0x12345678).u32(3).u64(0n).u64(0n).done(), "not-gguf", /0x12345678/],
    [
      "a big-endian file",
      new GgufBytes().magic(0x03000000).u64(0n).u64(0n).done(),
      "unsupported-version",
      /big-endian/,
    ],
    ["version 1", new GgufBytes().magic(1).u64(0n).u64(0n).done(), "unsupported-version", /version 1/],
    ["version 99", new GgufBytes().magic(99).u64(0n).u64(0n).done(), "unsupported-version", /version 99/],
    ["a huge count of tensors", new GgufBytes().magic(3).u64(huge).u64(0n).done(), "too-large", /tensors/],
    ["a huge count of entries", new GgufBytes().magic(3).u64(0n).u64(huge).done(), "too-large", /entries/],
    [
      "a huge key",
      new GgufBytes().magic(3).u64(0n).u64(1n).u64(huge).raw(new Uint8Array(64)).done(),
      "too-large",
      /key of entry 0/,
    ],
    ["an empty key", new GgufBytes().magic(3).u64(0n).u64(1n).text("").u32(4).u32(1).done(), "malformed", /empty key/],
  ])("%s is refused", async (_, bytes, code, message) => {
    const refusal = await refusalOf(bytes);
    expect(refusal?.code).toBe(code);
    expect(refusal?.message).toMatch(message);
  });

  const entry = (key: string, value: SampleValue) => sampleGguf({ entries: [[key, value]], tensors: [] });

  test.each([
    ["an unknown value type", entry("a", { type: 13, bytes: new Uint8Array(40) }), "malformed", /type 13/],
    [
      "a huge string",
      entry("a", { type: 8, bytes: new GgufBytes().u64(huge).raw(new Uint8Array(40)).done() }),
      "too-large",
      /string/,
    ],
    [
      "a string past the end",
      entry("a", { type: 8, bytes: new GgufBytes().u64(5000n).done() }),
      "truncated",
      /5000 bytes/,
    ],
    [
      "a huge array",
      entry("a", { type: 9, bytes: new GgufBytes().u32(4).u64(huge).raw(new Uint8Array(40)).done() }),
      "too-large",
      /elements/,
    ],
    [
      "a large array past the end",
      entry("a", { type: 9, bytes: new GgufBytes().u32(11).u64(1_999_999n).done() }),
      "truncated",
      /a needs/,
    ],
    [
      "nested arrays",
      entry("a", { type: 9, bytes: new GgufBytes().u32(9).u64(1n).u32(9).u64(1n).done() }),
      "malformed",
      /array of arrays/,
    ],
    ["a bool of 2", entry("a", { type: 7, bytes: Uint8Array.of(2) }), "malformed", /bool 2/],
    [
      "an alignment of 0",
      entry("general.alignment", { type: 4, bytes: new GgufBytes().u32(0).done() }),
      "bad-metadata",
      /alignment is 0/,
    ],
    [
      "an alignment of 24",
      entry("general.alignment", { type: 4, bytes: new GgufBytes().u32(24).done() }),
      "bad-metadata",
      /alignment is 24/,
    ],
    [
      "an alignment as text",
      entry("general.alignment", { type: 8, bytes: new GgufBytes().text("32").done() }),
      "bad-metadata",
      /alignment is 32/,
    ],
  ])("%s is refused", async (_, bytes, code, message) => {
    const refusal = await refusalOf(bytes);
    expect(refusal?.code).toBe(code);
    expect(refusal?.message).toMatch(message);
  });

  test("a key that stands twice is refused by name", async () => {
    const value: SampleValue = { type: 4, bytes: new GgufBytes().u32(1).done() };
    const bytes = sampleGguf({
      entries: [
        ["twice", value],
        ["twice", value],
      ],
      tensors: [],
    });
    expect(await refusalOf(bytes)).toMatchObject({ code: "duplicate", message: expect.stringContaining("twice") });
  });

  const tensor = { name: "t", dimensions: [32n, 2n], type: 0, offset: 0n };

  test.each([
    ["no dimensions", [{ ...tensor, dimensions: [] }], "bad-tensor", /0 dimensions/],
    ["five dimensions", [{ ...tensor, dimensions: [1n, 1n, 1n, 1n, 1n] }], "bad-tensor", /5 dimensions/],
    ["a dimension of 0", [{ ...tensor, dimensions: [0n] }], "bad-tensor", /dimension 0 of 0/],
    ["dimensions that overflow", [{ ...tensor, dimensions: [1n << 32n, 1n << 32n] }], "bad-tensor", /below 2\^53/],
    ["an unknown type", [{ ...tensor, type: 999 }], "bad-tensor", /unknown type 999/],
    ["a removed type", [{ ...tensor, type: 31 }], "bad-tensor", /unknown type 31/],
    ["rows that are no whole blocks", [{ ...tensor, dimensions: [33n], type: 8 }], "bad-tensor", /multiple of 32/],
    ["an odd offset", [{ ...tensor, offset: 4n }], "bad-tensor", /multiple of 32/],
    ["an offset past the end", [{ ...tensor, offset: huge & ~31n }], "truncated", /ends at byte/],
    ["more data than the file", [{ ...tensor, dimensions: [1n << 20n] }], "truncated", /ends at byte/],
    ["the same name twice", [tensor, { ...tensor, offset: 256n }], "duplicate", /tensor t/],
    ["overlapping data", [tensor, { ...tensor, name: "u", offset: 224n }], "bad-tensor", /t and u overlap/],
    ["a name too long", [{ ...tensor, name: "n".repeat(64) }], "too-large", /64 bytes/],
  ])("a tensor with %s is refused", async (_, tensors, code, message) => {
    const refusal = await refusalOf(sampleGguf({ entries: [], tensors, dataBytes: 512 }));
    expect(refusal?.code).toBe(code);
    expect(refusal?.message).toMatch(message);
  });

  test("a source that ends before its stated size is refused", async () => {
    const lying: ByteSource = {
      sizeBytes: 10 ** 9,
      read: (at, length) => Promise.resolve(tiny.subarray(at, Math.min(at + length, 4000))),
    };
    const result = await readGgufHeader(lying);
    expect(result.ok ? null : result.reason.code).toBe("truncated");
  });

  test("a source that fails rejects: that is no fault of the file", async () => {
    const failing: ByteSource = { sizeBytes: 1000, read: () => Promise.reject(new Error("disk gone")) };
    await expect(readGgufHeader(failing)).rejects.toThrow("disk gone");
  });
});
