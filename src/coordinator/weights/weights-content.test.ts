import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../domain/ids.ts";
import { chunkCountOf, chunkPlace, type WeightsManifest } from "../../domain/weights.ts";
import { chunksOfRange, isPublic, KeptContents, type WeightsContent } from "./weights-content.ts";

const digest = (index: number) => sha256Hex(index.toString(16).padStart(64, "0"));
const KIB_64 = 65_536;
const manifestOf = (fileBytes: readonly number[]): WeightsManifest => ({
  version: 1,
  weightsSha256: digest(1),
  chunkBytes: KIB_64,
  files: fileBytes.map((bytes, at) => ({
    name: `${at}.gguf`,
    fileBytes: bytes,
    sha256: digest(at),
    chunkRoot: digest(at),
  })),
  layerCount: 1,
  parts: [],
  source: { kind: "local" },
  licence: null,
  tokenizerSha256: digest(2),
});
const contentOf = (digestBytes: number): WeightsContent => ({
  manifest: manifestOf([1]),
  signedManifest: new Uint8Array(10),
  digests: new Uint8Array(digestBytes),
  filePaths: ["/x"],
});

describe("the chunks that a byte range touches", () => {
  test("are those whose bytes lie in it, in models of any files", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 5 * KIB_64 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        sizes,
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(),
        (files, at, share, pick) => {
          const manifest = manifestOf(files);
          const file = pick % files.length;
          const fileBytes = files[file] ?? 1;
          const from = Math.floor(at * fileBytes);
          const to = from + 1 + Math.floor(share * (fileBytes - from - 1));
          const [first, count] = chunksOfRange(manifest, { file, from, to });
          const touched = Array.from({ length: chunkCountOf(manifest) }, (_, chunk) => chunk).filter((chunk) => {
            const place = chunkPlace(manifest, chunk);
            return place.file === file && place.offset < to && place.offset + place.bytes > from;
          });
          expect(Array.from({ length: count }, (_, step) => first + step)).toEqual(touched);
        },
      ),
    );
  });
});

describe("contents", () => {
  test("are read once for all who ask, and again when they were not there", async () => {
    let reads = 0;
    let isThere = false;
    const kept = new KeptContents({
      content: () => {
        reads += 1;
        return Promise.resolve(isThere ? contentOf(32) : null);
      },
    });
    expect(await kept.content(digest(1))).toBeNull();
    isThere = true;
    await Promise.all([kept.content(digest(1)), kept.content(digest(1)), kept.content(digest(1))]);
    expect(reads).toBe(2);
    kept.forget(() => false);
    await kept.content(digest(1));
    expect(reads).toBe(3);
  });

  test("of the model read longest ago are given up when there are too many bytes of them", async () => {
    const reads: string[] = [];
    const kept = new KeptContents({
      content: (weightsSha256) => {
        reads.push(weightsSha256);
        return Promise.resolve(contentOf(30 * 1024 * 1024));
      },
    });
    for (const index of [1, 2, 3, 3, 1]) await kept.content(digest(index));
    expect(reads).toEqual([1, 2, 3, 1].map(digest));
  });

  test("that cannot be read are asked for again", async () => {
    let reads = 0;
    const kept = new KeptContents({
      content: () => {
        reads += 1;
        return reads === 1 ? Promise.reject(new Error("a bad disk")) : Promise.resolve(contentOf(32));
      },
    });
    await expect(kept.content(digest(1))).rejects.toThrow("a bad disk");
    expect(await kept.content(digest(1))).not.toBeNull();
  });

  test("are public only when anybody could have them from the hub", () => {
    const hub = { kind: "hf", repo: "a/b", revision: "c".repeat(40) } as const;
    expect(isPublic({ source: { ...hub, isPrivate: false } })).toBe(true);
    for (const source of [
      { ...hub, isPrivate: true },
      { kind: "local" },
      { kind: "https", url: "https://x/y" },
    ] as const) {
      expect(isPublic({ source })).toBe(false);
    }
  });
});
