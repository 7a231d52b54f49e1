/** Which boot of the machine this is: what was written in another may not have reached the disk. */
import { readFileSync } from "node:fs";

const BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id";
export const BOOT_ID_BYTES = 16;

/** Zeros where the system tells none (all but Linux): then nothing that an earlier process wrote is trusted unread. */
export function bootId(): Uint8Array {
  try {
    const id = Buffer.from(readFileSync(BOOT_ID_PATH, "latin1").replaceAll(/[^0-9a-f]/g, ""), "hex");
    return id.length === BOOT_ID_BYTES ? id : new Uint8Array(BOOT_ID_BYTES);
  } catch {
    return new Uint8Array(BOOT_ID_BYTES);
  }
}

export function isBootKnown(id: Uint8Array): boolean {
  return id.some((byte) => byte !== 0);
}
