import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { usableBytes } from "../../domain/hardware.ts";
import { nodeCapabilitiesSchema } from "../../wire/agent-link.ts";
import { MachineProbe, type MachineProbeOptions } from "./machine-probe.ts";
import { parseNvidiaGpus } from "./nvidia-gpus.ts";
import { SpeedRecordFile } from "./speed-record-file.ts";

const MIB = 1024 ** 2;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-probe-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A machine whose bus and driver tool are files of this test; memory, CPU and disk are the real ones. */
function probe(options: Partial<MachineProbeOptions> = {}) {
  return new MachineProbe({
    engineVersion: "0.5.0",
    installedVariants: ["cpu"],
    folder,
    nvidiaTool: join(folder, "nvidia-smi"),
    sysFolder: join(folder, "sys"),
    vulkanLibraries: [],
    ...options,
  }).probe();
}

async function putDisplay(address: string, fields: Readonly<Record<string, string>>): Promise<void> {
  const at = join(folder, "sys/bus/pci/devices", address);
  await mkdir(at, { recursive: true });
  for (const [name, text] of Object.entries(fields)) await writeFile(join(at, name), `${text}\n`);
}

async function putTool(script: string): Promise<void> {
  await writeFile(join(folder, "nvidia-smi"), `#!/bin/sh\n${script}\n`);
  await chmod(join(folder, "nvidia-smi"), 0o755);
}

