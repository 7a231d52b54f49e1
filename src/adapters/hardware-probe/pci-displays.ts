/** GPUs on the bus, by what Linux says in /sys: whether or not a driver uses them. Elsewhere nothing is found. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

export const PCI_VENDOR = { nvidia: "0x10de", amd: "0x1002", intel: "0x8086" } as const;
/** PCI base class 03: display controllers; 0x0302 is a GPU without an output. */
const DISPLAY_CLASS = /^0x03/;

export interface PciDisplay {
  readonly vendor: string;
  /** Only an AMD driver tells its memory here. */
  readonly memoryBytes: number | null;
  readonly memoryFreeBytes: number | null;
  readonly name: string | null;
}

/** In the order of their bus addresses. */
export async function findPciDisplays(sysFolder: string): Promise<readonly PciDisplay[]> {
  const folder = join(sysFolder, "bus/pci/devices");
  const displays: PciDisplay[] = [];
  for (const address of (await namesIn(folder)).toSorted()) {
    const at = join(folder, address);
    const [kind, vendor] = await Promise.all([textOf(join(at, "class")), textOf(join(at, "vendor"))]);
    if (kind === null || vendor === null || !DISPLAY_CLASS.test(kind)) continue;
    const [total, used, name] = await Promise.all([
      textOf(join(at, "mem_info_vram_total")),
      textOf(join(at, "mem_info_vram_used")),
      textOf(join(at, "product_name")),
    ]);
    const memoryBytes = bytesIn(total);
    const usedBytes = bytesIn(used);
    displays.push({
      vendor,
      memoryBytes,
      memoryFreeBytes: memoryBytes === null || usedBytes === null ? null : Math.max(0, memoryBytes - usedBytes),
      name: name === null || name === "" ? null : name,
    });
  }
  return displays;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    return []; // no such bus here (another system, or a container without /sys)
  }
}

async function textOf(path: string): Promise<string | null> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch {
    return null; // this driver does not tell
  }
}

function bytesIn(text: string | null): number | null {
  const bytes = text === null || text === "" ? Number.NaN : Number(text);
  return Number.isSafeInteger(bytes) && bytes >= 0 ? bytes : null;
}
