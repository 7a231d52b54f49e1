/**
 * Engine variants that were installed on demand, in `<home>/engines/<variant>-<version>/`.
 *
 * A variant is installed into a folder beside its place and renamed to it when it is whole, so it is there entirely or not at all,
 * whatever interrupts. One process at a time installs; the others wait for it and find its work. What an interrupted
 * installation left is removed by the next one. The list of files with their sizes is written last and compared whenever the variant
 * is looked for: a file that a power cut shortened makes it absent, and it is installed again.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";
import { parseJson } from "../../wire/json-frame.ts";
import { takeWeightsLock, type WeightsLock } from "../chunk-store-disk/weights-lock.ts";
import { findLlamaLibrary } from "../engine-llama/llama-library.ts";
import { npmCi } from "./npm-ci.ts";
import type { PinnedPackage } from "./pinned-packages.ts";

const MANIFEST = "installed.json";
const WORK_PREFIX = ".work-";
/** What the disk must have left after an installation: the agent writes weights and logs there too. */
const HEADROOM_BYTES = 512 * 1024 ** 2;
const PROGRESS_MS = 500;
const LOCK_RETRY_MS = 200;
/** A package holds some thirty files; this only bounds a foreign one. */
const FILES_MAX = 2_000;

const manifestSchema = z.object({
  integrity: z.string(),
  files: z.array(z.object({ path: z.string().max(512), sizeBytes: z.number().int().min(0) })).max(FILES_MAX),
});

export interface InstallProgress {
  readonly bytes: number;
  readonly bytesTotal: number;
}

export interface InstallOptions {
  readonly signal: AbortSignal;
  /** At the start and about twice a second: unpacked bytes. */
  readonly onProgress?: (progress: InstallProgress) => void;
}

export interface VariantFolderOptions {
  /** `<home>/engines`. Made when something is installed. */
  readonly folder: string;
  /** The packages of this machine. */
  readonly packages: readonly PinnedPackage[];
  /** For npm. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export class VariantFolder {
  readonly #options: VariantFolderOptions;

  constructor(options: VariantFolderOptions) {
    this.#options = options;
  }

  /** Variants that `install` knows for this machine. */
  get obtainable(): readonly EngineVariant[] {
    return this.#options.packages.map(({ variant }) => variant);
  }

  packageOf(variant: EngineVariant): PinnedPackage | null {
    return this.#options.packages.find((pin) => pin.variant === variant) ?? null;
  }

  /** The folder with the libraries, or null when the variant is not installed, not whole, or of another release. */
  async find(variant: EngineVariant): Promise<string | null> {
    const pin = this.packageOf(variant);
    if (pin === null) return null;
    const place = this.#place(pin);
    try {
      const manifest = manifestSchema.parse(parseJson(await readFile(join(place, MANIFEST), "utf8")));
      if (manifest.integrity !== pin.integrity) return null;
      for (const { path, sizeBytes } of manifest.files) {
        if ((await stat(join(place, path))).size !== sizeBytes) return null;
      }
      return librariesIn(place, pin);
    } catch {
      return null; // absent or damaged: either way it is to be installed
    }
  }

  /**
   * Installs it unless it is there, and answers with the folder of its libraries. Rejects with a `FallowError`:
   * `engine-variant-unavailable`, `disk-full`, those of `npmCi`, `engine-library-missing`, `aborted`.
   */
  async install(variant: EngineVariant, options: InstallOptions): Promise<string> {
    const pin = this.packageOf(variant);
    if (pin === null) {
      const machine = `${process.platform}-${process.arch}`;
      const known = this.obtainable.join(", ") || "none";
      throw new FallowError(
        "engine-variant-unavailable",
        `there is no ${variant} engine for ${machine} with a known digest (known: ${known})`,
        { data: { variant } },
      );
    }
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    const lock = await this.#takeLock(options.signal);
    try {
      const found = await this.find(variant);
      if (found !== null) return found;
      await this.#removeLeftovers();
      await this.#checkDisk(pin);
      return await this.#installLocked(pin, options);
    } finally {
      lock.release();
    }
  }

  /** True when something was removed. Engines that run it go on: their files live until they end. */
  async remove(variant: EngineVariant): Promise<boolean> {
    const pin = this.packageOf(variant);
    if (pin === null) return false;
    const place = this.#place(pin);
    try {
      await stat(place);
    } catch {
      return false; // not installed
    }
    const lock = await this.#takeLock(AbortSignal.abort());
    try {
      const leaving = this.#workFolder();
      await rename(place, leaving);
      await rm(leaving, { recursive: true, force: true });
      return true;
    } finally {
      lock.release();
    }
  }

