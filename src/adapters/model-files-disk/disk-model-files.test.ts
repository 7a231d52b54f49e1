import { createHash } from "node:crypto";
import {
  constants,
  copyFileSync,
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
import { sha256Hex } from "../../domain/ids.ts";
import { DiskModelFiles } from "./disk-model-files.ts";

function clones(path: string): boolean {
  try {
    copyFileSync(path, `${path}.clone`, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
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
    const kept = await files.keep(link, digest);
    unlinkSync(link);
    unlinkSync(path);
    expect(readFileSync(kept, "utf8")).toBe("weights");
  });

  test("a kept file stays as it was when the operator writes into his own in place", async () => {
    const { path, digest } = written("weights");
    const kept = await files.keep(path, digest);
    writeFileSync(path, "CHANGED", { flag: "r+" });
    expect(readFileSync(kept, "utf8")).toBe("weights");
    expect(statSync(kept).mode & 0o777).toBe(0o600);
  });

  test("a file that does not fit the disk is refused before a byte of it is copied", async ({ skip }) => {
    const { path, digest } = written("x");
    skip(clones(path), "this file system makes clones, which take no room");
    truncateSync(path, 2 ** 43);
    await expect(files.keep(path, digest)).rejects.toMatchObject({ code: "disk-full" });
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });

  test("keeping twice is one file, and what a killed copy left is removed", async () => {
    const { path, digest } = written("weights");
    const kept = await files.keep(path, digest);
    writeFileSync(join(folder, "kept", ".0123456789ab.tmp"), "half");
    const later = new DiskModelFiles({ folder: join(folder, "kept"), bundled: [] });
    expect(await later.keep(path, digest)).toBe(kept);
    const other = join(folder, "other.gguf");
    writeFileSync(other, "other weights");
    await later.keep(other, sha256Hex("0".repeat(64)));
    expect(readdirSync(join(folder, "kept")).sort()).toEqual([`${"0".repeat(64)}.gguf`, `${digest}.gguf`].sort());
  });

  test("discarding what was never kept is no error", async () => {
    const { path, digest } = written("weights");
    await files.discard(digest);
    await files.keep(path, digest);
    await files.discard(digest);
    expect(readdirSync(join(folder, "kept"))).toEqual([]);
  });
});
