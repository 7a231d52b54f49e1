/** What a node has, as its own probe measured it. Sizes in bytes. */
import type { AttachedServer } from "./attached-engine.ts";

export type EngineVariant = "cpu" | "cuda" | "vulkan" | "metal";

export interface Device {
  /** Stable within a node: `cpu`, `cuda0`, `vulkan1`. */
  readonly deviceId: string;
  readonly kind: "cpu" | "gpu";
  readonly variant: EngineVariant;
  readonly name: string;
  /** VRAM of a GPU; main memory of the CPU pool. */
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
  /** What the owner keeps for himself; never planned. */
  readonly reserveBytes: number;
}

/** Speed on the reference load (the bundled tiny model, fixed prompt), measured by the node at join. */
export interface ReferenceSpeed {
  readonly prefillTokPerSecond: number;
  readonly decodeTokPerSecond: number;
  readonly measuredAtMs: number;
}

export interface NodeCapabilities {
  readonly platform: string;
  readonly cpuModel: string;
  readonly cpuCores: number;
  readonly memoryBytes: number;
  readonly diskFreeBytes: number;
  readonly devices: readonly Device[];
  readonly engineVariant: EngineVariant;
  readonly engineVersion: string;
  readonly referenceSpeed: ReferenceSpeed | null;
  /** It runs stages of chains; absent: whole models only. */
  readonly servesStages?: boolean | undefined;
  /** A server of the owner's that serves as an engine; absent: none. */
  readonly attached?: AttachedServer | undefined;
}

/** Bytes that a plan may use on a device: declared minus the owner's reserve, never negative. */
export function usableBytes(device: Device): number {
  return Math.max(0, device.memoryBytes - device.reserveBytes);
}
