/**
 * The StageFiles port on the file system: one file for each stage, `<digest of the model>-<first>-<count>.gguf`, below a folder of its own. It is written
 * beside its place and renamed once it is whole and on the disk, with its digest in a note beside it. Those that nobody uses stay up to a bound, and the
 * one that rested longest goes first.
 *
 * | a file that is there                                        | is                                        |
 * | ----------------------------------------------------------- | ----------------------------------------- |
 * | was written or checked by this process, and is as it was     | used (size, time and inode are compared)  |
 * | was not, and its bytes have the digest of its note           | used                                      |
 * | is of another length, has another digest, or has no note     | written anew; the log says what was wrong |
 */
import { mkdir, readdir, rm, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { Log } from "../../ports/log.ts";
import type { StageFiles, StageFileWant } from "../../ports/stage-files.ts";
import { readStagePlan } from "../../weights/stage-slice.ts";
import { type FileByteSource, openFileByteSource } from "../tokenizer-llama/file-byte-source.ts";
import { damageOf, isSameFile, NOTE_ENDING, noteOf, type StatedFile, statedFile, writeStage } from "./stage-file.ts";

export interface DiskStageFilesOptions {
  /** Made when first needed, for its owner only. */
  readonly folder: string;
  readonly log: Log;
  /** Of files that nobody uses; those in use do not count. */
  readonly restingBytesMax?: number;
}

/** Enough for a repair to find what it needs; the weights that they are cut from lie on the disk besides. */
const RESTING_BYTES_MAX = 16 * 1024 ** 3;
/** Left free on the disk. */
const HEADROOM_BYTES = 256 * 1024 ** 2;
/** Of a split model: `name-00001-of-00004.gguf`. */
const SPLIT_NAME = /^(.*)-00001-of-(\d{5})\.gguf$/;
const NAME = /^[0-9a-f]{64}-\d+-\d+\.gguf$/;
const NOTE = /^[0-9a-f]{64}-\d+-\d+\.gguf\.sha256$/;
const PART = /\.part$/;

export class DiskStageFiles implements StageFiles {
  readonly #options: DiskStageFilesOptions;
  readonly #users = new Map<string, number>();
  /** Files that nobody uses, the one that rests longest first. */
  readonly #resting = new Map<string, number>();
  readonly #making = new Map<string, Promise<string>>();
  /** Known to be right, as they were then. */
  readonly #right = new Map<string, StatedFile>();
  #opened: Promise<void> | null = null;

  constructor(options: DiskStageFilesOptions) {
    this.#options = options;
  }

  async ensure(want: StageFileWant, { signal }: { readonly signal: AbortSignal }): Promise<string> {
    this.#opened ??= this.#lookAtFolder();
    await this.#opened;
    signal.throwIfAborted();
    const name = nameOf(want);
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
    this.#resting.delete(name);
    try {
      const making = this.#making.get(name) ?? this.#make(name, want);
      this.#making.set(name, making);
      const path = await making.finally(() => this.#making.delete(name));
      signal.throwIfAborted();
      return path;
    } catch (fault) {
      this.rest(want);
      throw fault;
    }
  }

  rest(want: Pick<StageFileWant, "weightsSha256" | "share">): void {
    const name = nameOf(want);
    const users = (this.#users.get(name) ?? 0) - 1;
    if (users > 0) {
      this.#users.set(name, users);
      return;
    }
    this.#users.delete(name);
    void this.#restFile(name);
  }

  // ---------------------------------------------------------------- within

  async #make(name: string, { weightsPath, share }: StageFileWant): Promise<string> {
    const path = join(this.#options.folder, name);
    const sources: FileByteSource[] = [];
    try {
      for (const file of await filesOf(weightsPath)) sources.push(await openFileByteSource(file));
      const plan = await readStagePlan(sources, share);
      if (!plan.ok) {
        const { code, message } = plan.reason;
        throw new FallowError("stage-refused", `this model cannot be cut into stages: ${message}`, { data: { code } });
      }
      if (await this.#isRight(name, plan.value.fileBytes)) return path;
      await this.#makeRoom(plan.value.fileBytes);
      this.#right.set(name, await writeStage(path, plan.value, sources));
      return path;
    } finally {
      await Promise.all(sources.map((source) => source.close()));
    }
  }

  async #isRight(name: string, bytes: number): Promise<boolean> {
    const path = join(this.#options.folder, name);
    const stated = await statedFile(path);
    if (stated === null) return false;
    if (stated.bytes === bytes && isSameFile(stated, this.#right.get(name))) return true;
    const damage = stated.bytes === bytes ? await damageOf(path) : `${stated.bytes} bytes, not ${bytes}`;
    if (damage === null) this.#right.set(name, stated);
    else this.#options.log.warn({ name, damage }, "a stage's file is damaged and is written anew");
    return damage === null;
  }

  async #lookAtFolder(): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const entries = new Set((await readdir(folder)).sort());
    for (const entry of entries) {
      const isAlone = NOTE.test(entry) && !entries.has(entry.slice(0, -NOTE_ENDING.length));
      if (PART.test(entry) || isAlone) await rm(join(folder, entry), { force: true });
      else if (NAME.test(entry)) this.#resting.set(entry, (await sizeOf(join(folder, entry))) ?? 0);
    }
    await this.#keepBound();
  }

  /** Never rejects. */
  async #restFile(name: string): Promise<void> {
    try {
      const bytes = await sizeOf(join(this.#options.folder, name));
      if (bytes === null || this.#users.has(name)) return;
      this.#resting.set(name, bytes);
      await this.#keepBound();
    } catch (fault) {
      this.#options.log.warn({ name, cause: describeFault(fault) }, "a stage's file could not be looked at");
    }
  }

  async #keepBound(): Promise<void> {
    const { restingBytesMax = RESTING_BYTES_MAX } = this.#options;
    let bytes = [...this.#resting.values()].reduce((sum, each) => sum + each, 0);
    for (const [name, size] of [...this.#resting]) {
      if (bytes <= restingBytesMax) return;
      bytes -= size;
      await this.#remove(name);
    }
  }

  async #makeRoom(neededBytes: number): Promise<void> {
    const { folder } = this.#options;
    const freeBytes = async () => {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize - HEADROOM_BYTES;
    };
    for (const name of [...this.#resting.keys()]) {
      if ((await freeBytes()) >= neededBytes) return;
      await this.#remove(name);
    }
    const free = await freeBytes();
    if (free >= neededBytes) return;
    const message = `a stage's file takes ${neededBytes} bytes, and the disk has ${free} free beside its headroom: make room there`;
    throw new FallowError("disk-full", message, { data: { neededBytes, freeBytes: free } });
  }

  async #remove(name: string): Promise<void> {
    this.#resting.delete(name);
    this.#right.delete(name);
    const path = join(this.#options.folder, name);
    await rm(path, { force: true });
    await rm(noteOf(path), { force: true });
  }
}

function nameOf({ weightsSha256, share }: { readonly weightsSha256: string; readonly share: LayerShare }): string {
  if (!ID_PATTERNS.sha256.test(weightsSha256)) throw new FallowError("stage-refused", `${weightsSha256} is no digest`);
  return `${weightsSha256}-${share.first}-${share.count}.gguf`;
}

/** Of a model in several files all, in their order. */
async function filesOf(weightsPath: string): Promise<readonly string[]> {
  const [, stem, count] = SPLIT_NAME.exec(basename(weightsPath)) ?? [];
  if (stem === undefined || count === undefined) return [weightsPath];
  const folder = dirname(weightsPath);
  return Array.from({ length: Number(count) }, (_, at) => {
    return join(folder, `${stem}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`);
  });
}

async function sizeOf(path: string): Promise<number | null> {
  return (await statedFile(path))?.bytes ?? null;
}
