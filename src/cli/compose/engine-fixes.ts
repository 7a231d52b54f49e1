/** What an owner does about an engine variant that cannot be used, by the code of the fault. */
import type { EngineVariant } from "../../domain/hardware.ts";

const BY_CODE: Readonly<Record<string, (variant: EngineVariant) => string>> = {
  "engine-variant-unavailable": () => "choose another with --engine; `fallow engine list` shows what there is",
  "engine-download-failed": (variant) => `check the network and npm's settings, then: fallow engine install ${variant}`,
  "engine-integrity-mismatch": () => "check which registry npm uses (npm config get registry), or use --engine cpu",
  "npm-missing": () => "install npm and put it on PATH, or use --engine cpu",
  "disk-full": () => "free some space, or choose another folder with --home",
  "engine-library-missing": (variant) => `fallow engine remove ${variant}, then fallow engine install ${variant}`,
  "engine-abi-mismatch": (variant) => `fallow engine remove ${variant}, then fallow engine install ${variant}`,
  "engine-folder-busy": () => "wait until the other process has installed it, and try again",
  "engine-hung": () => "update the GPU's driver, or use --engine cpu: this GPU is too slow to serve",
  "engine-self-test-failed": () => "update the GPU's driver: it computes wrong numbers",
};

/** What each variant needs of the system to find a device. */
const NEEDS: Readonly<Record<EngineVariant, string>> = {
  cpu: "run `fallow doctor`",
  cuda: "install NVIDIA's driver and the CUDA 13 runtime (libcudart.so.13, libcublas.so.13)",
  vulkan: "install the Vulkan loader and the GPU's Vulkan driver (libvulkan1, mesa-vulkan-drivers or the vendor's)",
  metal: "Metal needs macOS on an Apple processor",
};

export function fixForVariant(variant: EngineVariant, code: string): string {
  return BY_CODE[code]?.(variant) ?? NEEDS[variant];
}
