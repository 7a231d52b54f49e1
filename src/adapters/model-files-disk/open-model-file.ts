/** A model's file that is open: reads any part of it, and has it digested in one pass, in a thread of its own. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { DigestOptions, FileDigests, ModelFile } from "../../ports/model-files.ts";
import { HASH_STEP_BYTES, type HashThread } from "./hash-thread.ts";

/** A pipe that nobody writes to would keep the opening thread for ever; a regular file does not notice. Absent on Windows. */
const OPEN_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** Rejects with `model-file-unreadable`. */
export async function openModelFile(path: string, hashing: HashThread): Promise<ModelFile> {
  let handle: FileHandle;
  try {
    handle = await open(path, OPEN_WITHOUT_WAITING);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  try {
    const facts = await handle.stat();
    if (!facts.isFile()) throw new Error("it is no regular file");
    return new OpenModelFile({ path, fileBytes: facts.size, handle, hashing });
  } catch (cause) {
    await handle.close();
    throw unreadable(path, cause);
  }
}

class OpenModelFile implements ModelFile {
  readonly path: string;
  readonly fileBytes: number;
  readonly #handle: FileHandle;
  readonly #hashing: HashThread;
  #closing: Promise<void> | null = null;

  constructor(parts: { path: string; fileBytes: number; handle: FileHandle; hashing: HashThread }) {
    this.path = parts.path;
    this.fileBytes = parts.fileBytes;
    this.#handle = parts.handle;
    this.#hashing = parts.hashing;
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
    return (await this.digest({ chunkBytes: HASH_STEP_BYTES, signal })).sha256;
  }

  async digest({ chunkBytes, signal, onBytes }: DigestOptions): Promise<FileDigests> {
    const session = this.#hashing.open(chunkBytes);
    try {
      for (let at = 0; ; at += HASH_STEP_BYTES) {
        signal.throwIfAborted();
        // To where the file ends, which may be elsewhere than when it was opened.
        const { bytes } = await session.read(this.#handle.fd, at + HASH_STEP_BYTES);
        if (bytes > 0) onBytes?.(at + bytes);
        if (bytes < HASH_STEP_BYTES) break;
      }
      return await session.finish();
    } catch (cause) {
      signal.throwIfAborted();
      throw unreadable(this.path, cause);
    } finally {
      await session.close();
    }
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
