/**
 * The IncomingModels port on the file system: `<folder>/<jobId>/` with `job.json`, and for each file its bytes so far (`<index>.part`) beside
 * the digests of the chunks that are whole (`<index>.digests`). Bytes are written before their digest. After a kill, or a power cut that
 * lost some of either, the chunks whose bytes have their digest are kept and the rest is fetched again: at most the chunk that was under way.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { DIGEST_BYTES } from "../../domain/weights.ts";
import type { IncomingFile, IncomingModels, IncomingTerms } from "../../ports/incoming-models.ts";
import type { FileDigests } from "../../ports/model-files.ts";
import { ChunkHasher } from "./chunk-hasher.ts";
import { codeOf } from "./open-model-file.ts";

/** The disk must have so much left: the store writes there too, and a full disk ends a coordinator. */
const HEADROOM_BYTES = 1024 ** 3;
const READ_BYTES = 1024 * 1024;
const NOTE = "job.json";
const JOB_ID = /^[A-Za-z0-9_-]{1,64}$/;

export class DiskIncomingModels implements IncomingModels {
  readonly #folder: string;
  readonly #headroomBytes: number;

  constructor(options: { readonly folder: string; readonly headroomBytes?: number }) {
    this.#folder = options.folder;
    this.#headroomBytes = options.headroomBytes ?? HEADROOM_BYTES;
  }