describe("the probe", () => {
  test("measures a machine without a GPU as what it is, in a form that the wire takes", async () => {
    const { capabilities } = await probe();
    expect(nodeCapabilitiesSchema.safeParse({ ...capabilities, referenceSpeed: null }).error).toBeUndefined();
    const [cpu] = capabilities.devices;
    expect(capabilities).toMatchObject({ engineVariant: "cpu", engineVersion: "0.5.0" });
    expect(capabilities.devices).toHaveLength(1);
    expect(capabilities.memoryBytes).toBeLessThanOrEqual(totalmem());
    if (cpu === undefined) throw new Error("there is a CPU");
    expect(cpu.memoryFreeBytes).toBeLessThanOrEqual(cpu.memoryBytes);
    expect(usableBytes(cpu)).toBeLessThan(cpu.memoryBytes);
    expect(usableBytes(cpu)).toBeGreaterThanOrEqual(cpu.memoryBytes / 2 - 1);
  });

  test("offers NVIDIA GPUs with what the driver says, when the CUDA engine is installed", async () => {
    await putDisplay("0000:01:00.0", { class: "0x030200", vendor: "0x10de" });
    await putTool(`echo "0, NVIDIA GeForce RTX 4090, 24564, 23012"; echo "1, NVIDIA A100-SXM4-80GB, 81920, 81559"`);
    const { capabilities, notes } = await probe({
      installedVariants: ["cpu", "cuda"],
      reserveBytes: { vram: 512 * MIB },
    });
    expect(capabilities.engineVariant).toBe("cuda");
    expect(capabilities.devices.map(({ deviceId }) => deviceId)).toEqual(["cuda0", "cuda1", "cpu"]);
    expect(capabilities.devices[0]).toEqual({
      deviceId: "cuda0",
      kind: "gpu",
      variant: "cuda",
      name: "NVIDIA GeForce RTX 4090",
      memoryBytes: 24_564 * MIB,
      memoryFreeBytes: 23_012 * MIB,
      reserveBytes: 512 * MIB,
    });
    expect(notes.filter(({ subject }) => subject.includes("NVIDIA"))).toEqual([]);
  });

  test("says what is missing when a GPU is there and cannot be used", async () => {
    await putDisplay("0000:01:00.0", { class: "0x030000", vendor: "0x10de" });
    expect((await probe()).notes).toContainEqual(
      expect.objectContaining({ subject: "NVIDIA driver", fix: expect.stringMatching(/install the NVIDIA driver/) }),
    );
    await putTool(`echo "0, NVIDIA GeForce RTX 3060, 12288, 12000"`);
    expect((await probe()).notes).toContainEqual(
      expect.objectContaining({ subject: "NVIDIA GeForce RTX 3060", fix: "fallow engine install cuda" }),
    );
    expect((await probe()).capabilities.engineVariant).toBe("cpu");
  });

  test.each([
    ["Failed to initialize NVML: Driver/library version mismatch", /restart the machine/],
    ["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", /modprobe nvidia/],
    ["No devices were found", /sees no GPU/],
    ["something nobody has seen", /run nvidia-smi by hand/],
  ])("names the fix when nvidia-smi says: %s", async (text, fix) => {
    await putDisplay("0000:01:00.0", { class: "0x030000", vendor: "0x10de" });
    await putTool(`echo "${text}"; exit 9`);
    const { notes, capabilities } = await probe({ installedVariants: ["cpu", "cuda"] });
    expect(notes).toContainEqual(
      expect.objectContaining({ subject: "NVIDIA driver", fix: expect.stringMatching(fix) }),
    );
    expect(capabilities.devices.map(({ deviceId }) => deviceId)).toEqual(["cpu"]);
  });

  test("is silent about NVIDIA where there is neither a GPU nor a driver", async () => {
    expect((await probe()).notes.filter(({ subject }) => subject.includes("NVIDIA"))).toEqual([]);
  });

  test("reads AMD GPUs from the kernel, and needs Vulkan for them", async () => {
    await putDisplay("0000:03:00.0", {
      class: "0x030000",
      vendor: "0x1002",
      mem_info_vram_total: String(16 * 1024 * MIB),
      mem_info_vram_used: String(1024 * MIB),
    });
    const without = await probe({ installedVariants: ["cpu", "vulkan"] });
    expect(without.notes).toContainEqual(expect.objectContaining({ problem: "the Vulkan loader is not installed" }));
    await writeFile(join(folder, "libvulkan.so.1"), "");
    const { capabilities } = await probe({
      installedVariants: ["cpu", "vulkan"],
      vulkanLibraries: [join(folder, "libvulkan.so.1")],
    });
    expect(capabilities.devices[0]).toMatchObject({
      deviceId: "vulkan0",
      memoryBytes: 16 * 1024 * MIB,
      memoryFreeBytes: 15 * 1024 * MIB,
    });
  });

  test("offers what an engine sees where the system tells of no GPU for it, and only there", async () => {
    const seenByEngine = {
      variant: "vulkan" as const,
      gpus: [{ name: "Intel Arc A770", memoryBytes: 16 * 1024 * MIB, memoryFreeBytes: 15 * 1024 * MIB }],
    };
    const { capabilities, gpus } = await probe({ installedVariants: ["vulkan", "cpu"], seenByEngine });
    expect(gpus).toEqual([{ name: "Intel Arc A770", variants: ["vulkan"] }]);
    expect(capabilities.engineVariant).toBe("vulkan");
    expect(capabilities.devices.map(({ deviceId }) => deviceId)).toEqual(["vulkan0", "cpu"]);
    expect(capabilities.devices[0]).toMatchObject({ memoryBytes: 16 * 1024 * MIB, memoryFreeBytes: 15 * 1024 * MIB });
    await putTool(`echo "0, NVIDIA GeForce RTX 4090, 24564, 23012"`);
    await writeFile(join(folder, "libvulkan.so.1"), "");
    const vulkanLibraries = [join(folder, "libvulkan.so.1")];
    const known = await probe({ installedVariants: ["vulkan", "cpu"], seenByEngine, vulkanLibraries });
    expect(known.capabilities.devices.map(({ name }) => name)[0]).toBe("NVIDIA GeForce RTX 4090");
    expect(known.capabilities.devices).toHaveLength(2);
  });

  test("never guesses the memory of a GPU", async () => {
    await putDisplay("0000:03:00.0", { class: "0x030000", vendor: "0x1002" });
    const { capabilities, notes } = await probe({ installedVariants: ["cpu", "vulkan"] });
    expect(capabilities.devices).toHaveLength(1);
    expect(notes).toContainEqual(expect.objectContaining({ problem: "its driver does not tell its memory" }));
    expect(parseNvidiaGpus("0, NVIDIA GB10, [N/A], [N/A]\nnonsense\n")).toMatchObject({ gpus: [], notes: [{}, {}] });
  });
});

describe("the kept speed", () => {
  const speed = { prefillTokPerSecond: 100.5, decodeTokPerSecond: 20, measuredAtMs: 1 };

  test("is found again under what it was measured with", async () => {
    const path = join(folder, "new", "speed.json");
    await new SpeedRecordFile(path).save("0.5.0/ab/1t", speed);
    const record = new SpeedRecordFile(path);
    expect(await record.load("0.5.0/ab/1t")).toEqual(speed);
    expect(await record.load("0.6.0/ab/1t")).toBeNull();
    for (let at = 0; at < 30; at++) await record.save(`key-${at}`, speed);
    expect(await record.load("key-0")).toBeNull();
    expect(await record.load("key-29")).toEqual(speed);
  });

  test("is measured again when its file is damaged", async () => {
    const path = join(folder, "speed.json");
    await writeFile(path, '{"key-0":{"prefillTokPerSecond":"fast"}}');
    expect(await new SpeedRecordFile(path).load("key-0")).toBeNull();
  });
});
