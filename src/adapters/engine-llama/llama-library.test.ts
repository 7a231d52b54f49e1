import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { engineEnvironment } from "./child-environment.ts";
import { findLlamaLibrary, packageNameOf } from "./llama-library.ts";
import { StderrRing } from "./stderr-ring.ts";

describe("the engine's library", () => {
  test.each([
    [["libllama.v0.5.0.so", "libggml.v0.5.0.so", "libggml-base.so", "libllama-common.so", "libggml-cpu-x64.so"]],
    [["libllama.vulkan.v0.5.0.so", "libggml.vulkan.v0.5.0.so", "libggml-base.so", "libggml-vulkan.so"]],
    [["libllama.dylib", "libggml.dylib", "libggml-base.dylib", "libggml-metal.dylib"]],
    [["llama.dll", "ggml.dll", "ggml-base.dll", "ggml-cuda.dll"]],
  ])("is found among %s", (names) => {
    const directory = mkdtempSync(join(tmpdir(), "fallow-library-test-"));
    for (const name of names) writeFileSync(join(directory, name), "");
    const found = findLlamaLibrary({ directory, variant: "cpu" });
    expect([found.llama, found.ggml, found.ggmlBase].map((path) => basename(path))).toEqual(names.slice(0, 3));
    rmSync(directory, { recursive: true });
  });

  test("is installed for the CPU, and packages of other variants are named after it", () => {
    expect(findLlamaLibrary({ directory: null, variant: "cpu" }).variant).toBe("cpu");
    expect(packageNameOf("cuda")).toBe(`${packageNameOf("cpu")}-cuda`);
  });
});

describe("the end of standard error", () => {
  test("is kept within its bound, lines whole, and tells the offload of each model", () => {
    const ring = new StderrRing();
    const noise = `${"x".repeat(100)}\n`.repeat(1000);
    const text = `load_tensors: offloaded 2/5 layers to GPU\n${noise}load_tensors: offloaded 5/5 layers to GPU\nlast error\n`;
    for (let at = 0; at < text.length; at += 777) ring.push(text.slice(at, at + 777));
    expect(ring.offloadedLayers).toEqual([2, 5]);
    expect(ring.lastLines(2)).toEqual(["load_tensors: offloaded 5/5 layers to GPU", "last error"]);
    expect(ring.lastErrors(3)).toBe("last error");
    expect(ring.lastLines(1000).join("\n").length).toBeLessThan(17_000);
  });
});

test("an engine's process gets what drivers read, and no secret", () => {
  const full = {
    PATH: "/bin",
    CUDA_VISIBLE_DEVICES: "1",
    FALLOW_TOKEN: "secret",
    AWS_SECRET_ACCESS_KEY: "x",
    NODE_OPTIONS: "--inspect",
  };
  expect(engineEnvironment(full)).toEqual({ PATH: "/bin", CUDA_VISIBLE_DEVICES: "1" });
});
