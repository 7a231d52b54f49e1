import { createHash, generateKeyPairSync, sign, verify } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import { type WeightsManifest, weightsSha256Of } from "../domain/weights.ts";
import { SIGNED_MANIFEST_BYTES_MAX as PORT_BYTES_MAX } from "../ports/weights-source.ts";
import {
  type ManifestChecks,
  manifestJson,
  manifestSigningText,
  parseManifest,
  parseSignedManifest,
  SIGNED_MANIFEST_BYTES_MAX,
  signedManifestBytes,
} from "./weights-manifest.ts";
import { MANIFEST_REFUSAL_CODES } from "./weights-manifest-laws.ts";

const sha256 = (data: Uint8Array): Uint8Array => new Uint8Array(createHash("sha256").update(data).digest());
const hexOf = (text: string): Sha256Hex => sha256Hex(createHash("sha256").update(text).digest("hex"));

/** The SubjectPublicKeyInfo of an Ed25519 key is this and the raw key. */
const SPKI = Buffer.from("302a300506032b6570032100", "hex");
const grid = keyPair();
const stranger = keyPair();
function keyPair() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const publicKeyHex = publicKey.export({ type: "spki", format: "der" }).subarray(SPKI.length).toString("hex");
  return { publicKeyHex, sign: (text: string) => sign(null, Buffer.from(text), privateKey).toString("hex") };
}
const checks: ManifestChecks = {
  gridPublicKeyHex: grid.publicKeyHex,
  sha256,
  verify: ({ publicKey, message, signature }) =>
    verify(null, message, { key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" }, signature),
};

const MIB = 1024 * 1024;
const range = (file: number, offset: number, bytes: number) => ({ file, offset, bytes });
const file = (name: string, fileBytes: number) => ({
  name,
  fileBytes,
  sha256: hexOf(name),
  chunkRoot: hexOf(`${name} root`),
});

/** A right manifest of two files; the digest of the weights follows the files unless it is given. */
function manifest(changes: Partial<WeightsManifest> = {}): WeightsManifest {
  const files = changes.files ?? [file("m-00001-of-00002.gguf", 3 * MIB), file("m-00002-of-00002.gguf", 2 * MIB)];
  return {
    version: 1,
    weightsSha256: weightsSha256Of(
      files.map((one) => one.sha256),
      sha256,
    ),
    chunkBytes: MIB,
    files,
    layerCount: 2,
    parts: [
      { kind: "header", ranges: [range(0, 0, 4096), range(1, 0, 512)] },
      { kind: "embedding", isOutputToo: true, ranges: [range(0, 4096, MIB)] },
      { kind: "layer", layer: 0, ranges: [range(0, 4096 + MIB, MIB)] },
      { kind: "layer", layer: 1, ranges: [range(0, 4096 + 2 * MIB, 100), range(1, 512, MIB)] },
      { kind: "output", ranges: [range(1, 512 + MIB, 1000)] },
    ],
    source: { kind: "hf", repo: "org/model", revision: "abc", isPrivate: true },
    licence: "apache-2.0",
    tokenizerSha256: hexOf("tokenizer"),
    ...changes,
  };
}

const signedText = (json: string, by = grid) => ({ manifestJson: json, signature: by.sign(manifestSigningText(json)) });
const signed = (one: unknown) => signedManifestBytes(signedText(typeof one === "string" ? one : JSON.stringify(one)));
const refusalOf = (bytes: Uint8Array, more: Partial<ManifestChecks> = {}) => {
  const parsed = parseSignedManifest(bytes, { ...checks, ...more });
  return parsed.ok ? null : parsed.reason;
};

describe("a signed manifest", () => {
  test("comes back as it was", () => {
    const one = manifest();
    const parsed = parseSignedManifest(
      signedManifestBytes({ ...signedText(manifestJson(one)), publicKey: grid.publicKeyHex }),
      checks,
    );
    expect(parsed).toEqual({ ok: true, value: one });
    for (const source of [{ kind: "https", url: "https://models.example/m.gguf" }, { kind: "local" }] as const) {
      const other = manifest({ source, licence: null });
      expect(parseSignedManifest(signed(manifestJson(other)), checks)).toEqual({ ok: true, value: other });
    }
  });

  test("has one text, whatever the order of the fields in memory", () => {
    const one = manifest();
    const reversed = Object.fromEntries(Object.entries(one).toReversed());
    expect(manifestJson({ ...one, ...reversed })).toBe(manifestJson(one));
    expect(refusalOf(signed(reversed))?.code).toBe("manifest-not-canonical");
    expect(refusalOf(signed(JSON.stringify(one, null, 1)))?.code).toBe("manifest-not-canonical");
    const doubled = manifestJson(one).replace('{"version":1', '{"version":1,"version":1');
    expect(refusalOf(signed(doubled))?.code).toBe("manifest-not-canonical");
  });

  test("of another grid, of nobody, or for other weights is refused", () => {
    const json = manifestJson(manifest());
    const foreign = signedText(json, stranger);
    expect(refusalOf(signedManifestBytes(foreign))?.code).toBe("manifest-bad-signature");
    const named = signedManifestBytes({ ...foreign, publicKey: stranger.publicKeyHex });
    expect(refusalOf(named)).toMatchObject({
      code: "manifest-foreign-key",
      message: expect.stringContaining(grid.publicKeyHex),
    });
    // A stranger's signature under the grid's name.
    const posing = signedManifestBytes({ ...foreign, publicKey: grid.publicKeyHex });
    expect(refusalOf(posing)?.code).toBe("manifest-bad-signature");
    expect(refusalOf(signed(json), { weightsSha256: hexOf("others") })?.code).toBe("manifest-other-weights");
    expect(refusalOf(signed(json), { weightsSha256: manifest().weightsSha256 })).toBe(null);
  });

  test("is not taken with a signature for something else of the grid", () => {
    const json = manifestJson(manifest());
    const grant = { manifestJson: json, signature: grid.sign(`fallow-fetch-grant-v1\n${json}`) };
    expect(refusalOf(signedManifestBytes(grant))?.code).toBe("manifest-bad-signature");
  });
});

describe("a manifest that the grid signed, and that lies, is refused by name", () => {
  const names = (name: string) => manifest({ files: [file(name, 3 * MIB), file("b.gguf", 2 * MIB)] });
  const parts = (change: (parts: WeightsManifest["parts"]) => WeightsManifest["parts"]) =>
    manifest({ parts: change(manifest().parts) });
  const layer = (layerNumber: number) => ({
    kind: "layer" as const,
    layer: layerNumber,
    ranges: [range(1, 2 * MIB - 8, 4)],
  });

  test.each<[string, unknown, string, RegExp]>([
    ["a folder", names("a/b.gguf"), "manifest-file-name", /"a\/b.gguf" has folders/],
    ["a parent folder", names("../b2.gguf"), "manifest-file-name", /has folders/],
    ["only dots", names(".."), "manifest-file-name", /is a folder/],
    ["an absolute path", names("/etc/passwd"), "manifest-file-name", /has folders/],
    ["a Windows path", names("C:\\m.gguf"), "manifest-file-name", /has folders/],
    ["a stream of NTFS", names("m.gguf:x"), "manifest-file-name", /Windows does not take/],
    ["a Windows device", names("NUL"), "manifest-file-name", /device/],
    ["a Windows device with an ending", names("com1.gguf"), "manifest-file-name", /device/],
    ["a line break", names("m\n.gguf"), "manifest-file-name", /control or invisible/],
    ["a zero byte", names("m\u0000.gguf"), "manifest-file-name", /control or invisible/],
    ["a right-to-left override", names("m\u202efugg.exe"), "manifest-file-name", /control or invisible/],
    ["half a pair", names("m\ud800.gguf"), "manifest-file-name", /control or invisible/],
    ["the store's own names", names(".manifest"), "manifest-file-name", /store's own/],
    ["a trailing dot", names("m.gguf."), "manifest-file-name", /ends with a dot/],
    ["a trailing space", names("m.gguf "), "manifest-file-name", /space/],
    ["no name", names(""), "manifest-file-name", /is empty/],
    ["300 bytes of name", names("ü".repeat(150)), "manifest-file-name", /300 bytes: at most 200/],
    ["a name twice", names("b.gguf"), "manifest-file-twice", /"b.gguf" and "b.gguf"/],
    ["a name twice but for case", names("B.GGUF"), "manifest-file-twice", /case/],
    [
      "a name twice but for accents",
      manifest({ files: [file("\u00e9.gguf", 3 * MIB), file("e\u0301.gguf", 2 * MIB)] }),
      "manifest-file-twice",
      /case/,
    ],
    ["an empty file", manifest({ files: [file("a.gguf", 0)] }), "manifest-file-size", /has 0 bytes/],
    [
      "sizes beyond counting",
      manifest({ files: [file("a.gguf", Number.MAX_SAFE_INTEGER), file("b.gguf", 2)] }),
      "manifest-file-size",
      /9007199254740991/,
    ],
    ["a negative size", manifest({ files: [file("a.gguf", -5)] }), "manifest-malformed", /files.0.fileBytes/],
    ["half a byte", manifest({ files: [file("a.gguf", 1.5)] }), "manifest-malformed", /files.0.fileBytes/],
    [
      "10^9 chunks",
      manifest({ files: [file("a.gguf", 1e9 * MIB)] }),
      "manifest-too-many-chunks",
      /1000000000 chunks.*at most 1048576/,
    ],
    [
      "too many files",
      manifest({ files: Array.from({ length: 513 }, (_, at) => file(`f${at}.gguf`, 1)) }),
      "manifest-too-many-files",
      /513 files; at most 512/,
    ],
    ["no files", { ...manifest(), files: [] }, "manifest-malformed", /files/],
    [
      "a chunk size that is no power of two",
      manifest({ chunkBytes: MIB + 1 }),
      "manifest-chunk-size",
      /1048577, not a power of two/,
    ],
    ["tiny chunks", manifest({ chunkBytes: 1024 }), "manifest-chunk-size", /1024/],
    ["huge chunks", manifest({ chunkBytes: 32 * MIB }), "manifest-chunk-size", /33554432/],
    ["chunks of nothing", manifest({ chunkBytes: 0 }), "manifest-chunk-size", /is 0/],
    [
      "another digest than its files'",
      manifest({ weightsSha256: hexOf("x") }),
      "manifest-weights-digest",
      /of its files it is/,
    ],
    [
      "a range after the file's end",
      parts((all) => [...all, { kind: "shared", ranges: [range(1, 2 * MIB - 1, 2)] }]),
      "manifest-range-outside",
      /2 bytes at 2097151 of file 1 \(shared\): the file has 2097152/,
    ],
    [
      "a range whose end overflows",
      parts((all) => [...all, { kind: "shared", ranges: [range(1, 5, Number.MAX_SAFE_INTEGER)] }]),
      "manifest-range-outside",
      /9007199254740991/,
    ],
    [
      "a range of no file",
      parts((all) => [...all, { kind: "shared", ranges: [range(2, 0, 1)] }]),
      "manifest-range-outside",
      /there are 2 files/,
    ],
    [
      "an empty range",
      parts((all) => [...all, { kind: "shared", ranges: [range(1, 0, 0)] }]),
      "manifest-malformed",
      /bytes/,
    ],
    ["a part of nothing", parts((all) => [...all, { kind: "shared", ranges: [] }]), "manifest-malformed", /ranges/],
    [
      "ranges over each other",
      parts((all) => [...all, { kind: "shared", ranges: [range(0, 4000, 200)] }]),
      "manifest-ranges-overlap",
      /header and shared overlap at byte 4000 of file 0/,
    ],
    [
      "a range twice",
      parts((all) => [...all, { kind: "shared", ranges: [range(1, 512 + MIB, 1000)] }]),
      "manifest-ranges-overlap",
      /overlap/,
    ],
    [
      "ranges out of order",
      parts((all) => [...all, { kind: "shared", ranges: [range(1, 2 * MIB - 2, 1), range(1, 2 * MIB - 4, 1)] }]),
      "manifest-ranges-unordered",
      /after a later range/,
    ],
    ["a layer beyond the count", parts((all) => [...all, layer(2)]), "manifest-layer", /layer 2 is not one of 0 to 1/],
    ["a layer twice", parts((all) => [...all, layer(1)]), "manifest-part-twice", /layer 1 stands twice/],
    [
      "a layer without number",
      parts((all) => [...all, { kind: "layer", ranges: [range(1, 2 * MIB - 8, 4)] }]),
      "manifest-layer",
      /without number/,
    ],
    [
      "a header with a layer",
      parts((all) => [...all, { kind: "shared", layer: 1, ranges: [range(1, 2 * MIB - 8, 4)] }]),
      "manifest-layer",
      /only layers have one/,
    ],
    ["a missing layer", manifest({ layerCount: 3 }), "manifest-part-missing", /no part layer 2/],
    ["no header", parts((all) => all.slice(1)), "manifest-part-missing", /no part header/],
    [
      "two embeddings",
      parts((all) => [...all, { kind: "embedding", ranges: [range(1, 2 * MIB - 8, 4)] }]),
      "manifest-part-twice",
      /embedding/,
    ],
    [
      "an end that is the embedding",
      parts((all) => [...all, { kind: "shared", isOutputToo: true, ranges: [range(1, 2 * MIB - 8, 4)] }]),
      "manifest-malformed",
      /isOutputToo/,
    ],
    [
      "an unknown kind of part",
      { ...manifest(), parts: [{ kind: "heads", ranges: [range(0, 0, 1)] }] },
      "manifest-malformed",
      /parts.0.kind/,
    ],
    ["another version", { ...manifest(), version: 2 }, "manifest-version-unknown", /version 2 is not 1/],
    ["a field too many", { ...manifest(), run: "rm -rf" }, "manifest-malformed", /nrecognized/],
    [
      "a digest in capitals",
      { ...manifest(), tokenizerSha256: hexOf("x").toUpperCase() },
      "manifest-malformed",
      /tokenizerSha256/,
    ],
    ["4 billion layers", { ...manifest(), layerCount: 4e9 }, "manifest-malformed", /layerCount/],
    ["no manifest at all", "[]", "manifest-malformed", /not a manifest/],
    ["no JSON", "{{", "manifest-not-json", /its text is not JSON/],
    ["brackets without end", "[".repeat(100_000), "manifest-too-deep", /deeper than 5/],
  ])("for %s", (_, lie, code, message) => {
    const json = typeof lie === "string" ? lie : JSON.stringify(lie);
    const reason = refusalOf(signed(json));
    expect(reason?.code).toBe(code);
    expect(reason?.message).toMatch(message);
    expect(reason?.message.length).toBeLessThan(400);
  });

  test("for bytes that are too many, no text, or no envelope", () => {
    expect(SIGNED_MANIFEST_BYTES_MAX).toBe(PORT_BYTES_MAX);
    expect(refusalOf(new Uint8Array(SIGNED_MANIFEST_BYTES_MAX + 1))?.code).toBe("manifest-too-large");
    expect(refusalOf(Uint8Array.of(0xff, 0xfe))).toMatchObject({
      code: "manifest-not-json",
      message: "it is not UTF-8",
    });
    const outer = (text: string) => refusalOf(new TextEncoder().encode(text))?.code;
    expect(outer("<html>")).toBe("manifest-not-json");
    expect(outer(`${'{"a":'.repeat(9)}1${"}".repeat(9)}`)).toBe("manifest-too-deep");
    expect(outer("{}")).toBe("manifest-malformed");
    expect(outer('"text"')).toBe("manifest-malformed");
    const long = parseManifest(" ".repeat(5 * MIB), { sha256 });
    expect(long.ok ? null : long.reason.code).toBe("manifest-too-large");
  });
});

describe("laws", () => {
  const whole = signed(manifestJson(manifest()));

  test("any change of the bytes is refused with a known code, never a crash, or means the same", () => {
    const change = fc.record({ at: fc.nat(whole.length - 1), to: fc.nat(255), cut: fc.nat(3) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), (changes) => {
        const bytes = [...whole];
        for (const { at, to, cut } of changes) bytes.splice(at, cut, to);
        const parsed = parseSignedManifest(Uint8Array.from(bytes), checks);
        if (parsed.ok) expect(parsed.value).toEqual(manifest());
        else expect(MANIFEST_REFUSAL_CODES).toContain(parsed.reason.code);
      }),
      { numRuns: 500 },
    );
  });

  test("any change of the signed text is refused, though its sender can write JSON", () => {
    const json = manifestJson(manifest());
    const { signature } = signedText(json);
    fc.assert(
      fc.property(fc.nat(json.length - 1), fc.string({ maxLength: 3 }), (at, put) => {
        const changed = json.slice(0, at) + put + json.slice(at + 1);
        fc.pre(changed !== json);
        const reason = refusalOf(signedManifestBytes({ manifestJson: changed, signature }));
        expect(reason?.code).toBe("manifest-bad-signature");
      }),
      { numRuns: 200 },
    );
  });

  test("what is taken holds to every bound, whatever numbers the grid signed", () => {
    const number = fc.oneof(
      fc.nat(6),
      fc.constantFrom(MIB, 2 * MIB, 3 * MIB, -1, 0.5, 2 ** 53, 1e300, Number.MAX_SAFE_INTEGER),
    );
    const places = piecesOfText().flatMap((text, at) => (/^-?\d/.test(text) ? [at] : []));
    fc.assert(
      fc.property(fc.constantFrom(...places), number, (place, value) => {
        const json = piecesOfText()
          .map((text, at) => (at === place ? JSON.stringify(value) : text))
          .join("");
        const parsed = parseManifest(json, { sha256 });
        if (!parsed.ok) {
          expect(MANIFEST_REFUSAL_CODES).toContain(parsed.reason.code);
          return;
        }
        const { files, parts } = parsed.value;
        const ranges = parts.flatMap((one) => one.ranges);
        for (const one of ranges) expect(one.offset + one.bytes).toBeLessThanOrEqual(files[one.file]?.fileBytes ?? 0);
        const sorted = ranges.toSorted((a, b) => a.file - b.file || a.offset - b.offset);
        for (const [at, one] of sorted.entries()) {
          const next = sorted[at + 1];
          if (next?.file === one.file) expect(next.offset).toBeGreaterThanOrEqual(one.offset + one.bytes);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("any JSON value in place of any field is refused or the same", () => {
    const fields = Object.keys(manifest());
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.jsonValue({ maxDepth: 3 }), (field, value) => {
        const parsed = parseManifest(JSON.stringify({ ...manifest(), [field]: value }), { sha256 });
        if (!parsed.ok) expect(MANIFEST_REFUSAL_CODES).toContain(parsed.reason.code);
        else expect(JSON.stringify({ ...manifest(), [field]: value })).toBe(manifestJson(parsed.value));
      }),
      { numRuns: 300 },
    );
  });

  /** The text cut so that each number outside strings is a piece of its own. */
  function piecesOfText(): readonly string[] {
    return manifestJson(manifest()).split(/("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?)/);
  }
});
