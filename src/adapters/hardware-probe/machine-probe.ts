/**
 * Measures the machine: CPU, memory, disk, GPUs. A GPU is offered as a device only when an engine variant for it is installed and
 * its memory is known; otherwise a note says what is in the way and how to fix it. Nothing is guessed.
 *
 * | hardware        | read from                       | engine variants that fit |
 * | --------------- | ------------------------------- | ------------------------ |
 * | CPU, memory     | Node (knows cgroup limits)      | cpu                      |
 * | NVIDIA GPU      | nvidia-smi                      | cuda, vulkan             |
 * | AMD GPU (Linux) | /sys/bus/pci, the amdgpu driver | vulkan                   |
 * | Apple GPU       | the platform itself             | metal                    |
 *
 * | any other GPU   | the engine, once it uses it     | the one that is running  |
 *
 * Not handled: NVIDIA GPUs split by MIG. GPUs of Intel, and of AMD outside Linux, are offered only when an engine that was asked
 * for by name reports them: what shares the main memory would be counted twice.
 */
import { access, statfs } from "node:fs/promises";
import { availableParallelism, cpus, totalmem } from "node:os";
import type { Device, EngineVariant } from "../../domain/hardware.ts";
import type { EngineGpu } from "../../ports/engine.ts";
import type { FoundGpu, HardwareProbe, ProbeNote } from "../../ports/gpu-probe.ts";
import { findNvidiaGpus, type NvidiaGpu } from "./nvidia-gpus.ts";
import { findPciDisplays, PCI_VENDOR, type PciDisplay } from "./pci-displays.ts";

const GIB = 1024 ** 3;
/** Below this the smallest useful models do not fit beside the system. */
const MEMORY_LOW_BYTES = 2 * GIB;
const DISK_LOW_BYTES = 4 * GIB;
/** Of the main memory, for the owner: a quarter, and at least 1 GiB, but never more than half. */
const MEMORY_RESERVE = { share: 0.25, leastBytes: GIB, shareMax: 0.5 } as const;
/** Of a GPU's memory, for its driver and the owner's screen. */
const VRAM_RESERVE = { share: 0.06, leastBytes: GIB / 2, shareMax: 0.5 } as const;
/** macOS lets a process wire about two thirds of the memory for the GPU. */
const METAL_SHARE = 2 / 3;

export interface MachineProbeOptions {
  readonly engineVersion: string;
  /** Variants whose libraries are installed; `cpu` always is. */
  readonly installedVariants: readonly EngineVariant[];
  /** Where models and weights will lie: its disk is measured. */
  readonly folder: string;
  /** What the owner keeps, instead of the defaults above. */
  readonly reserveBytes?: { readonly memory?: number; readonly vram?: number };
  /** What an engine of this variant sees: offered where the system itself tells of no GPU for it. */
  readonly seenByEngine?: { readonly variant: EngineVariant; readonly gpus: readonly EngineGpu[] };
  /** Other places to look, for tests. */
  readonly nvidiaTool?: string;
  readonly sysFolder?: string;
  readonly vulkanLibraries?: readonly string[];
}

/** Where the loader of Vulkan lies on the usual systems. */
const VULKAN_LIBRARIES = [
  "/usr/lib/x86_64-linux-gnu/libvulkan.so.1",
  "/usr/lib/aarch64-linux-gnu/libvulkan.so.1",
  "/usr/lib64/libvulkan.so.1",
  "/usr/lib/libvulkan.so.1",
  "C:\\Windows\\System32\\vulkan-1.dll",
];

export class MachineProbe implements HardwareProbe {
  readonly #options: MachineProbeOptions;

  constructor(options: MachineProbeOptions) {
    this.#options = options;
  }

  async probe(): ReturnType<HardwareProbe["probe"]> {
    const { folder, engineVersion, sysFolder = "/sys" } = this.#options;
    const memory = this.#memory();
    const displays = await findPciDisplays(sysFolder);
    const [disk, nvidia, hasVulkan] = await Promise.all([
      statfs(folder),
      findNvidiaGpus({
        tool: this.#options.nvidiaTool ?? "nvidia-smi",
        hasHardware: hasVendor(displays, PCI_VENDOR.nvidia),
      }),
      this.#hasVulkan(),
    ]);
    const diskFreeBytes = disk.bavail * disk.bsize;
    const known = [
      ...this.#nvidiaDevices(nvidia.gpus, hasVulkan),
      ...this.#amdDevices(displays, hasVulkan),
      ...this.#metalDevices(memory),
    ];
    const gpus = [...known, ...this.#engineDevices(known)];
    const cpuModel = cpus()[0]?.model.trim() || "unknown CPU";
    const devices = [
      ...gpus.flatMap(({ device }) => (device === null ? [] : [device])),
      this.#cpuDevice(cpuModel, memory),
    ];
    return {
      capabilities: {
        platform: `${process.platform}-${process.arch}`,
        cpuModel,
        cpuCores: availableParallelism(),
        memoryBytes: memory.totalBytes,
        diskFreeBytes,
        devices,
        engineVariant: devices[0]?.variant ?? "cpu",
        engineVersion,
      },
      notes: [
        ...nvidia.notes,
        ...gpus.flatMap(({ notes }) => notes),
        ...sizeNotes({ ...memory, diskFreeBytes, folder }),
      ],
      gpus: gpus.flatMap(({ gpu }) => (gpu === null ? [] : [gpu])),
      hasVulkanLoader: hasVulkan,
    };
  }

  /** A container's limit counts, not what the machine around it has. */
  #memory(): { totalBytes: number; freeBytes: number; isLimited: boolean } {
    const limitBytes = process.constrainedMemory();
    const isLimited = limitBytes > 0 && limitBytes < totalmem();
    const totalBytes = isLimited ? limitBytes : totalmem();
    return { totalBytes, freeBytes: Math.min(totalBytes, process.availableMemory()), isLimited };
  }

