/**
 * The ModelFiles port on the file system: opens files that an operator names, and keeps those of registered models in a folder of
 * the home as `<sha256>.gguf`. A kept file is a clone where the file system makes one (no second 40 GB on disk), else a copy, and
 * never a link: what an operator writes into his own file later must not change the grid's. It appears under its name complete
 * or not at all.
 */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { type ModelId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";

export interface DiskModelFilesOptions {
  /** Where kept files lie; made when first needed. */
  readonly folder: string;
  readonly bundled: readonly { readonly modelId: ModelId; readonly path: string }[];
}

/** Large enough that reading costs no more than hashing, small enough to be nothing in memory. */
const HASH_READ_BYTES = 1024 * 1024;
/** A pipe that nobody writes to would keep the opening thread for ever; a regular file does not notice. Absent on Windows. */
const OPEN_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
/** The operator's file may be read-only, or open to all. */
const KEPT_MODE = 0o600;
const TEMPORARY = /^\..*\.tmp$/;

export class DiskModelFiles implements ModelFiles {
  readonly #options: DiskModelFilesOptions;
  #isSwept = false;

  constructor(options: DiskModelFilesOptions) {
    this.#options = options;
  }

  async open(path: string): Promise<ModelFile> {
    let handle: FileHandle;
    try {
      handle = await open(path, OPEN_WITHOUT_WAITING);
    } catch (cause) {
      throw unreadable(path, cause);
    }
    try {
      const facts = await handle.stat();
      if (!facts.isFile()) throw new Error("it is no regular file");
      return new OpenModelFile(path, facts.size, handle);
    } catch (cause) {
      await handle.close();
      throw unreadable(path, cause);
    }
  }

  async keep(path: string, weightsSha256: Sha256Hex): Promise<string> {
    const kept = this.#kept(weightsSha256);
    const fileBytes = await sizeOf(path);
    try {
      if ((await stat(kept)).size === fileBytes) return kept;
    } catch {
      // not kept yet: the usual case
    }
    const temporary = join(this.#options.folder, `.${randomBytes(6).toString("hex")}.tmp`);
    try {
      await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
      await this.#sweep();
      await cloneOrCopy({ from: path, to: temporary, fileBytes, folder: this.#options.folder });
      await rename(temporary, kept);
      return kept;
    } catch (cause) {
      await rm(temporary, { force: true });
      if (codeOf(cause) === "ENOSPC" || codeOf(cause) === "EDQUOT") {
        throw noRoom({ from: path, fileBytes, folder: this.#options.folder }, cause);
      }
      if (cause instanceof FallowError) throw cause;
      throw unreadable(path, cause);
    }
  }

  async discard(weightsSha256: Sha256Hex): Promise<void> {
    await rm(this.#kept(weightsSha256), { force: true });
  }

  bundled(): readonly { readonly modelId: ModelId; readonly path: string }[] {
    return this.#options.bundled;
  }

  #kept(weightsSha256: Sha256Hex): string {
    return join(this.#options.folder, `${weightsSha256}.gguf`);
  }

  /** Removes what a copy that was killed left behind; one coordinator works in a home, so nobody else's is touched. */
  async #sweep(): Promise<void> {
    if (this.#isSwept) return;
    this.#isSwept = true;
    const names = await readdir(this.#options.folder);
    for (const name of names.filter((one) => TEMPORARY.test(one))) {
      await rm(join(this.#options.folder, name), { force: true });
    }
  }
}

class OpenModelFile implements ModelFile {
  readonly path: string;
  readonly fileBytes: number;
  readonly #handle: FileHandle;
  #closing: Promise<void> | null = null;

  constructor(path: string, fileBytes: number, handle: FileHandle) {
    this.path = path;
    this.fileBytes = fileBytes;
    this.#handle = handle;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const data = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#readAt(data.subarray(done), offset + done);
      if (bytesRead === 0) {
        const end = new Error(`it ends after ${offset + done} bytes, ${offset + length} were asked for`);
        throw unreadable(this.path, end);
      }
      done += bytesRead;
    }
    return data;
  }

  async #readAt(into: Uint8Array, position: number): Promise<{ bytesRead: number }> {
    try {
      return await this.#handle.read(into, 0, into.length, position);
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
  }

  async sha256(signal: AbortSignal): Promise<Sha256Hex> {
    const hash = createHash("sha256");
    const stream = this.#handle.createReadStream({
      start: 0,
      highWaterMark: HASH_READ_BYTES,
      autoClose: false,
      signal,
    });
    try {
      for await (const part of stream) hash.update(part);
    } catch (cause) {
      signal.throwIfAborted();
      throw unreadable(this.path, cause);
    }
    return sha256Hex(hash.digest("hex"));
  }

  close(): Promise<void> {
    this.#closing ??= this.#handle.close();
    return this.#closing;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

interface Copying {
  readonly from: string;
  readonly to: string;
  readonly fileBytes: number;
  readonly folder: string;
}

/** A clone takes no room. A copy does, and is begun only when there is enough: 40 GB are not written to find out. */
async function cloneOrCopy(copying: Copying): Promise<void> {
  const { from, to, fileBytes, folder } = copying;
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
  } catch {
    // Two file systems, or one that knows no clones: then the bytes are copied and written through.
    await rm(to, { force: true });
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < fileBytes) throw noRoom(copying);
    await copyFile(from, to);
  }
  const copied = await open(to, "r+");
  try {
    await copied.chmod(KEPT_MODE);
    await copied.sync();
  } finally {
    await copied.close();
  }
}

function noRoom({ from, fileBytes, folder }: Omit<Copying, "to">, cause?: unknown): FallowError {
  const message = `no room for ${fileBytes} bytes of ${from} in ${folder}: a registered model is kept there as a copy`;
  return new FallowError("disk-full", message, { data: { path: from, fileBytes }, cause });
}

function codeOf(thrown: unknown): string | null {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : null;
}

function unreadable(path: string, cause: unknown): FallowError {
  const why = codeOf(cause) === "ENOENT" ? "there is no such file" : describeFault(cause);
  return new FallowError("model-file-unreadable", `${path} cannot be read: ${why}`, { data: { path }, cause });
}
