/**
 * The ModelFiles port on the file system: opens files that an operator names, and keeps those of registered models in a folder of
 * the home. A kept file is a clone where the file system makes one (no second 40 GB on disk), else a copy, and never a link: what an
 * operator writes into his own file later must not change the grid's. Everything appears under its name complete or not at all:
 *
 * | name in the folder          | holds                                                          |
 * | --------------------------- | -------------------------------------------------------------- |
 * | `<sha256>.gguf`             | weights of one file                                            |
 * | `<sha256>/<name>`           | weights of a split set, by the names that an engine looks for  |
 * | `<sha256>.digests`          | the chunks' digests                                            |
 * | `<sha256>.manifest`         | the signed manifest; written last, so that it has its digests  |
 * | `.*.tmp`                    | something half made, swept away by the next that is kept       |
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { ModelId, Sha256Hex } from "../../domain/ids.ts";
import type {
  FilePatch,
  FileToKeep,
  KeptContent,
  KeptDescription,
  ModelFile,
  ModelFiles,
} from "../../ports/model-files.ts";
import { HashThread } from "./hash-thread.ts";
import { codeOf, openModelFile, unreadable } from "./open-model-file.ts";

export interface DiskModelFilesOptions {
  /** Where kept files lie; made when first needed. */
  readonly folder: string;
  readonly bundled: readonly { readonly modelId: ModelId; readonly path: string }[];
}

/** The operator's file may be read-only, or open to all. */
const KEPT_MODE = 0o600;
const TEMPORARY = /^\..*\.tmp$/;
/** What the disk must have left after a copy: the store and the log write there too. */
const HEADROOM_BYTES = 64 * 1024 * 1024;

export class DiskModelFiles implements ModelFiles {
  readonly #options: DiskModelFilesOptions;
  readonly #hashing = new HashThread();
  #isSwept = false;

  constructor(options: DiskModelFilesOptions) {
    this.#options = options;
  }

  open(path: string): Promise<ModelFile> {
    return openModelFile(path, this.#hashing);
  }

  async keep(files: readonly FileToKeep[], weightsSha256: Sha256Hex): Promise<readonly string[]> {
    const [only] = files;
    assert(only !== undefined, "weights have a file");
    const sizes = await Promise.all(files.map(({ path }) => sizeOf(path)));
    const kept = await this.kept(weightsSha256);
    if (kept !== null && (await areSizes(kept, sizes))) return kept;
    const { folder } = this.#options;
    const temporary = join(folder, `.${randomBytes(6).toString("hex")}.tmp`);
    const target = files.length === 1 ? this.#at(weightsSha256, ".gguf") : this.#at(weightsSha256, "");
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await this.#sweep();
      await this.#room(files, sizes);
      if (files.length === 1) await take(only, temporary);
      else {
        await mkdir(temporary, { mode: 0o700 });
        for (const file of files) await take(file, join(temporary, file.name));
        await rm(target, { recursive: true, force: true });
      }
      await rename(temporary, target);
    } catch (cause) {
      await rm(temporary, { recursive: true, force: true });
      if (codeOf(cause) === "ENOSPC" || codeOf(cause) === "EDQUOT") throw noRoom(only.path, sum(sizes), folder, cause);
      if (cause instanceof FallowError) throw cause;
      throw unreadable(only.path, cause);
    }
    return files.length === 1 ? [target] : files.map(({ name }) => join(target, name));
  }

  async kept(weightsSha256: Sha256Hex): Promise<readonly string[] | null> {
    const single = this.#at(weightsSha256, ".gguf");
    if ((await sizeOrNull(single)) !== null) return [single];
    const folder = this.#at(weightsSha256, "");
    const names = (await namesIn(folder)).filter((name) => name.endsWith(".gguf")).sort();
    return names.length === 0 ? null : names.map((name) => join(folder, name));
  }

  async describe(weightsSha256: Sha256Hex, { signedManifest, digests }: KeptDescription): Promise<void> {
    await this.#write(this.#at(weightsSha256, ".digests"), digests);
    await this.#write(this.#at(weightsSha256, ".manifest"), signedManifest);
  }