  #cpuDevice(name: string, memory: { totalBytes: number; freeBytes: number }): Device {
    const reserveBytes = this.#options.reserveBytes?.memory ?? reserveOf(memory.totalBytes, MEMORY_RESERVE);
    return {
      deviceId: "cpu",
      kind: "cpu",
      variant: "cpu",
      name,
      memoryBytes: memory.totalBytes,
      memoryFreeBytes: memory.freeBytes,
      reserveBytes,
    };
  }

  #nvidiaDevices(found: readonly NvidiaGpu[], hasVulkan: boolean): readonly Offer[] {
    return found.map((gpu) => this.#offer(gpu, hasVulkan ? ["cuda", "vulkan"] : ["cuda"]));
  }

  #amdDevices(displays: readonly PciDisplay[], hasVulkan: boolean): readonly Offer[] {
    return displays
      .filter(({ vendor }) => vendor === PCI_VENDOR.amd)
      .map((display, index) => {
        const name = display.name ?? "AMD GPU";
        if (display.memoryBytes === null || display.memoryFreeBytes === null) {
          const fix = "use a kernel with the amdgpu driver, and pass /sys and /dev/dri into the container";
          return noOffer({ subject: name, problem: "its driver does not tell its memory", fix });
        }
        if (!hasVulkan) {
          const fix = "install the Vulkan loader and Mesa's driver (libvulkan1, mesa-vulkan-drivers)";
          return noOffer({ subject: name, problem: "the Vulkan loader is not installed", fix });
        }
        const { memoryBytes, memoryFreeBytes } = display;
        return this.#offer({ index, name, memoryBytes, memoryFreeBytes }, ["vulkan"]);
      });
  }

  #metalDevices(memory: { totalBytes: number; freeBytes: number }): readonly Offer[] {
    if (process.platform !== "darwin" || process.arch !== "arm64") return [];
    const memoryBytes = Math.floor(memory.totalBytes * METAL_SHARE);
    const memoryFreeBytes = Math.min(memoryBytes, memory.freeBytes);
    return [this.#offer({ index: 0, name: "Apple GPU", memoryBytes, memoryFreeBytes }, ["metal"])];
  }

  #engineDevices(known: readonly Offer[]): readonly Offer[] {
    const seen = this.#options.seenByEngine;
    if (seen === undefined || known.some(({ device }) => device?.variant === seen.variant)) return [];
    return seen.gpus.map((gpu, index) => this.#offer({ index, ...gpu }, [seen.variant]));
  }

  /** The GPU as a device of the first variant that fits and is installed. */
  #offer(found: NvidiaGpu, fitting: readonly EngineVariant[]): Offer {
    const gpu = { name: found.name, variants: fitting };
    const variant = fitting.find((candidate) => this.#options.installedVariants.includes(candidate));
    if (variant === undefined) {
      const problem = `the engine's ${fitting.join(" or ")} variant is not installed, so the GPU is not used`;
      const [missingVariant] = fitting;
      const fix = `fallow engine install ${missingVariant}`;
      return {
        gpu,
        device: null,
        notes: [{ subject: gpu.name, problem, fix, ...(missingVariant && { missingVariant }) }],
      };
    }
    const { index, name, memoryBytes, memoryFreeBytes } = found;
    const reserveBytes = this.#options.reserveBytes?.vram ?? reserveOf(memoryBytes, VRAM_RESERVE);
    const device: Device = {
      deviceId: `${variant}${index}`,
      kind: "gpu",
      variant,
      name,
      memoryBytes,
      memoryFreeBytes,
      reserveBytes,
    };
    return { gpu, device, notes: [] };
  }

  async #hasVulkan(): Promise<boolean> {
    for (const path of this.#options.vulkanLibraries ?? VULKAN_LIBRARIES) {
      try {
        await access(path);
        return true;
      } catch {
        // not there: the next place may have it
      }
    }
    return false;
  }
}

interface Offer {
  readonly gpu: FoundGpu | null;
  readonly device: Device | null;
  readonly notes: readonly ProbeNote[];
}

function noOffer(note: ProbeNote): Offer {
  return { gpu: null, device: null, notes: [note] };
}

function hasVendor(displays: readonly PciDisplay[], vendor: string): boolean {
  return displays.some((display) => display.vendor === vendor);
}

function reserveOf(totalBytes: number, rule: { share: number; leastBytes: number; shareMax: number }): number {
  return Math.floor(Math.min(totalBytes * rule.shareMax, Math.max(rule.leastBytes, totalBytes * rule.share)));
}

function sizeNotes(sizes: {
  totalBytes: number;
  freeBytes: number;
  isLimited: boolean;
  diskFreeBytes: number;
  folder: string;
}): readonly ProbeNote[] {
  const notes: ProbeNote[] = [];
  if (sizes.freeBytes < MEMORY_LOW_BYTES) {
    const limit = sizes.isLimited ? ` (this container's limit is ${gib(sizes.totalBytes)})` : "";
    notes.push({
      subject: "memory",
      problem: `${gib(sizes.freeBytes)} is free${limit}: only the smallest models fit`,
      fix: sizes.isLimited ? "raise the container's memory limit" : "end programs that are not needed",
    });
  }
  if (sizes.diskFreeBytes < DISK_LOW_BYTES) {
    notes.push({
      subject: "disk",
      problem: `${gib(sizes.diskFreeBytes)} is free at ${sizes.folder}: few weights can be kept`,
      fix: "make room there, or put the home on another disk with --home",
    });
  }
  return notes;
}

function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}
