import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { gpuBytesPerSecond } from "./gpu-bandwidth.ts";
import { GPU_BANDWIDTHS } from "./gpu-bandwidths.ts";

const gbPerSecond = (name: string, gib = 0) => {
  const found = gpuBytesPerSecond({ name, memoryBytes: gib * 2 ** 30 });
  return found === null ? null : found / 1e9;
};

describe("a GPU's bandwidth by its name", () => {
  test.each([
    ["NVIDIA GeForce RTX 4090", 1008],
    ["NVIDIA GeForce RTX 4090 Laptop GPU", 576],
    ["GeForce RTX 4070 Ti SUPER", 672],
    ["NVIDIA GeForce GTX 1060 with Max-Q Design", 192],
    ["NVIDIA GeForce RTX 2080 with Max-Q Design", 384],
    ["AMD Radeon RX 7900 XTX (RADV NAVI31)", 960],
    ["AMD Radeon RX 7900 XT (RADV NAVI31)", 800],
    ["AMD Radeon(TM) 780M Graphics (RADV PHOENIX)", 90],
    ["Radeon RX 580 Series", 256],
    ["AMD Instinct MI300X OAM", 5300],
    ["Apple M2 Max", 400],
    ["Apple M1", 68],
    ["Tesla V100-SXM2-16GB", 897],
    ["Tesla V100S-PCIE-32GB", 1134],
    ["NVIDIA A100-SXM4-40GB", 1555],
    ["NVIDIA A100-SXM4-80GB", 2039],
    ["NVIDIA A100 80GB PCIe", 1935],
    ["NVIDIA H100 80GB HBM3", 3360],
    ["NVIDIA H100 PCIe", 2040],
    ["Tesla T4", 320],
    ["Quadro RTX 6000", 672],
    ["NVIDIA RTX 6000 Ada Generation", 960],
    ["NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 1792],
    ["Intel(R) Arc(tm) A770 Graphics (DG2)", 560],
    ["GeForce RTX 4060 Ti 16 GB", 288],
  ])("%s", (name, expected) => {
    expect(gbPerSecond(name)).toBe(expected);
  });

  test("cards of one name and two sizes are told apart by their memory", () => {
    expect(gbPerSecond("NVIDIA GeForce RTX 3080", 10)).toBe(760);
    expect(gbPerSecond("NVIDIA GeForce RTX 3080", 12)).toBe(912);
    expect(gbPerSecond("NVIDIA GeForce RTX 3060", 8)).toBe(240);
    expect(gbPerSecond("NVIDIA GeForce RTX 3060", 11.9)).toBe(360);
  });

  test("a card that the table does not know is unknown, and not the nearest name", () => {
    for (const name of ["NVIDIA GeForce RTX 4090 Ti", "NVIDIA GeForce RTX 9090", "llvmpipe (LLVM 15.0.7)", "gpu", ""]) {
      expect(gbPerSecond(name)).toBeNull();
    }
  });

  test("every name of the table finds its own figure, and all are plausible", () => {
    for (const [name, expected] of Object.entries(GPU_BANDWIDTHS)) {
      expect(gbPerSecond(name), name).toBe(expected);
      expect(gbPerSecond(`Maker ${name}`), name).toBeNull();
      expect(expected).toBeGreaterThanOrEqual(30);
      expect(expected).toBeLessThanOrEqual(8_000);
    }
  });

  test("any name whatever gets an answer", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), fc.double(), (name, memoryBytes) => {
        const found = gpuBytesPerSecond({ name, memoryBytes });
        expect(found === null || found > 0).toBe(true);
      }),
    );
  });
});
