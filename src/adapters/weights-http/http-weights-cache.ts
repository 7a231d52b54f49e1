/**
 * A node's weights: downloaded from the coordinator, verified, kept in the home under their digest.
 *
 * `<sha256>.gguf` exists only when its content was verified; until then the bytes lie in `<sha256>.partial`, which survives a
 * crash and is continued. Agents that share a folder wait for one another instead of writing over one another. A file that is
 * already there is verified again the first time a process uses it: disks rot, and reading it now warms what the engine maps.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { LinkTarget } from "../../ports/link.ts";
import type { CachedWeights, WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import { takeWeightsLock, type WeightsLock } from "./weights-lock.ts";
import { requestWeights } from "./weights-request.ts";

/** Requests in a row that brought nothing; with the waits between them about half a minute of no coordinator. */
const FRUITLESS_TRIES_MAX = 6;
const RETRY_BASE_MS = 500;
/** How often a waiting agent looks whether the other one is done. */
const WAIT_LOOK_MS = 250;
/** Left free for everything else on the machine. */
const DISK_MARGIN_BYTES = 64 * 1024 * 1024;

export interface EnsureOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: number) => void;
}

export class HttpWeightsCache implements WeightsCache {
  readonly #folder: string;
  readonly #target: LinkTarget;
  /** Verified by this process. */
  readonly #verified = new Set<Sha256Hex>();

  constructor(options: { folder: string; target: LinkTarget }) {
    this.#folder = options.folder;
    this.#target = options.target;
  }

