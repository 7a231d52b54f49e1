/** A model's file that is open: reads any part of it, and digests it in one pass. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { DigestOptions, FileDigests, ModelFile } from "../../ports/model-files.ts";
import { ChunkHasher } from "./chunk-hasher.ts";

/** Large enough that reading costs no more than hashing, small enough to be nothing in memory. */
const HASH_READ_BYTES = 1024 * 1024;
/** A pipe that nobody writes to would keep the opening thread for ever; a regular file does not notice. Absent on Windows. */
const OPEN_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** Rejects with `model-file-unreadable`. */
export async function openModelFile(path: string): Promise<ModelFile> {
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
    return (await this.digest({ chunkBytes: HASH_READ_BYTES, signal })).sha256;
  }

  async digest({ chunkBytes, signal, onBytes }: DigestOptions): Promise<FileDigests> {
    const hasher = new ChunkHasher(chunkBytes);
    const stream = this.#handle.createReadStream({
      start: 0,
      highWaterMark: HASH_READ_BYTES,
      autoClose: false,
      signal,
    });
    try {
      for await (const part of stream) {
        hasher.update(part);
        onBytes?.(hasher.bytes);
      }
    } catch (cause) {
      signal.throwIfAborted();
      throw unreadable(this.path, cause);
    }
    return hasher.finish();
  }

  close(): Promise<void> {
    this.#closing ??= this.#handle.close();
    return this.#closing;
  }
}

export function codeOf(thrown: unknown): string | null {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : null;
}

export function unreadable(path: string, cause: unknown): FallowError {
  const why = codeOf(cause) === "ENOENT" ? "there is no such file" : describeFault(cause);
  return new FallowError("model-file-unreadable", `${path} cannot be read: ${why}`, { data: { path }, cause });
}
