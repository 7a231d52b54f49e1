/**
 * Whether what an owner says of his GPUs reaches the library's parameters. Machines of tests have none, so that GPUs are only told of here;
 * `soak/engine-vulkan.soak.test.ts` splits a model over two software devices.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { GpuSplit } from "../src/ports/engine.ts";
import { TINY_PATH } from "./support/engine-fixture.ts";

const MODULES = ["llama-ffi", "llama-library", "loaded-model", "gpu-split"];

/** Runs a script over the real library in a process of its own; with so many GPUs in what the library tells of its devices. */
function withGpus(gpuCount: number, script: string): { readonly stdout: string; readonly stderr: string } {
  const imports = MODULES.map((name) => {
    const url = new URL(`../src/adapters/engine-llama/${name}.ts`, import.meta.url).href;
    return `import * as ${name.replaceAll("-", "_")} from ${JSON.stringify(url)};`;
  });
  const whole = `
    ${imports.join("\n")}
    import koffi from "koffi";
    const real = llama_ffi.bindLlama(llama_library.findLlamaLibrary({ directory: null, variant: "cpu" }));
    const gpu = { name: "GPU", description: "GPU", type: 1, registry: "", memoryBytes: 1, memoryFreeBytes: 1 };
    const api = { ...real, deviceNames: () => new Array(${gpuCount}).fill(gpu) };
    const load = (split) => loaded_model.loadModel(api, { weightsPath: ${JSON.stringify(TINY_PATH)}, contextTokens: 256,
      sequencesMax: 1, threads: 1, gpuLayers: 0, split, onProgress: () => undefined });
    ${script}`;
  const cwd = new URL("..", import.meta.url);
  const { stdout, stderr, error } = spawnSync(process.execPath, ["--input-type=module", "--eval", whole], {
    cwd,
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  return { stdout, stderr };
}

describe("a split over GPUs", () => {
  test("stands in the library's parameters, with a part for every device that it could have", () => {
    const split: GpuSplit = { mode: "row", tensorSplit: [3, 1], mainGpu: 1 };
    const { stdout } = withGpus(
      2,
      `const params = api.modelDefaults();
       const refusal = gpu_split.applySplit(api, params, ${JSON.stringify(split)});
       const count = Number(api.devicesMax());
       const parts = [...new Float32Array(koffi.view(params.tensor_split, 4 * count))];
       console.log(JSON.stringify({ refusal, mode: params.split_mode, main: params.main_gpu, parts, count }));`,
    );
    const { count, ...told } = JSON.parse(stdout) as { count: number; parts: number[] };
    expect(count).toBeGreaterThanOrEqual(16);
    expect(told).toEqual({ refusal: null, mode: 2, main: 1, parts: [3, 1, ...new Array<number>(count - 2).fill(0)] });
  });

  test("over GPUs that are not there is refused before the library is asked, with how many there are", () => {
    const { stdout, stderr } = withGpus(
      1,
      `const result = load({ mode: "layer", tensorSplit: [3, 1], mainGpu: 0 });
       console.log(JSON.stringify(result));`,
    );
    expect(JSON.parse(stdout)).toEqual({
      ok: false,
      code: "engine-load-failed",
      message: "a split into 3,1 names 2 GPUs, the engine sees 1 GPU",
    });
    expect(stderr).not.toMatch(/main_gpu/);
  });
});

test("the command line says what a split looks like", () => {
  const help = execFileSync(process.execPath, ["src/cli/main.ts", "join", "--help"], {
    cwd: new URL("..", import.meta.url),
    encoding: "utf8",
  });
  for (const flag of ["--gpu-split <mode>", "--tensor-split <parts>", "--main-gpu <n>"]) expect(help).toContain(flag);
});
