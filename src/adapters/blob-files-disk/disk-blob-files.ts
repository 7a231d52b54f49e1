/**
 * Tenants' files in one folder, each under its id. A file is written under a temporary name and renamed when it is whole and on the disk, so
 * that an id is a whole file or none. Some of the disk is left to its owner, as with weights.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import type { FileId } from "../../domain/ids.ts";
import type { BlobFiles, BlobReader, BlobWriter } from "../../ports/blob-files.ts";

const HEADROOM_BYTES_MIN = 2 * 1024 ** 3;
const HEADROOM_SHARE = 0.05;
/** On a small disk the headroom is never more than this part of what is free. */
const HEADROOM_SHARE_MAX = 0.5;
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;

export class DiskBlobFiles implements BlobFiles {
  readonly #folder: string;
  #isMade = false;

  constructor(options: { readonly folder: string }) {
    this.#folder = options.folder;
  }

  async create(fileId: FileId): Promise<BlobWriter> {
    await this.#make();
    const temporary = join(this.#folder, `.${randomBytes(8).toString("hex")}.tmp`);
    const handle = await faultsNamed(() => open(temporary, "wx", 0o600));
    return new DiskWriter(handle, { temporary, path: join(this.#folder, fileId) });
  }

  async open(fileId: FileId): Promise<BlobReader | null> {
    let handle: FileHandle;
    try {
      handle = await open(join(this.#folder, fileId), "r");
    } catch (cause) {
      if (codeOf(cause) === "ENOENT") return null;
      throw storageFault(cause);
    }
    const { size } = await handle.stat();
    return {
      bytes: size,
      read: (offsetBytes, lengthBytes) => faultsNamed(() => readWhole(handle, offsetBytes, lengthBytes)),
      close: () => handle.close(),
    };
  }

  async remove(fileId: FileId): Promise<void> {
    await faultsNamed(() => rm(join(this.#folder, fileId), { force: true }));
  }

  async freeBytes(): Promise<number | null> {
    await this.#make();
    try {
      const { bavail, bsize, blocks } = await statfs(this.#folder);
      const free = bavail * bsize;
      const wanted = Math.max(HEADROOM_BYTES_MIN, Math.floor(blocks * bsize * HEADROOM_SHARE));
      return Math.max(0, free - Math.min(wanted, Math.floor(free * HEADROOM_SHARE_MAX)));
    } catch {
      return null; // some file systems do not tell
    }
  }

  async sweep(): Promise<void> {
    await this.#make();
    for (const name of await readdir(this.#folder)) {
      if (TEMPORARY.test(name)) await rm(join(this.#folder, name), { force: true });
    }
  }

  async #make(): Promise<void> {
    if (this.#isMade) return;
    await faultsNamed(() => mkdir(this.#folder, { recursive: true, mode: 0o700 }));
    this.#isMade = true;
  }
}

class DiskWriter implements BlobWriter {
  readonly #handle: FileHandle;
  readonly #paths: { readonly temporary: string; readonly path: string };
  #bytes = 0;
  #isOver = false;

  constructor(handle: FileHandle, paths: { temporary: string; path: string }) {
    this.#handle = handle;
    this.#paths = paths;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await faultsNamed(() => this.#handle.writeFile(bytes));
    this.#bytes += bytes.length;
  }

  async finish(): Promise<number> {
    await faultsNamed(async () => {
      await this.#handle.datasync();
      await this.#handle.close();
      await rename(this.#paths.temporary, this.#paths.path);
    });
    this.#isOver = true;
    return this.#bytes;
  }

  async discard(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    // Closed already when `finish` failed in its middle.
    await this.#handle.close().catch(() => undefined);
    await rm(this.#paths.temporary, { force: true });
  }
}

async function readWhole(handle: FileHandle, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  let at = 0;
  while (at < lengthBytes) {
    const { bytesRead } = await handle.read(bytes, at, lengthBytes - at, offsetBytes + at);
    if (bytesRead === 0) throw new FallowError("storage-failed", `a file ends ${lengthBytes - at} bytes too early`);
    at += bytesRead;
  }
  return bytes;
}

async function faultsNamed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw storageFault(cause);
  }
}

function storageFault(cause: unknown): unknown {
  if (cause instanceof FallowError) return cause;
  const code = codeOf(cause);
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new FallowError("disk-full", "the disk of the coordinator's files is full: make room there", { cause });
  }
  return new FallowError("storage-failed", `the disk of the coordinator's files failed (${code ?? "unknown"})`, {
    cause,
  });
}

function codeOf(cause: unknown): string | null {
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : null;
}
