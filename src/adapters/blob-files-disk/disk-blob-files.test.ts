import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fileId } from "../../domain/ids.ts";
import { DiskBlobFiles } from "./disk-blob-files.ts";

const ID = fileId(`file-${"0".repeat(26)}`);
const bytes = (text: string) => new TextEncoder().encode(text);

describe("files on a disk", () => {
  let folder: string;
  let files: DiskBlobFiles;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "fallow-blobs-"));
    files = new DiskBlobFiles({ folder: join(folder, "files") });
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function put(text: string): Promise<number> {
    const writer = await files.create(ID);
    for (const part of text) await writer.write(bytes(part));
    const length = await writer.finish();
    await writer.discard();
    return length;
  }

  async function content(): Promise<string | null> {
    const reader = await files.open(ID);
    if (reader === null) return null;
    const read = new TextDecoder().decode(await reader.read(0, reader.bytes));
    await reader.close();
    return read;
  }

  test("are there once they are whole, are replaced whole, and go", async () => {
    expect(await content()).toBeNull();
    const begun = await files.create(ID);
    await begun.write(bytes("half"));
    expect(await content()).toBeNull();
    expect(await put("first")).toBe(5);
    expect(await put("second")).toBe(6);
    await begun.discard();
    expect(await content()).toBe("second");
    expect(await readdir(join(folder, "files"))).toEqual([ID]);
    await files.remove(ID);
    await files.remove(ID);
    expect(await content()).toBeNull();
  });

  test("give any range, and say so when a range is not there", async () => {
    await put("0123456789");
    const reader = await files.open(ID);
    expect(new TextDecoder().decode(await reader?.read(3, 4))).toBe("3456");
    await expect(reader?.read(8, 5)).rejects.toMatchObject({ code: "storage-failed" });
    await reader?.close();
  });

  test("are swept of what an earlier life left unfinished, and of nothing else", async () => {
    await put("kept");
    await files.create(ID);
    await writeFile(join(folder, "files", "other"), "not ours");
    await files.sweep();
    expect((await readdir(join(folder, "files"))).sort()).toEqual([ID, "other"]);
  });

  test("leave room on the disk", async () => {
    expect(await files.freeBytes()).toBeGreaterThan(0);
  });
});
