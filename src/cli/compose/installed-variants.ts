/** Which variants of the engine library are installed here. The CPU's always should be; the others are found when present. */
import { findLlamaLibrary } from "../../adapters/engine-llama/llama-library.ts";
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";

const VARIANTS: readonly EngineVariant[] = ["cuda", "vulkan", "metal", "cpu"];

export function installedVariants(): readonly EngineVariant[] {
  return VARIANTS.filter((variant) => {
    try {
      findLlamaLibrary({ directory: null, variant });
      return true;
    } catch (thrown) {
      if (thrown instanceof FallowError) return false;
      throw thrown;
    }
  });
}