  async #installLocked(pin: PinnedPackage, options: InstallOptions): Promise<string> {
    const { environment } = this.#options;
    const work = this.#workFolder();
    const done = new AbortController();
    let showing = Promise.resolve();
    try {
      await mkdir(work, { mode: 0o700 });
      showing = showProgress(work, { pin, options, done: done.signal });
      await npmCi({ folder: work, pin, environment, signal: options.signal });
      librariesIn(work, pin);
      const files = await filesIn(work);
      await writeFile(join(work, MANIFEST), `${JSON.stringify({ integrity: pin.integrity, files })}\n`, {
        flush: true,
      });
      options.signal.throwIfAborted();
      await rm(this.#place(pin), { recursive: true, force: true });
      await rename(work, this.#place(pin));
      options.onProgress?.({ bytes: pin.unpackedBytes, bytesTotal: pin.unpackedBytes });
      return librariesIn(this.#place(pin), pin);
    } finally {
      done.abort();
      await showing;
      await rm(work, { recursive: true, force: true });
    }
  }

  #place(pin: PinnedPackage): string {
    return join(this.#options.folder, `${pin.variant}-${pin.version}`);
  }

  #workFolder(): string {
    return join(this.#options.folder, `${WORK_PREFIX}${randomBytes(6).toString("hex")}`);
  }

  /** Waits while another process installs. With an aborted signal it does not wait. */
  async #takeLock(signal: AbortSignal): Promise<WeightsLock> {
    for (;;) {
      const lock = takeWeightsLock(join(this.#options.folder, "install.lock"), "remove");
      if (lock !== null) return lock;
      if (signal.aborted) {
        throw new FallowError("engine-folder-busy", `another process installs an engine in ${this.#options.folder}`);
      }
      await sleep(LOCK_RETRY_MS, undefined, { signal }).catch(() => undefined); // an abort ends the wait, and is told above
    }
  }

  /** Only under the lock: whatever is there belongs to a process that ended. */
  async #removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.#options.folder)) {
      if (name.startsWith(WORK_PREFIX)) await rm(join(this.#options.folder, name), { recursive: true, force: true });
    }
  }

  /** The archive may pass through npm's cache on the same disk. */
  async #checkDisk(pin: PinnedPackage): Promise<void> {
    const { folder } = this.#options;
    const { bavail, bsize } = await statfs(folder);
    const freeBytes = bavail * bsize;
    const neededBytes = pin.downloadBytes + pin.unpackedBytes + HEADROOM_BYTES;
    if (freeBytes >= neededBytes) return;
    const mib = (bytes: number): string => `${Math.ceil(bytes / 1024 ** 2)} MiB`;
    throw new FallowError(
      "disk-full",
      `the ${pin.variant} engine needs ${mib(neededBytes)} free at ${folder}, there are ${mib(freeBytes)}`,
      { data: { freeBytes, neededBytes } },
    );
  }
}

/** Throws `engine-library-missing` when the package does not hold what it should. */
function librariesIn(place: string, pin: PinnedPackage): string {
  const directory = join(place, "node_modules", "@node-llama-cpp", pin.name, "bins", pin.name);
  return findLlamaLibrary({ directory, variant: pin.variant }).directory;
}

async function showProgress(
  folder: string,
  show: { pin: PinnedPackage; options: InstallOptions; done: AbortSignal },
): Promise<void> {
  const bytesTotal = show.pin.unpackedBytes;
  while (!show.done.aborted && show.options.onProgress !== undefined) {
    const files = await filesIn(folder);
    const bytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    if (!show.done.aborted) show.options.onProgress({ bytes: Math.min(bytes, bytesTotal), bytesTotal });
    await sleep(PROGRESS_MS, undefined, { signal: show.done }).catch(() => undefined); // the end of the work ends the wait
  }
}

/** Every file below, in the order of paths. A file that goes while npm works is left out. */
async function filesIn(folder: string): Promise<readonly { path: string; sizeBytes: number }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []); // npm renames folders
  const files: { path: string; sizeBytes: number }[] = [];
  for (const entry of entries.slice(0, FILES_MAX)) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const size = await stat(path).catch(() => null); // gone since it was listed
    if (size !== null) files.push({ path: relative(folder, path), sizeBytes: size.size });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
