import type { NodeCapabilities } from "../domain/hardware.ts";

/** Measures the machine: devices, memory, disk. What cannot be read is explained in `notes`, never guessed. */
export interface HardwareProbe {
  probe(): Promise<{
    readonly capabilities: Omit<NodeCapabilities, "referenceSpeed">;
    readonly notes: readonly ProbeNote[];
  }>;
}

export interface ProbeNote {
  readonly subject: string;
  readonly problem: string;
  readonly fix: string;
}