  async content(weightsSha256: Sha256Hex): Promise<KeptContent | null> {
    const files = await this.kept(weightsSha256);
    if (files === null) return null;
    const signedManifest = await readOrNull(this.#at(weightsSha256, ".manifest"));
    const digests = signedManifest === null ? null : await readOrNull(this.#at(weightsSha256, ".digests"));
    return signedManifest === null || digests === null ? null : { signedManifest, digests, files };
  }

  async mend(path: string, { offset, bytes, fileBytes }: FilePatch): Promise<void> {
    assert(relative(this.#options.folder, path).split(sep)[0] !== "..", `${path} is a kept file`);
    try {
      const file = await open(path, "r+");
      try {
        if ((await file.stat()).size > fileBytes) await file.truncate(fileBytes);
        for (let done = 0; done < bytes.length; ) {
          done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
        }
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (cause) {
      if (codeOf(cause) === "ENOSPC" || codeOf(cause) === "EDQUOT") {
        throw noRoom(path, bytes.length, this.#options.folder, cause);
      }
      throw unreadable(path, cause);
    }
  }

  async discard(weightsSha256: Sha256Hex): Promise<void> {
    for (const end of [".manifest", ".digests", ".gguf", ""] as const) {
      await rm(this.#at(weightsSha256, end), { recursive: true, force: true });
    }
  }

  bundled(): readonly { readonly modelId: ModelId; readonly path: string }[] {
    return this.#options.bundled;
  }

  #at(weightsSha256: Sha256Hex, end: ".gguf" | ".digests" | ".manifest" | ""): string {
    return join(this.#options.folder, `${weightsSha256}${end}`);
  }

  /** Written through before it appears: a power cut leaves none, not half. */
  async #write(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = join(this.#options.folder, `.${randomBytes(6).toString("hex")}.tmp`);
    try {
      const file = await open(temporary, "wx", KEPT_MODE);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (cause) {
      await rm(temporary, { force: true });
      if (codeOf(cause) !== "ENOSPC" && codeOf(cause) !== "EDQUOT") throw cause;
      throw noRoom(path, bytes.length, this.#options.folder, cause);
    }
  }

  /** A clone takes no room, and neither does a move; copies are begun only when there is enough: 40 GB are not written to find out. */
  async #room(files: readonly FileToKeep[], sizes: readonly number[]): Promise<void> {
    const { folder } = this.#options;
    const copied = files.map(({ isOurs }, at) => (isOurs ? 0 : (sizes[at] ?? 0)));
    const [first] = files;
    if (sum(copied) === 0 || first === undefined || (await clones(first.path, folder))) return;
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < sum(copied) + HEADROOM_BYTES) throw noRoom(first.path, sum(copied), folder);
  }

  /** Removes what a copy that was killed left behind; one coordinator works in a home, so nobody else's is touched. */
  async #sweep(): Promise<void> {
    if (this.#isSwept) return;
    this.#isSwept = true;
    const names = await readdir(this.#options.folder);
    for (const name of names.filter((one) => TEMPORARY.test(one))) {
      await rm(join(this.#options.folder, name), { recursive: true, force: true });
    }
  }
}

/** Whether the file system makes clones of this file here: makes one, and takes it away again. */
async function clones(path: string, folder: string): Promise<boolean> {
  const trial = join(folder, `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await copyFile(path, trial, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false; // two file systems, or one that knows no clones: then the bytes are copied
  } finally {
    await rm(trial, { force: true });
  }
}

async function take({ path, isOurs }: FileToKeep, to: string): Promise<void> {
  if (isOurs) await rename(path, to);
  else await copyFile(path, to, constants.COPYFILE_FICLONE);
  const taken = await open(to, "r+");
  try {
    await taken.chmod(KEPT_MODE);
    await taken.sync();
  } finally {
    await taken.close();
  }
}

async function areSizes(paths: readonly string[], sizes: readonly number[]): Promise<boolean> {
  if (paths.length !== sizes.length) return false;
  const found = await Promise.all(paths.map(sizeOrNull));
  return found.every((bytes, at) => bytes === sizes[at]);
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

async function sizeOrNull(path: string): Promise<number | null> {
  const facts = await absentAsNull(stat(path));
  return facts?.isFile() === true ? facts.size : null;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return (await absentAsNull(readdir(folder))) ?? [];
}

function readOrNull(path: string): Promise<Uint8Array | null> {
  return absentAsNull(readFile(path));
}

async function absentAsNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (cause) {
    if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR") return null;
    throw cause;
  }
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, bytes) => total + bytes, 0);
}

function noRoom(path: string, neededBytes: number, folder: string, cause?: unknown): FallowError {
  const message = `no room for ${neededBytes} bytes of ${path} in ${folder}: a registered model is kept there as a copy`;
  return new FallowError("disk-full", message, { data: { path, neededBytes }, cause });
}
