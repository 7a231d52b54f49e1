/**
 * The ChunkStore port on the file system; the folder's layout is drawn in `model-folder.ts`, who may do what in `weights-lock.ts`. Those who
 * open one model in this process share what is known of it.
 *
 * Not handled: several machines on one network folder (SQLite's locks and the boot id are of one machine).
 */
import { randomBytes } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { ChunkStore, StoredContent, StoredModel, StoredWeights } from "../../ports/chunk-store.ts";
import { bootId } from "./boot-id.ts";
import { decodeJournal, JOURNAL_BYTES_MAX } from "./chunk-journal.ts";
import { totalOf } from "./chunk-layout.ts";
import { allocatedBytes, DiskRoom, factsOf, namesIn, takenBytes } from "./disk-room.ts";
import { type CheckOptions, DiskWeights } from "./disk-weights.ts";
import { ModelFolder } from "./model-folder.ts";
import { OpenFiles } from "./open-files.ts";
import { readSmallFile } from "./small-file.ts";
import { StoredHandle } from "./stored-handle.ts";
import { takeWeightsLock } from "./weights-lock.ts";

export interface DiskChunkStoreOptions {
  /** Made when first needed, for its owner only. */
  readonly folder: string;
  /** Left free on its disk; `disk-room.ts` says what when it is absent. */
  readonly headroomBytes?: number | null;
  /** Of this boot, 16 bytes; the machine's own when absent. */
  readonly bootId?: Uint8Array;
}

interface Shared {
  readonly opened: Promise<DiskWeights>;
  users: number;
}

/** What a killed removal left. */
const REMOVED = /^\.removed-[0-9a-f]{64}-[0-9a-f]{16}$/;

export class DiskChunkStore implements ChunkStore {
  readonly #folder: string;
  readonly #bootId: Uint8Array;
  readonly #room: DiskRoom;
  readonly #files = new OpenFiles();
  readonly #open = new Map<Sha256Hex, Shared>();

  constructor({ folder, headroomBytes = null, bootId: boot = bootId() }: DiskChunkStoreOptions) {
    this.#folder = folder;
    this.#bootId = boot;
    this.#room = new DiskRoom(folder, headroomBytes);
  }

