/**
 * Which engine variants a machine should try, in which order. The CPU is always the last: it works everywhere, so whatever keeps
 * a GPU from being used costs speed and nothing else.
 *
 * | the owner's wish | found                                  | tried            |
 * | ---------------- | -------------------------------------- | ---------------- |
 * | `cpu`            | anything                               | cpu              |
 * | a GPU variant    | anything: the owner knows better       | that one, cpu    |
 * | `auto`           | an NVIDIA driver, a Vulkan loader too  | cuda, vulkan, cpu |
 * | `auto`           | another GPU with a Vulkan loader       | vulkan, cpu      |
 * | `auto`           | macOS on Apple's processor             | metal, cpu       |
 * | `auto`           | no GPU that can be offered             | cpu              |
 *
 * `auto` leaves out what is neither installed nor to be had for the platform. It does not weigh one GPU against another: the
 * variant that fits the most GPUs best is taken, and a second vendor's GPU stays unused.
 */
import type { EngineVariant } from "../../domain/hardware.ts";
import type { FoundGpu } from "../../ports/gpu-probe.ts";

export const ENGINE_WISHES = ["auto", "cpu", "cuda", "vulkan", "metal"] as const;
export type EngineWish = (typeof ENGINE_WISHES)[number];

export interface VariantQuestion {
  /** As Node names them: `linux`, `x64`. */
  readonly platform: string;
  readonly arch: string;
  readonly gpus: readonly FoundGpu[];
  readonly hasVulkanLoader: boolean;
  readonly installed: readonly EngineVariant[];
  /** Variants that can be installed on demand here. */
  readonly obtainable: readonly EngineVariant[];
  readonly wish: EngineWish;
}

export interface VariantCandidate {
  readonly variant: EngineVariant;
  readonly isInstalled: boolean;
}

/** GPU variants in the order of speed where several fit. */
const BY_SPEED: readonly EngineVariant[] = ["cuda", "metal", "vulkan"];

/** At least one candidate, and `cpu` as the last. */
export function chooseVariant(question: VariantQuestion): readonly VariantCandidate[] {
  const variants: readonly EngineVariant[] = [...gpuVariants(question), "cpu"];
  return variants.map((variant) => ({
    variant,
    isInstalled: variant === "cpu" || question.installed.includes(variant),
  }));
}

function gpuVariants(question: VariantQuestion): readonly EngineVariant[] {
  switch (question.wish) {
    case "cpu":
      return [];
    case "cuda":
    case "vulkan":
    case "metal":
      return [question.wish];
    case "auto": {
      const fitting = BY_SPEED.filter((variant) => question.gpus.some(({ variants }) => variants.includes(variant)));
      return fitting.filter((variant) => isUsable(variant, question));
    }
  }
}

function isUsable(variant: EngineVariant, question: VariantQuestion): boolean {
  if (variant === "vulkan" && !question.hasVulkanLoader) return false;
  if (variant === "metal" && (question.platform !== "darwin" || question.arch !== "arm64")) return false;
  return question.installed.includes(variant) || question.obtainable.includes(variant);
}
