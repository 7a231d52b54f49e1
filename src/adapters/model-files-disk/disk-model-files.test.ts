import { createHash } from "node:crypto";
import {
  constants,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import { DiskModelFiles } from "./disk-model-files.ts";

function clones(path: string): boolean {
  try {
    copyFileSync(path, `${path}.clone`, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
}

async function keepOne(files: DiskModelFiles, path: string, digest: Sha256Hex): Promise<string> {
  const [kept = ""] = await files.keep([{ path, name: "model.gguf", isOurs: false }], digest);
  return kept;
}

describe("model files on disk", () => {
  let folder: string;
  let files: DiskModelFiles;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "fallow-model-files-"));
    files = new DiskModelFiles({ folder: join(folder, "kept"), bundled: [] });
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const written = (text: string) => {
    const path = join(folder, "model.gguf");
    writeFileSync(path, text);
    return { path, digest: sha256Hex(createHash("sha256").update(text).digest("hex")) };
  };

  test("digests of several files at once are each their own, with those of their chunks", async () => {
    const texts = ["a".repeat(70_000), "b".repeat(50_000), ""];
    const sha256Of = (text: string) => createHash("sha256").update(text).digest("hex");
    const found = await Promise.all(
      texts.map(async (text, at) => {
        const path = join(folder, `${at}.gguf`);
        writeFileSync(path, text);
        const file = await files.open(path);
        const digests = await file.digest({ chunkBytes: 32_768, signal: AbortSignal.timeout(30_000) });
        await file.close();
        return [digests.sha256, Buffer.from(digests.chunkDigests).toString("hex")];
      }),
    );
    const chunksOf = (text: string) =>
      [0, 1, 2].flatMap((at) => text.slice(at * 32_768, (at + 1) * 32_768) || []).map(sha256Of);
    expect(found).toEqual(texts.map((text) => [sha256Of(text), chunksOf(text).join("")]));
  });

  test("a digest that is cut ends with the reason, and the same file can be digested again", async () => {
    const path = join(folder, "large.gguf");
    writeFileSync(path, "");
    truncateSync(path, 64 * 1024 * 1024);
    const file = await files.open(path);
    const stop = new AbortController();
    const cut = file.digest({
      chunkBytes: 1_048_576,
      signal: stop.signal,
      onBytes: () => stop.abort(new Error("enough")),
    });
    await expect(cut).rejects.toThrow("enough");
    const again = await file.digest({ chunkBytes: 1_048_576, signal: AbortSignal.timeout(30_000) });
    expect(again.sha256).toBe(
      createHash("sha256")
        .update(Buffer.alloc(64 * 1024 * 1024))
        .digest("hex"),
    );
    await file.close();
  });

  test("an open file tells its size and digest, and reads any part of it", async () => {
    const { path, digest } = written("0123456789");
    const file = await files.open(path);
    expect(file.fileBytes).toBe(10);
    expect(await file.sha256(AbortSignal.timeout(10_000))).toBe(digest);
    expect(Buffer.from(await file.read(3, 4)).toString()).toBe("3456");
    await file.close();
    await file.close();
  });

  test("reading past the end names the file and where it ends", async () => {
    const { path } = written("0123456789");
    const file = await files.open(path);
    await expect(file.read(8, 4)).rejects.toMatchObject({
      code: "model-file-unreadable",
      message: `${path} cannot be read: it ends after 10 bytes, 12 were asked for`,
    });
    await file.close();
  });

  test("a missing file and a folder are refused with what they are", async () => {
    await expect(files.open(join(folder, "nothing"))).rejects.toThrow("there is no such file");
    await expect(files.open(folder)).rejects.toMatchObject({ code: "model-file-unreadable" });
  });

  test("a kept file stays when the operator's is deleted, also when that was a symbolic link", async () => {
    const { path, digest } = written("weights");
    const link = join(folder, "link.gguf");
    symlinkSync(path, link);
    const kept = await keepOne(files, link, digest);
    unlinkSync(link);
    unlinkSync(path);
    expect(readFileSync(kept, "utf8")).toBe("weights");
  });

  test("a kept file stays as it was when the operator writes into his own in place", async () => {
    const { path, digest } = written("weights");
    const kept = await keepOne(files, path, digest);
    writeFileSync(path, "CHANGED", { flag: "r+" });
    expect(readFileSync(kept, "utf8")).toBe("weights");
    expect(statSync(kept).mode & 0o777).toBe(0o600);
  });

  test("a file that does not fit the disk is refused before a byte of it is copied", async ({ skip }) => {
    const { path, digest } = written("x");
    skip(clones(path), "this file system makes clones, which take no room");
    truncateSync(path, 2 ** 43);
    await expect(keepOne(files, path, digest)).rejects.toMatchObject({ code: "disk-full" });
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });

  test("keeping twice is one file, and what a killed copy left is removed", async () => {
    const { path, digest } = written("weights");
    const kept = await keepOne(files, path, digest);
    writeFileSync(join(folder, "kept", ".0123456789ab.tmp"), "half");
    const later = new DiskModelFiles({ folder: join(folder, "kept"), bundled: [] });
    expect(await keepOne(later, path, digest)).toBe(kept);
    const other = join(folder, "other.gguf");
    writeFileSync(other, "other weights");
    await keepOne(later, other, sha256Hex("0".repeat(64)));
    expect(readdirSync(join(folder, "kept")).sort()).toEqual([`${"0".repeat(64)}.gguf`, `${digest}.gguf`].sort());
  });

  test("discarding what was never kept is no error", async () => {
    const { path, digest } = written("weights");
    await files.discard(digest);
    await keepOne(files, path, digest);
    await files.discard(digest);
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });

  test("a split set is kept under the names that its engine looks for, and found in load order", async () => {
    const names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    const parts = names.map((name) => {
      const path = join(folder, `part-${name}`);
      writeFileSync(path, name);
      return { path, name, isOurs: name.includes("00002-of") };
    });
    const digest = sha256Hex("1".repeat(64));
    const kept = await files.keep(parts, digest);
    expect(kept).toEqual(names.map((name) => join(folder, "kept", digest, name)));
    expect(await files.kept(digest)).toEqual(kept);
    expect(parts.map(({ path }) => existsSync(path))).toEqual([true, false]);
    await files.discard(digest);
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });

  test("what nodes are given is there once it was described, and goes with the weights", async () => {
    const { path, digest } = written("weights");
    const kept = await keepOne(files, path, digest);
    expect(await files.content(digest)).toBe(null);
    const description = { signedManifest: Buffer.from("signed"), digests: new Uint8Array(32).fill(7) };
    await files.describe(digest, description);
    const content = await files.content(digest);
    expect(Buffer.from(content?.signedManifest ?? []).toString()).toBe("signed");
    expect([...(content?.digests ?? [])]).toEqual([...description.digests]);
    expect(content?.files).toEqual([kept]);
    await files.discard(digest);
    expect(await files.content(digest)).toBe(null);
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });

  test("chunk digests are those of the chunks, the last one short, however the bytes come", async () => {
    const { path, digest } = written("0123456789");
    const file = await files.open(path);
    const told: number[] = [];
    const { sha256, chunkDigests } = await file.digest({
      chunkBytes: 4,
      signal: AbortSignal.timeout(10_000),
      onBytes: (bytes) => told.push(bytes),
    });
    await file.close();
    expect(sha256).toBe(digest);
    const expected = ["0123", "4567", "89"].map((part) => createHash("sha256").update(part).digest());
    expect(Buffer.from(chunkDigests)).toEqual(Buffer.concat(expected));
    expect(told).toEqual([10]);
  });
});