  async open(content: StoredContent, options: CheckOptions): Promise<StoredWeights> {
    const { weightsSha256 } = content.manifest;
    for (;;) {
      options.signal.throwIfAborted();
      const shared = this.#open.get(weightsSha256) ?? this.#begin(content, options);
      shared.users++;
      try {
        const weights = await shared.opened;
        return new StoredHandle(weights, () => this.#leave(weightsSha256, shared));
      } catch (thrown) {
        if (this.#open.get(weightsSha256) === shared) this.#open.delete(weightsSha256);
        // The one that opened it first gave up; this one did not.
        const isOthers = thrown instanceof Error && thrown.name === "AbortError" && !options.signal.aborted;
        if (!isOthers) throw thrown;
      }
    }
  }

  kept(weightsSha256: Sha256Hex): Promise<Pick<StoredContent, "digests" | "signedManifest"> | null> {
    return new ModelFolder(this.#folder, weightsSha256).saved();
  }

  async list(): Promise<readonly StoredModel[]> {
    const found = new Map<string, StoredModel & { readonly usedMs: number }>();
    for (const name of await namesIn(this.#folder)) {
      if (REMOVED.test(name)) await rm(join(this.#folder, name), { recursive: true, force: true });
      const [digest = ""] = name.split(".");
      if (!ID_PATTERNS.sha256.test(digest) || found.has(digest)) continue;
      const model = await this.#modelOf(sha256Hex(digest));
      if (model !== null) found.set(digest, model);
    }
    const models = [...found.values()];
    models.sort((a, b) => a.usedMs - b.usedMs || (a.weightsSha256 < b.weightsSha256 ? -1 : 1));
    return models.map(({ usedMs: _, ...model }) => model);
  }

  async remove(weightsSha256: Sha256Hex): Promise<void> {
    const folder = new ModelFolder(this.#folder, weightsSha256);
    const paths = await existing([folder.path, ...folder.oldPaths]);
    if (paths.length === 0) return;
    const lock = this.#open.has(weightsSha256) ? null : takeWeightsLock(folder.lockPath, "remove");
    if (lock === null) {
      const message = `${weightsSha256} is in use on this machine: it is removed when nobody has it open`;
      throw new FallowError("weights-in-use", message, { data: { weightsSha256 } });
    }
    try {
      for (const path of paths) {
        // Gone at once, also when the process is killed while it deletes.
        const removed = join(this.#folder, `.removed-${weightsSha256}-${randomBytes(8).toString("hex")}`);
        const isMoved = await rename(path, removed).then(
          () => true,
          () => false,
        );
        await rm(isMoved ? removed : path, { recursive: true, force: true });
      }
    } finally {
      lock.release();
    }
  }

  freeBytes(): Promise<number | null> {
    return this.#room.measure();
  }

  #begin(content: StoredContent, options: CheckOptions): Shared {
    const weights = new DiskWeights(content, {
      storeFolder: this.#folder,
      files: this.#files,
      room: this.#room,
      bootId: this.#bootId,
    });
    const shared = { opened: weights.open(options).then(() => weights), users: 0 };
    this.#open.set(content.manifest.weightsSha256, shared);
    return shared;
  }

  async #leave(weightsSha256: Sha256Hex, shared: Shared): Promise<void> {
    shared.users--;
    if (shared.users > 0) return;
    // Whoever opens it while it is being closed opens it anew.
    if (this.#open.get(weightsSha256) === shared) this.#open.delete(weightsSha256);
    await (await shared.opened).close();
  }

  async #modelOf(weightsSha256: Sha256Hex): Promise<(StoredModel & { readonly usedMs: number }) | null> {
    const folder = new ModelFolder(this.#folder, weightsSha256);
    if ((await factsOf(folder.path))?.isDirectory()) {
      const bytes = await readSmallFile(folder.journalPath, JOURNAL_BYTES_MAX).catch(() => null);
      const journal = bytes === null ? null : decodeJournal(bytes);
      const onDiskBytes = await takenBytes(folder.path);
      const { storedBytes, totalBytes } =
        journal === null ? { storedBytes: 0, totalBytes: onDiskBytes } : sizesOf(journal);
      const isWhole = journal?.chunks.isFull ?? false;
      return { weightsSha256, totalBytes, storedBytes, onDiskBytes, isWhole, usedMs: await folder.usedMs() };
    }
    // Of an agent before chunks.
    for (const [at, path] of folder.oldPaths.entries()) {
      const facts = await factsOf(path);
      if (!facts?.isFile()) continue;
      const { size, mtimeMs } = facts;
      const onDiskBytes = allocatedBytes(facts);
      return { weightsSha256, totalBytes: size, storedBytes: size, onDiskBytes, isWhole: at === 0, usedMs: mtimeMs };
    }
    return null;
  }
}

function sizesOf({ head, chunks }: NonNullable<ReturnType<typeof decodeJournal>>): {
  storedBytes: number;
  totalBytes: number;
} {
  const totalBytes = totalOf(head);
  if (chunks.isFull) return { storedBytes: totalBytes, totalBytes };
  let storedBytes = chunks.size * head.chunkBytes;
  let end = 0;
  // The last chunk of each file may be short.
  for (const bytes of head.fileBytes) {
    end += Math.ceil(bytes / head.chunkBytes);
    if (chunks.has(end - 1)) storedBytes -= (head.chunkBytes - (bytes % head.chunkBytes)) % head.chunkBytes;
  }
  return { storedBytes, totalBytes };
}

async function existing(paths: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(paths.map(async (path) => ((await factsOf(path)) === null ? [] : [path])));
  return found.flat();
}