  async has(weightsSha256: Sha256Hex): Promise<boolean> {
    return (await sizeOf(this.#path(weightsSha256, "gguf"))) !== null;
  }

  list(): Promise<readonly CachedWeights[]> {
    return this.#listed("gguf");
  }

  listPartial(): Promise<readonly CachedWeights[]> {
    return this.#listed("partial");
  }

  async #listed(kind: "gguf" | "partial"): Promise<readonly CachedWeights[]> {
    const ending = `.${kind}`;
    const found: (CachedWeights & { readonly usedMs: number })[] = [];
    for (const name of await namesIn(this.#folder)) {
      const digest = name.endsWith(ending) ? name.slice(0, -ending.length) : "";
      if (!ID_PATTERNS.sha256.test(digest)) continue;
      const facts = await factsOf(join(this.#folder, name));
      if (facts !== null)
        found.push({ weightsSha256: sha256Hex(digest), fileBytes: facts.bytes, usedMs: facts.usedMs });
    }
    found.sort((a, b) => a.usedMs - b.usedMs || (a.weightsSha256 < b.weightsSha256 ? -1 : 1));
    return found.map(({ weightsSha256, fileBytes }) => ({ weightsSha256, fileBytes }));
  }

  async remove(weightsSha256: Sha256Hex): Promise<void> {
    this.#verified.delete(weightsSha256);
    await rm(this.#path(weightsSha256, "gguf"), { force: true });
    await rm(this.#path(weightsSha256, "partial"), { force: true });
  }

  async freeBytes(): Promise<number | null> {
    try {
      const { bavail, bsize } = await statfs(this.#folder);
      return Math.max(0, bavail * bsize - DISK_MARGIN_BYTES);
    } catch {
      return null; // the folder comes with the first file
    }
  }

  async ensure(want: WeightsWant, options: EnsureOptions): Promise<string> {
    const path = this.#path(want.weightsSha256, "gguf");
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    if (await this.#isGood(want)) {
      const now = new Date();
      // The order of last use, over restarts; a file system that keeps no times only loses that order.
      await utimes(path, now, now).catch(() => undefined);
      return path;
    }
    const lock = await this.#lock(want, options);
    try {
      if (!(await this.#isGood(want))) await this.#fetch(want, options);
    } finally {
      lock.release();
    }
    options.onProgress(want.fileBytes);
    return path;
  }

  /** There is a verified file. One that does not fit its digest is deleted, so that it is fetched again. */
  async #isGood({ weightsSha256, fileBytes }: WeightsWant): Promise<boolean> {
    const path = this.#path(weightsSha256, "gguf");
    const bytes = await sizeOf(path);
    if (bytes === null) return false;
    if (bytes === fileBytes && this.#verified.has(weightsSha256)) return true;
    if (bytes === fileBytes && (await hashFile(path)).digest("hex") === weightsSha256) {
      this.#verified.add(weightsSha256);
      return true;
    }
    this.#verified.delete(weightsSha256);
    await rm(path, { force: true });
    return false;
  }

  async #lock({ weightsSha256 }: WeightsWant, { signal, onProgress }: EnsureOptions): Promise<WeightsLock> {
    for (;;) {
      signal.throwIfAborted();
      const lock = takeWeightsLock(this.#path(weightsSha256, "lock"));
      if (lock !== null) return lock;
      onProgress((await sizeOf(this.#path(weightsSha256, "partial"))) ?? 0);
      await sleep(WAIT_LOOK_MS, undefined, { signal });
    }
  }

  async #fetch(want: WeightsWant, options: EnsureOptions): Promise<void> {
    const partial = this.#path(want.weightsSha256, "partial");
    const resumed = (await sizeOf(partial)) ?? 0;
    if (await this.#download(want, options)) return this.#publish(want);
    await rm(partial, { force: true });
    // Bytes that were left by an earlier life may be the damaged ones: one try from the beginning decides.
    if (resumed > 0 && (await this.#download(want, options))) return this.#publish(want);
    await rm(partial, { force: true });
    const what = `what ${this.#target.url} sent as ${want.weightsSha256} has another digest: nothing of it was kept`;
    throw new FallowError("weights-digest-mismatch", what, { data: { weightsSha256: want.weightsSha256 } });
  }

  async #publish({ weightsSha256 }: WeightsWant): Promise<void> {
    await rename(this.#path(weightsSha256, "partial"), this.#path(weightsSha256, "gguf"));
    this.#verified.add(weightsSha256);
  }

  /** Completes the partial file, over as many requests as it takes. False when the whole has another digest. */
  async #download(want: WeightsWant, options: EnsureOptions): Promise<boolean> {
    const path = this.#path(want.weightsSha256, "partial");
    await this.#checkSpace(want, (await sizeOf(path)) ?? 0);
    const file = await open(path, "a+", 0o600);
    try {
      const download = new Download(file, await hashFile(path), (await sizeOf(path)) ?? 0, want.fileBytes);
      for (let fruitless = 0; download.doneBytes < want.fileBytes; ) {
        options.signal.throwIfAborted();
        const before = download.doneBytes;
        const retryAfterMs = await this.#continue(download, want, options, fruitless);
        fruitless = download.doneBytes > before ? 0 : fruitless + 1;
        if (download.doneBytes >= want.fileBytes) break;
        if (fruitless >= FRUITLESS_TRIES_MAX) {
          throw unreachable(`${this.#target.url} answers ${fruitless} times without any of the weights`, {});
        }
        await sleep(Math.max(retryAfterMs, RETRY_BASE_MS * 2 ** fruitless * Math.random()), undefined, {
          signal: options.signal,
        });
      }
      await file.sync();
      return download.doneBytes === want.fileBytes && download.digest() === want.weightsSha256;
    } catch (thrown) {
      throw asDiskFull(thrown, want, path) ?? thrown;
    } finally {
      await file.close();
    }
  }

  /** One request. Answers how long to wait before the next; throws when none may follow. */
  async #continue(download: Download, want: WeightsWant, options: EnsureOptions, fruitless: number): Promise<number> {
    try {
      const answer = await requestWeights(this.#target, want, { from: download.doneBytes, signal: options.signal });
      switch (answer.kind) {
        case "refused":
          throw unreachable(`${this.#target.url} refuses the weights (HTTP ${answer.status})`, {
            status: answer.status,
          });
        case "restart":
          await download.restart();
          return 0;
        case "busy":
          if (fruitless + 1 >= FRUITLESS_TRIES_MAX)
            throw unreachable(`${this.#target.url} is too busy for the weights`, {});
          return answer.retryAfterMs;
        case "body":
          if (answer.from !== download.doneBytes) await download.restart();
          await download.take(answer.body, options);
          return 0;
      }
    } catch (thrown) {
      options.signal.throwIfAborted();
      if (isFinal(thrown)) throw thrown;
      if (fruitless + 1 < FRUITLESS_TRIES_MAX) return 0;
      const { url } = this.#target;
      throw unreachable(`the weights cannot be fetched from ${url}: ${describeFault(thrown)}`, { url }, thrown);
    }
  }

  async #checkSpace(want: WeightsWant, haveBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#folder);
    const freeBytes = bavail * bsize;
    const neededBytes = want.fileBytes - haveBytes + DISK_MARGIN_BYTES;
    if (freeBytes >= neededBytes) return;
    throw diskFull(
      `the weights need ${neededBytes} bytes, and ${this.#folder} has ${freeBytes} free: make room there`,
      {
        neededBytes,
        freeBytes,
      },
    );
  }

  #path(weightsSha256: Sha256Hex, kind: "gguf" | "partial" | "lock"): string {
    return join(this.#folder, `${sha256Hex(weightsSha256)}.${kind}`);
  }
}

/** A partial file with the running digest of what is in it. */
class Download {
  readonly #file: FileHandle;
  readonly #fileBytes: number;
  #hash: Hash;
  doneBytes: number;

  constructor(file: FileHandle, hash: Hash, doneBytes: number, fileBytes: number) {
    this.#file = file;
    this.#hash = hash;
    this.doneBytes = doneBytes;
    this.#fileBytes = fileBytes;
  }

  async restart(): Promise<void> {
    await this.#file.truncate(0);
    this.#hash = createHash("sha256");
    this.doneBytes = 0;
  }

  async take(body: AsyncIterable<Buffer> & { destroy(): void }, options: EnsureOptions): Promise<void> {
    for await (const chunk of body) {
      const bytes = chunk.subarray(0, this.#fileBytes - this.doneBytes);
      await this.#file.appendFile(bytes);
      this.#hash.update(bytes);
      this.doneBytes += bytes.length;
      options.onProgress(this.doneBytes);
      // More than the model has: the digest of what fits decides, the rest is not even read.
      if (bytes.length < chunk.length) body.destroy();
    }
  }

  digest(): string {
    return this.#hash.copy().digest("hex");
  }
}

async function hashFile(path: string): Promise<Hash> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return hash;
}

async function sizeOf(path: string): Promise<number | null> {
  return (await factsOf(path))?.bytes ?? null;
}

async function factsOf(path: string): Promise<{ readonly bytes: number; readonly usedMs: number } | null> {
  try {
    const { size, mtimeMs } = await stat(path);
    return { bytes: size, usedMs: mtimeMs };
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw cause;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (isMissing(cause)) return [];
    throw cause;
  }
}

function isMissing(cause: unknown): boolean {
  return cause instanceof Error && "code" in cause && cause.code === "ENOENT";
}

/** Trying again would end the same way: the coordinator said no, it is the wrong one, or the disk does not take the bytes. */
function isFinal(thrown: unknown): boolean {
  if (!(thrown instanceof FallowError))
    return thrown instanceof Error && "syscall" in thrown && thrown.syscall === "write";
  if (thrown.code === "weights-unreachable") return "status" in thrown.data;
  return thrown.code !== "link-unreachable";
}

function asDiskFull(thrown: unknown, want: WeightsWant, path: string): FallowError | null {
  const isFull = thrown instanceof Error && "code" in thrown && (thrown.code === "ENOSPC" || thrown.code === "EDQUOT");
  return isFull ? diskFull(`${path} cannot grow to ${want.fileBytes} bytes: make room on its disk`, {}, thrown) : null;
}

function diskFull(message: string, data: Readonly<Record<string, unknown>>, cause?: unknown): FallowError {
  return new FallowError("disk-full", message, { data, cause });
}

function unreachable(message: string, data: Readonly<Record<string, unknown>>, cause?: unknown): FallowError {
  return new FallowError("weights-unreachable", message, { data, cause });
}
