/**
 * The StageFiles port on the file system: one file for each stage, `<digest of the model>-<first>-<count>.gguf`, below a folder of its own. It is written
 * beside its place and renamed once it is whole and on the disk, so that one that is there is right as far as the disk keeps its word; its length is
 * compared with the plan's each time. Those that nobody uses stay up to a bound, and the one that rested longest goes first.
 */
import { mkdir, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { Log } from "../../ports/log.ts";
import type { StageFiles, StageFileWant } from "../../ports/stage-files.ts";
import { pieceBytes, STAGE_READ_BYTES, type StagePlan } from "../../weights/stage-plan.ts";
import { readStagePlan } from "../../weights/stage-slice.ts";
import { type FileByteSource, openFileByteSource } from "../tokenizer-llama/file-byte-source.ts";

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
const PART = /\.part$/;

export class DiskStageFiles implements StageFiles {
  readonly #options: DiskStageFilesOptions;
  readonly #users = new Map<string, number>();
  /** Files that nobody uses, the one that rests longest first. */
  readonly #resting = new Map<string, number>();
  readonly #making = new Map<string, Promise<string>>();
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
      if ((await sizeOf(path)) === plan.value.fileBytes) return path;
      await this.#makeRoom(plan.value.fileBytes);
      await writeStage(path, plan.value, sources);
      return path;
    } finally {
      await Promise.all(sources.map((source) => source.close()));
    }
  }

  async #lookAtFolder(): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const entry of (await readdir(folder)).sort()) {
      if (PART.test(entry)) await rm(join(folder, entry), { force: true });
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
    await rm(join(this.#options.folder, name), { force: true });
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

/** Zeros become holes. */
async function writeStage(path: string, plan: StagePlan, sources: readonly FileByteSource[]): Promise<void> {
  const part = `${path}.part`;
  const file = await open(part, "w", 0o600);
  try {
    let at = 0;
    for (const piece of plan.pieces) {
      const length = pieceBytes(piece);
      if (piece.kind === "bytes") await file.write(piece.bytes, 0, length, at);
      else if (piece.kind === "copy") await copyInto(file, at, { source: sources[piece.file], ...piece });
      at += length;
    }
    await file.truncate(plan.fileBytes);
    await file.sync();
  } catch (fault) {
    await file.close();
    await rm(part, { force: true });
    throw fault;
  }
  await file.close();
  await rename(part, path);
}

async function copyInto(
  file: Awaited<ReturnType<typeof open>>,
  at: number,
  {
    source,
    offset,
    bytes,
  }: { readonly source: FileByteSource | undefined; readonly offset: number; readonly bytes: number },
): Promise<void> {
  for (let done = 0; done < bytes; done += STAGE_READ_BYTES) {
    const length = Math.min(STAGE_READ_BYTES, bytes - done);
    const read = (await source?.read(offset + done, length)) ?? new Uint8Array(0);
    if (read.length !== length) {
      const message = `the model's file gave ${read.length} of ${length} bytes from byte ${offset + done} on`;
      throw new FallowError("weights-short", message);
    }
    await file.write(read, 0, length, at + done);
  }
}

/** Null when it is not there. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cause;
  }
}
