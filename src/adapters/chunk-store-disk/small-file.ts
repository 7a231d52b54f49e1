/** The store's small files: replaced whole or not at all, read within a bound, never through a link. */
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, isMissing } from "./disk-room.ts";
import { openPlain, readAt } from "./open-files.ts";

/** Windows refuses to replace a file that somebody reads at that moment. */
const REPLACE_TRIES_MAX = 10;
const REPLACE_WAIT_MS = 20;
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;

export function isTemporary(name: string): boolean {
  return TEMPORARY.test(name);
}

export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.${randomBytes(8).toString("hex")}.tmp`);
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(bytes);
      // After a power cut there is the old one or this one, not an empty one.
      await file.datasync();
    } finally {
      await file.close();
    }
    await replace(temporary, path);
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw thrown;
  }
}

async function replace(from: string, to: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await rename(from, to);
    } catch (cause) {
      const isBusy = ["EPERM", "EACCES", "EBUSY"].some((code) => hasCode(cause, code));
      if (!isBusy || tries >= REPLACE_TRIES_MAX) throw cause;
      await sleep(REPLACE_WAIT_MS);
    }
  }
}

/** Null when there is none, or when it is larger than it may be. */
export async function readSmallFile(path: string, bytesMax: number): Promise<Buffer | null> {
  let file: Awaited<ReturnType<typeof openPlain>>;
  try {
    file = await openPlain(path, "read");
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw cause;
  }
  try {
    const { size } = await file.stat();
    if (size > bytesMax) return null;
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, await readAt(file, bytes, 0));
  } finally {
    await file.close();
  }
}