  async notes(): Promise<readonly { readonly jobId: string; readonly note: string }[]> {
    const found: { jobId: string; note: string }[] = [];
    for (const jobId of (await namesIn(this.#folder)).filter((name) => JOB_ID.test(name)).sort()) {
      const note = await readOrNull(join(this.#folder, jobId, NOTE));
      // A folder whose note was never written: the job was told to nobody.
      if (note === null) await this.discard(jobId);
      else found.push({ jobId, note: note.toString("utf8") });
    }
    return found;
  }

  async note(jobId: string, note: string): Promise<void> {
    const folder = this.#of(jobId);
    const temporary = join(folder, `.${randomBytes(6).toString("hex")}.tmp`);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const file = await open(temporary, "wx", 0o600);
      try {
        await file.writeFile(note);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(folder, NOTE));
    } catch (cause) {
      await rm(temporary, { force: true });
      throw asFull(cause, folder);
    }
  }

  async room(bytes: number): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const { bavail, bsize } = await statfs(this.#folder);
    const freeBytes = bavail * bsize;
    const neededBytes = bytes + this.#headroomBytes;
    if (freeBytes >= neededBytes) return;
    const message = `${bytes} bytes more are needed in ${this.#folder}, with ${this.#headroomBytes} left over for the store; ${freeBytes} are free`;
    throw new FallowError("disk-full", message, { data: { neededBytes, freeBytes } });
  }

  async open(jobId: string, terms: IncomingTerms): Promise<IncomingFile> {
    const folder = this.#of(jobId);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, `${terms.index}.part`);
    const bytes = await openFor(path);
    try {
      const digests = await openFor(join(folder, `${terms.index}.digests`));
      try {
        const hasher = await recovered(bytes, digests, terms);
        return new DiskIncomingFile({ path, bytes, digests, hasher, chunkBytes: terms.chunkBytes });
      } catch (thrown) {
        await digests.close();
        throw thrown;
      }
    } catch (thrown) {
      await bytes.close();
      throw thrown;
    }
  }

  async discard(jobId: string): Promise<void> {
    await rm(this.#of(jobId), { recursive: true, force: true });
  }

  #of(jobId: string): string {
    assert(JOB_ID.test(jobId), `${JSON.stringify(jobId)} is a job's id`);
    return join(this.#folder, jobId);
  }
}

class DiskIncomingFile implements IncomingFile {
  readonly path: string;
  readonly #bytes: FileHandle;
  readonly #digests: FileHandle;
  readonly #chunkBytes: number;
  #hasher: ChunkHasher;
  #loggedDigests: number;
  #closing: Promise<void> | null = null;

  constructor(parts: {
    path: string;
    bytes: FileHandle;
    digests: FileHandle;
    hasher: ChunkHasher;
    chunkBytes: number;
  }) {
    this.path = parts.path;
    this.#bytes = parts.bytes;
    this.#digests = parts.digests;
    this.#hasher = parts.hasher;
    this.#chunkBytes = parts.chunkBytes;
    this.#loggedDigests = Math.floor(parts.hasher.bytes / parts.chunkBytes);
  }

  get doneBytes(): number {
    return this.#hasher.bytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    try {
      await writeAll(this.#bytes, bytes, this.#hasher.bytes);
      for (const digest of this.#hasher.update(bytes)) {
        await writeAll(this.#digests, digest, this.#loggedDigests * DIGEST_BYTES);
        this.#loggedDigests++;
      }
    } catch (cause) {
      throw asFull(cause, this.path);
    }
  }

  async restart(): Promise<void> {
    await this.#digests.truncate(0);
    await this.#bytes.truncate(0);
    this.#hasher = new ChunkHasher(this.#chunkBytes);
    this.#loggedDigests = 0;
  }

  async finish(): Promise<FileDigests> {
    await this.#bytes.sync();
    return this.#hasher.finish();
  }

  close(): Promise<void> {
    this.#closing ??= Promise.all([this.#bytes.close(), this.#digests.close()]).then(() => undefined);
    return this.#closing;
  }
}

/** Hashes the chunks that are whole and have their digest, and cuts off the rest. */
async function recovered(bytes: FileHandle, digests: FileHandle, terms: IncomingTerms): Promise<ChunkHasher> {
  const { chunkBytes, fileBytes, signal } = terms;
  const has = Math.min((await bytes.stat()).size, fileBytes);
  const logged = Math.floor((await digests.stat()).size / DIGEST_BYTES);
  let chunks = Math.min(Math.floor(has / chunkBytes), logged);
  for (;;) {
    const { hasher, good } = await hashChunks(bytes, digests, { chunks, chunkBytes, signal });
    if (good === chunks) {
      await bytes.truncate(chunks * chunkBytes);
      await digests.truncate(chunks * DIGEST_BYTES);
      return hasher;
    }
    chunks = good;
  }
}

async function hashChunks(
  bytes: FileHandle,
  digests: FileHandle,
  { chunks, chunkBytes, signal }: { chunks: number; chunkBytes: number; signal: AbortSignal },
): Promise<{ hasher: ChunkHasher; good: number }> {
  const hasher = new ChunkHasher(chunkBytes);
  const expected = Buffer.alloc(DIGEST_BYTES);
  const block = Buffer.alloc(Math.min(READ_BYTES, chunkBytes));
  let good = 0;
  for (let at = 0; at < chunks * chunkBytes; ) {
    signal.throwIfAborted();
    const { bytesRead } = await bytes.read(block, 0, Math.min(block.length, chunks * chunkBytes - at), at);
    if (bytesRead === 0) break;
    at += bytesRead;
    for (const digest of hasher.update(block.subarray(0, bytesRead))) {
      await digests.read(expected, 0, DIGEST_BYTES, good * DIGEST_BYTES);
      if (!expected.equals(digest)) return { hasher, good };
      good++;
    }
  }
  return { hasher, good };
}

function openFor(path: string): Promise<FileHandle> {
  return open(path, "r+").catch((cause: unknown) => {
    if (codeOf(cause) === "ENOENT") return open(path, "wx+", 0o600);
    throw cause;
  });
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return [];
    throw cause;
  }
}

async function readOrNull(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return null;
    throw cause;
  }
}

function asFull(cause: unknown, path: string): unknown {
  const code = codeOf(cause);
  if (code !== "ENOSPC" && code !== "EDQUOT") return cause;
  return new FallowError("disk-full", `${path} cannot grow: make room on its disk`, { data: { path }, cause });
}
