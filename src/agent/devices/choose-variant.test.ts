import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EngineVariant } from "../../domain/hardware.ts";
import type { FoundGpu } from "../../ports/gpu-probe.ts";
import { chooseVariant, ENGINE_WISHES, type VariantQuestion } from "./choose-variant.ts";

const NVIDIA: FoundGpu = { name: "NVIDIA GeForce RTX 4090", variants: ["cuda"] };
const NVIDIA_WITH_VULKAN: FoundGpu = { name: "NVIDIA GeForce RTX 4090", variants: ["cuda", "vulkan"] };
const AMD: FoundGpu = { name: "AMD GPU", variants: ["vulkan"] };
const APPLE: FoundGpu = { name: "Apple GPU", variants: ["metal"] };

const LINUX: VariantQuestion = {
  platform: "linux",
  arch: "x64",
  gpus: [],
  hasVulkanLoader: false,
  installed: ["cpu"],
  obtainable: ["cuda", "vulkan"],
  wish: "auto",
};

const VULKAN = { hasVulkanLoader: true } as const;
const MAC = { platform: "darwin", arch: "arm64", obtainable: [] } as const;

describe("the variants to try", () => {
  const table: readonly (readonly [string, Partial<VariantQuestion>, readonly EngineVariant[]])[] = [
    ["no GPU", {}, ["cpu"]],
    ["no GPU, with a Vulkan loader", VULKAN, ["cpu"]],
    ["an NVIDIA driver", { gpus: [NVIDIA] }, ["cuda", "cpu"]],
    ["an NVIDIA driver and a Vulkan loader", { gpus: [NVIDIA_WITH_VULKAN], ...VULKAN }, ["cuda", "vulkan", "cpu"]],
    ["an AMD GPU and a Vulkan loader", { gpus: [AMD], ...VULKAN }, ["vulkan", "cpu"]],
    ["an AMD GPU without a Vulkan loader", { gpus: [AMD] }, ["cpu"]],
    ["GPUs of two vendors", { gpus: [AMD, NVIDIA_WITH_VULKAN], ...VULKAN }, ["cuda", "vulkan", "cpu"]],
    [
      "an Apple GPU, whose variant comes along",
      { ...MAC, gpus: [APPLE], installed: ["metal", "cpu"] },
      ["metal", "cpu"],
    ],
    ["macOS on an Intel processor", { ...MAC, arch: "x64", gpus: [APPLE], installed: ["metal", "cpu"] }, ["cpu"]],
    ["an NVIDIA driver where no CUDA package exists", { arch: "arm64", gpus: [NVIDIA], obtainable: [] }, ["cpu"]],
    [
      "an NVIDIA driver, CUDA installed by hand",
      { gpus: [NVIDIA], obtainable: [], installed: ["cuda"] },
      ["cuda", "cpu"],
    ],
    ["the wish for the CPU beside a GPU", { gpus: [NVIDIA], wish: "cpu" }, ["cpu"]],
    ["the wish for Vulkan where no GPU was found", { wish: "vulkan" }, ["vulkan", "cpu"]],
    ["the wish for Vulkan on an NVIDIA GPU", { gpus: [NVIDIA_WITH_VULKAN], wish: "vulkan" }, ["vulkan", "cpu"]],
    ["the wish for a variant that does not exist here", { wish: "metal" }, ["metal", "cpu"]],
  ];
  test.each(table)("with %s", (_, question, variants) => {
    expect(chooseVariant({ ...LINUX, ...question }).map(({ variant }) => variant)).toEqual(variants);
  });

  test("say which of them has to be installed first", () => {
    const question = { ...LINUX, ...VULKAN, gpus: [NVIDIA_WITH_VULKAN], installed: ["vulkan", "cpu"] as const };
    expect(chooseVariant(question)).toEqual([
      { variant: "cuda", isInstalled: false },
      { variant: "vulkan", isInstalled: true },
      { variant: "cpu", isInstalled: true },
    ]);
  });

  test("always end with the CPU, and name none twice", () => {
    const variants = fc.subarray<EngineVariant>(["cpu", "cuda", "vulkan", "metal"]);
    const question = fc.record({
      platform: fc.constantFrom("linux", "darwin", "win32"),
      arch: fc.constantFrom("x64", "arm64"),
      gpus: fc.array(fc.constantFrom(NVIDIA, NVIDIA_WITH_VULKAN, AMD, APPLE), { maxLength: 4 }),
      hasVulkanLoader: fc.boolean(),
      installed: variants,
      obtainable: variants,
      wish: fc.constantFrom(...ENGINE_WISHES),
    });
    fc.assert(
      fc.property(question, (asked) => {
        const tried = chooseVariant(asked).map(({ variant }) => variant);
        expect(tried.at(-1)).toBe("cpu");
        expect(new Set(tried).size).toBe(tried.length);
      }),
    );
  });
});
