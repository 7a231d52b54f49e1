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
import { HASH_STEP_BYTES, type HashSession, HashThread } from "./hash-thread.ts";
import { codeOf, unreadable } from "./open-model-file.ts";

/** The disk must have so much left: the store writes there too, and a full disk ends a coordinator. */
const HEADROOM_BYTES = 1024 ** 3;
/** What comes in pieces of some kilobytes is written together, and hashed while more comes: little is left to wait for at a chunk's end. */
const WRITE_BYTES = 256 * 1024;
const NOTE = "job.json";
const JOB_ID = /^[A-Za-z0-9_-]{1,64}$/;

export class DiskIncomingModels implements IncomingModels {
  readonly #folder: string;
  readonly #headroomBytes: number;
  readonly #hashing = new HashThread();

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
        const session = await recovered({ bytes, digests, hashing: this.#hashing }, terms);
        return new DiskIncomingFile({ path, bytes, digests, session, terms, hashing: this.#hashing });
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
  readonly #hashing: HashThread;
  #session: HashSession;
  /** Came and not written yet: of the chunk under way only. */
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #writtenBytes: number;
  /** Parts of the chunk under way that the thread was told to read. */
  #ahead: Promise<unknown>[] = [];
  #closing: Promise<void> | null = null;

  constructor(parts: {
    path: string;
    bytes: FileHandle;
    digests: FileHandle;
    session: HashSession;
    terms: IncomingTerms;
    hashing: HashThread;
  }) {
    this.path = parts.path;
    this.#bytes = parts.bytes;
    this.#digests = parts.digests;
    this.#chunkBytes = parts.terms.chunkBytes;
    this.#hashing = parts.hashing;
    this.#session = parts.session;
    this.#writtenBytes = parts.session.asked;
  }

  get doneBytes(): number {
    return this.#writtenBytes + this.#gatheredBytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#gathered.push(bytes);
    this.#gatheredBytes += bytes.length;
    const { doneBytes } = this;
    const wholeBytes = doneBytes - (doneBytes % this.#chunkBytes);
    const isChunkOver = this.#session.asked < wholeBytes;
    if (!isChunkOver && this.#gatheredBytes < WRITE_BYTES) return;
    try {
      await this.#write();
      if (isChunkOver) await this.#log(wholeBytes);
      else this.#readAhead();
    } catch (cause) {
      throw asFull(cause, this.path);
    }
  }

  async #write(): Promise<void> {
    const pieces = this.#gathered.splice(0);
    const bytes = this.#gatheredBytes;
    this.#gatheredBytes = 0;
    if (bytes === 0) return;
    const { bytesWritten } = await this.#bytes.writev(pieces, this.#writtenBytes);
    if (bytesWritten < bytes) {
      await writeAll(this.#bytes, Buffer.concat(pieces).subarray(bytesWritten), this.#writtenBytes + bytesWritten);
    }
    this.#writtenBytes += bytes;
  }

  #readAhead(): void {
    const reading = this.#read(this.#writtenBytes);
    reading.catch(() => undefined); // thrown at the chunk's end, where it is awaited
    this.#ahead.push(reading);
  }

  /** Hashes up to a chunk's end, and keeps the digests of the chunks that are whole. */
  async #log(wholeBytes: number): Promise<void> {
    const first = Math.floor(this.#session.asked / this.#chunkBytes);
    const reading = this.#read(wholeBytes);
    const [chunkDigests] = await Promise.all([reading, ...this.#ahead.splice(0)]);
    await writeAll(this.#digests, chunkDigests, first * DIGEST_BYTES);
  }

  /** Has the thread hash up to there what was written; resolves with the digests of the chunks that ended. */
  async #read(to: number): Promise<Uint8Array> {
    const wanted = to - this.#session.asked;
    const { bytes, chunkDigests } = await this.#session.read(this.#bytes.fd, to);
    if (bytes === wanted) return chunkDigests;
    throw unreadable(this.path, new Error(`it has fewer than the ${to} bytes that were written to it`));
  }

  async restart(): Promise<void> {
    await this.#settled();
    await this.#session.close();
    await this.#digests.truncate(0);
    await this.#bytes.truncate(0);
    this.#session = this.#hashing.open(this.#chunkBytes);
    this.#gathered = [];
    this.#gatheredBytes = 0;
    this.#writtenBytes = 0;
  }

  async finish(): Promise<FileDigests> {
    await this.#flush();
    await this.#bytes.sync();
    return await this.#session.finish();
  }

  async #flush(): Promise<void> {
    try {
      await this.#write();
      await Promise.all([this.#read(this.#writtenBytes), ...this.#ahead.splice(0)]);
    } catch (cause) {
      throw asFull(cause, this.path);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** The thread reads by the descriptor: it has to be done with it before it is closed. */
  async #end(): Promise<void> {
    await this.#settled();
    await this.#session.close();
    await Promise.all([this.#bytes.close(), this.#digests.close()]);
  }

  async #settled(): Promise<void> {
    await Promise.allSettled(this.#ahead.splice(0));
  }
}

interface Recovering {
  readonly bytes: FileHandle;
  readonly digests: FileHandle;
  readonly hashing: HashThread;
}

/** Hashes the chunks that are whole and have their digest, and cuts off the rest. */
async function recovered({ bytes, digests, hashing }: Recovering, terms: IncomingTerms): Promise<HashSession> {
  const { chunkBytes, fileBytes } = terms;
  const has = Math.min((await bytes.stat()).size, fileBytes);
  const logged = Math.floor((await digests.stat()).size / DIGEST_BYTES);
  let chunks = Math.min(Math.floor(has / chunkBytes), logged);
  for (;;) {
    const session = hashing.open(chunkBytes);
    try {
      const good = await goodChunks(session, { bytes, digests, chunks, ...terms });
      if (good === chunks) {
        await bytes.truncate(chunks * chunkBytes);
        await digests.truncate(chunks * DIGEST_BYTES);
        return session;
      }
      chunks = good;
    } catch (thrown) {
      await session.close();
      throw thrown;
    }
    await session.close();
  }
}

/** How many of the first chunks have their digest. */
async function goodChunks(
  session: HashSession,
  reading: { bytes: FileHandle; digests: FileHandle; chunks: number; chunkBytes: number; signal: AbortSignal },
): Promise<number> {
  const { bytes, digests, chunks, chunkBytes, signal } = reading;
  const expected = new Uint8Array(chunks * DIGEST_BYTES);
  await digests.read(expected, 0, expected.length, 0);
  for (let good = 0; good < chunks; ) {
    signal.throwIfAborted();
    const step = Math.min(chunks - good, Math.max(1, Math.floor(HASH_STEP_BYTES / chunkBytes)));
    const { chunkDigests } = await session.read(bytes.fd, (good + step) * chunkBytes);
    for (let at = 0; at < step; at++, good++) {
      const digest = chunkDigests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
      const place = good * DIGEST_BYTES;
      if (Buffer.compare(digest, expected.subarray(place, place + DIGEST_BYTES)) !== 0) return good;
    }
  }
  return chunks;
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
