/**
 * Where the engine's variants are on this machine: those that were installed on demand lie in the home, and packages that were
 * installed beside this one are found too. The CPU's always comes along.
 */
import { findLlamaLibrary } from "../../adapters/engine-llama/llama-library.ts";
import { pinnedPackagesFor } from "../../adapters/engine-variants/pinned-packages.ts";
import { VariantFolder } from "../../adapters/engine-variants/variant-folder.ts";
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";

const VARIANTS: readonly EngineVariant[] = ["cuda", "vulkan", "metal", "cpu"];

/** The variants that can be installed into this folder of a home. */
export function variantFolder(folder: string): VariantFolder {
  const packages = pinnedPackagesFor({ platform: process.platform, arch: process.arch });
  return new VariantFolder({ folder, packages, environment: process.env });
}

/** `directory` is null for a package that lies beside this one. */
export interface InstalledVariant {
  readonly variant: EngineVariant;
  readonly directory: string | null;
}

export async function installedVariants(folder: VariantFolder): Promise<readonly InstalledVariant[]> {
  const found: InstalledVariant[] = [];
  for (const variant of VARIANTS) {
    const directory = await folder.find(variant);
    if (directory !== null || isPackageHere(variant)) found.push({ variant, directory });
  }
  return found;
}

function isPackageHere(variant: EngineVariant): boolean {
  // On macOS the one package answers to the CPU and to Metal; elsewhere there is no Metal.
  if (variant === "metal" && process.platform !== "darwin") return false;
  try {
    findLlamaLibrary({ directory: null, variant });
    return true;
  } catch (thrown) {
    if (thrown instanceof FallowError) return false;
    throw thrown;
  }
}
