import type { EngineVariant, NodeCapabilities } from "../domain/hardware.ts";

/** Measures the machine: devices, memory, disk. What cannot be read is explained in `notes`, never guessed. */
export interface HardwareProbe {
  probe(): Promise<{
    readonly capabilities: Omit<NodeCapabilities, "referenceSpeed">;
    readonly notes: readonly ProbeNote[];
    /** GPUs that could be offered, whether or not an engine for them is installed. */
    readonly gpus: readonly FoundGpu[];
    readonly hasVulkanLoader: boolean;
  }>;
}

export interface FoundGpu {
  readonly name: string;
  /** Variants of the engine that can use it here, the best one first. */
  readonly variants: readonly EngineVariant[];
}

export interface ProbeNote {
  readonly subject: string;
  readonly problem: string;
  readonly fix: string;
  /** The engine's variant whose absence is the problem, when that is it. */
  readonly missingVariant?: EngineVariant;
}
