import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ResolvedSource } from "../../ports/model-source.ts";
import { resolveLocal } from "./local-source.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-local-source-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const names = (source: ResolvedSource) => source.files.map(({ name }) => name);

describe("this machine", () => {
  const write = (...parts: string[]) => {
    const path = join(folder, ...parts);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, Buffer.alloc(100, 1));
    return path;
  };

  test("a file is one model, a folder holds one, a set is found from its first file", async () => {
    const single = write("one", "A.Q8_0.gguf");
    write("one", "mmproj-A.gguf");
    const set = [write("set", "B-00001-of-00002.gguf"), write("set", "B-00002-of-00002.gguf")];
    expect((await resolveLocal(single)).files[0]).toMatchObject({ localPath: single, fileBytes: 100 });
    expect(names(await resolveLocal(join(folder, "one")))).toEqual(["A.Q8_0.gguf"]);
    for (const reference of [join(folder, "set"), set[0] ?? ""]) {
      const source = await resolveLocal(reference);
      expect(source.files.map(({ localPath }) => localPath)).toEqual(set);
      expect(source.suggestedId).toBe("b");
    }
    await expect(resolveLocal(set[1] ?? "")).rejects.toThrow(/name the first/);
    await expect(resolveLocal(join(folder, "missing.gguf"))).rejects.toThrow("there is no such file");
  });

  test("a link inside a folder that leads outside is refused, one that stays inside is not", async () => {
    const outside = write("outside", "C.gguf");
    mkdirSync(join(folder, "in"));
    symlinkSync(outside, join(folder, "in", "C.gguf"));
    await expect(resolveLocal(join(folder, "in"))).rejects.toMatchObject({
      code: "model-source-unsafe",
      message: expect.stringMatching(/leads outside/),
    });
    expect(names(await resolveLocal(join(folder, "in", "C.gguf")))).toEqual(["C.gguf"]);
    write("stays", "blobs", "D");
    symlinkSync(join("blobs", "D"), join(folder, "stays", "D.gguf"));
    expect(names(await resolveLocal(join(folder, "stays")))).toEqual(["D.gguf"]);
  });

  test("a path that does not begin at the root is refused", async () => {
    await expect(resolveLocal("relative/m.gguf")).rejects.toMatchObject({ code: "model-source-invalid" });
  });
});
