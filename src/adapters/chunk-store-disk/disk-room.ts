/**
 * How much of a disk weights may take. The disk is its owner's: some of it is always left. The headroom is 5 % of the disk or 2 GiB, whichever is
 * more: that is what systems need to stay usable (logs, updates, and file systems that become slow when nearly full). On a small disk
 * that would leave nothing, so it is never more than half of what the store could have: what is free, and what it holds already. Counting
 * what it holds keeps the figure steady while the store fills.
 */
import type { Stats } from "node:fs";
import { lstat, readdir, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS } from "../../domain/ids.ts";

const HEADROOM_BYTES_MIN = 2 * 1024 ** 3;
const HEADROOM_SHARE = 0.05;
const STORE_SHARE_MAX = 0.5;
/** What `stat` counts blocks in, whatever the file system's own are. */
const BLOCK_BYTES = 512;

export interface DiskSize {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Of the folder, or of the nearest one above that exists; null when the system does not tell. */
export async function diskSize(folder: string): Promise<DiskSize | null> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      const { bavail, bsize, blocks } = await statfs(at);
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    } catch (cause) {
      if (!isMissing(cause) || dirname(at) === at) return null;
    }
  }
}

export function headroomOf({ freeBytes, totalBytes }: DiskSize, heldBytes: number): number {
  const wanted = Math.max(HEADROOM_BYTES_MIN, Math.floor(totalBytes * HEADROOM_SHARE));
  return Math.min(wanted, Math.floor((freeBytes + heldBytes) * STORE_SHARE_MAX));
}

/** What the files of a store really take: holes of a sparse file take nothing. Other files in its folder are not its own. */
async function heldBytes(storeFolder: string): Promise<number> {
  let sum = 0;
  for (const name of await namesIn(storeFolder)) {
    if (!ID_PATTERNS.sha256.test(name.split(".")[0] ?? "")) continue;
    const path = join(storeFolder, name);
    const facts = await factsOf(path);
    if (facts?.isFile()) sum += allocatedBytes(facts);
    else if (facts?.isDirectory()) sum += await takenBytes(path);
  }
  return sum;
}

/** By the files that lie in a folder itself. */
export async function takenBytes(folder: string): Promise<number> {
  let sum = 0;
  for (const name of await namesIn(folder)) {
    const facts = await factsOf(join(folder, name));
    if (facts?.isFile()) sum += allocatedBytes(facts);
  }
  return sum;
}

export function allocatedBytes({ blocks, size }: Stats): number {
  // Some network file systems tell no blocks.
  return Number.isFinite(blocks) ? blocks * BLOCK_BYTES : size;
}

/** Never follows a link; null when there is nothing. */
export async function factsOf(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw cause;
  }
}

export async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (isMissing(cause)) return [];
    throw cause;
  }
}

export function isMissing(cause: unknown): boolean {
  return hasCode(cause, "ENOENT") || hasCode(cause, "ENOTDIR");
}

export function hasCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && "code" in cause && cause.code === code;
}

/** The room of one store. Chunks that are being written count as written. */
export class DiskRoom {
  readonly #folder: string;
  readonly #wantedBytes: number | null;
  #headroomBytes: number | null = null;
  #promisedBytes = 0;

  constructor(folder: string, headroomBytes: number | null) {
    this.#folder = folder;
    this.#wantedBytes = headroomBytes;
  }

  /** Less the headroom; null when the system does not tell. Measures what the store holds again. */
  async measure(): Promise<number | null> {
    const size = await diskSize(this.#folder);
    if (size === null) return null;
    this.#headroomBytes = this.#wantedBytes ?? headroomOf(size, await heldBytes(this.#folder));
    return this.#left(size, this.#headroomBytes);
  }

  /** Holds so many bytes until `done` is called. Rejects `disk-full`. */
  async hold(path: string, neededBytes: number): Promise<{ done(): void }> {
    const headroomBytes = this.#headroomBytes ?? this.#wantedBytes;
    const size = await diskSize(this.#folder);
    const freeBytes = size === null || headroomBytes === null ? await this.measure() : this.#left(size, headroomBytes);
    if (freeBytes !== null && freeBytes < neededBytes) throw diskFull(path, { neededBytes, freeBytes });
    this.#promisedBytes += neededBytes;
    return {
      done: () => {
        this.#promisedBytes -= neededBytes;
      },
    };
  }

  async fault(path: string, neededBytes: number, cause: unknown): Promise<unknown> {
    if (!isFull(cause)) return cause;
    return diskFull(path, { neededBytes, freeBytes: (await diskSize(this.#folder))?.freeBytes ?? null }, cause);
  }

  #left({ freeBytes }: DiskSize, headroomBytes: number): number {
    return Math.max(0, freeBytes - headroomBytes - this.#promisedBytes);
  }
}

export function diskFull(
  path: string,
  sizes: { neededBytes: number; freeBytes: number | null },
  cause?: unknown,
): FallowError {
  const { neededBytes, freeBytes } = sizes;
  const free = freeBytes === null ? "has no room" : `has ${freeBytes} free for weights`;
  const message = `${path} needs ${neededBytes} bytes, and its disk ${free}: make room there, or allow less weights`;
  return new FallowError("disk-full", message, { data: { path, neededBytes, freeBytes }, cause });
}

/** A write that the disk or a quota did not take. */
export function isFull(cause: unknown): boolean {
  return hasCode(cause, "ENOSPC") || hasCode(cause, "EDQUOT");
}
