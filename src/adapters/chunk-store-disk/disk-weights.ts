/**
 * One model's chunks on the disk, for all in this process that have it open. What is on the disk may be damaged at any time, so a
 * chunk is believed after this process saw its digest: when it wrote it, or when it first read it.
 *
 * | chunk                                   | in `have` | verified here                                   |
 * | --------------------------------------- | --------- | ----------------------------------------------- |
 * | journal of this boot names it           | yes       | at its first `read`, or by `path`               |
 * | journal of another boot, or none at all | when good | when it is opened                               |
 * | written here                            | yes       | yes                                             |
 * | found damaged                           | no        | forgotten in the journal as soon as the lock is free |
 */
import { createHash } from "node:crypto";
import { assert } from "../../domain/assert.ts";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { FallowError } from "../../domain/fault.ts";
import { DIGEST_BYTES } from "../../domain/weights.ts";
import type { StoredContent } from "../../ports/chunk-store.ts";
import { checkAll, ReusedBuffer } from "./chunk-check.ts";
import { ChunkFiles } from "./chunk-files.ts";
import { type ChunkLayout, layoutOf } from "./chunk-layout.ts";
import { ChunkParts } from "./chunk-parts.ts";
import { type DiskRoom, isFull } from "./disk-room.ts";
import { JournalFile } from "./journal-file.ts";
import { ModelFolder } from "./model-folder.ts";
import type { OpenFiles } from "./open-files.ts";
import { PartsFile } from "./parts-file.ts";
import { SharedUse } from "./shared-use.ts";
import { takeWeightsLock, type WeightsLock } from "./weights-lock.ts";

export interface CheckOptions {
  readonly signal: AbortSignal;
  readonly onVerified?: (bytes: number) => void;
}

export interface DiskWeightsParts {
  readonly storeFolder: string;
  readonly files: OpenFiles;
  readonly room: DiskRoom;
  readonly bootId: Uint8Array;
}

export class DiskWeights {
  readonly content: StoredContent;
  readonly layout: ChunkLayout;
  readonly have: ChunkSet;
  readonly #verified: ChunkSet;
  /** Damaged here; the journal may name them still. */
  readonly #forgotten: ChunkSet;
  readonly #folder: ModelFolder;
  readonly #files: ChunkFiles;
  readonly #room: DiskRoom;
  readonly #journal: JournalFile;
  readonly #parts: ChunkParts;
  /** First checks of chunks that are under way, by chunk. */
  readonly #checking = new Map<number, Promise<Uint8Array | null>>();
  readonly #use: SharedUse;
  /** By whom: called when he needs what `path` told no more. */
  readonly #paths = new Map<object, () => void>();
  #writer: { readonly lock: WeightsLock; readonly owner: object; readonly over: () => void } | null = null;
  /** What may not run twice at once: opening, locking, refreshing, checking all. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #busy = new Set<Promise<unknown>>();

  constructor(content: StoredContent, { storeFolder, files, room, bootId }: DiskWeightsParts) {
    this.content = content;
    this.layout = layoutOf(content.manifest);
    const { chunkCount, chunkBytes, fileBytes } = this.layout;
    assert(content.digests.length === chunkCount * DIGEST_BYTES, `there are digests of ${chunkCount} chunks`);
    this.have = new ChunkSet(chunkCount);
    this.#verified = new ChunkSet(chunkCount);
    this.#forgotten = new ChunkSet(chunkCount);
    this.#folder = new ModelFolder(storeFolder, content.manifest.weightsSha256);
    const { path: folder } = this.#folder;
    this.#files = new ChunkFiles({ folder, layout: this.layout, digests: content.digests, files, room });
    this.#room = room;
    this.#use = new SharedUse(this.#folder, () => this.#lost());
    const layoutId = createHash("sha256")
      .update(JSON.stringify({ chunkBytes, fileBytes }))
      .update(content.digests)
      .digest();
    this.#journal = new JournalFile(this.#folder.journalPath, { bootId, layoutId, chunkBytes, fileBytes }, files);
    const records = new PartsFile(this.#folder.partsPath, { bootId, layoutId }, files);
    this.#parts = new ChunkParts({ layout: this.layout, files: this.#files, records, have: this.have });
  }

  open(options: CheckOptions): Promise<void> {
    return this.#inTurn(async () => {
      const over = await this.#use.begin();
      try {
        await this.#begin(options);
        over();
      } catch (thrown) {
        await this.#files.close();
        this.#use.close();
        throw thrown;
      }
    });
  }

  /** False while another process, or another that has it open here, holds it. */
  tryLock(owner: object): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#writer !== null) return this.#writer.owner === owner;
      const over = await this.#use.begin();
      const lock = takeWeightsLock(this.#folder.lockPath, "write");
      if (lock === null) {
        over();
        return false;
      }
      try {
        await this.#absorb(new AbortController().signal);
        if (!(await this.#journal.begin(this.have))) await this.#journal.rewrite(this.have);
        await this.#parts.begin();
        this.#forgetNoMore();
        await this.#folder.touch();
      } catch (thrown) {
        lock.release();
        over();
        throw await this.#room.fault(this.#folder.journalPath, this.content.digests.length, thrown);
      }
      this.#writer = { lock, owner, over };
      return true;
    });
  }

  unlock(owner: object): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#writer?.owner !== owner) return;
      await Promise.allSettled(this.#busy);
      this.#unlock();
    });
  }

  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#writer === null) await this.#use.during(() => this.#absorb(new AbortController().signal));
    });
  }

  async write(owner: object, chunk: number, bytes: Uint8Array, savedBytes: number): Promise<"kept" | "bad"> {
    assert(this.#writer?.owner === owner, "chunks are written under the lock");
    return this.#whileBusy(async () => {
      if (bytes.length !== this.layout.place(chunk).bytes || !(await this.#files.isGood(chunk, bytes))) return "bad";
      if (this.have.has(chunk) && this.#verified.has(chunk)) return "kept";
      // First the bytes, then the record of them.
      await this.#parts.replace(chunk, async (partBytes) => {
        const offset = partBytes === savedBytes ? savedBytes : 0;
        const note = () => this.#journal.append(chunk, "kept");
        await this.#files.write(chunk, bytes.subarray(offset), { offset, note });
        this.have.add(chunk);
        this.#verified.add(chunk);
        this.#forgotten.delete(chunk);
      });
      if (this.have.isFull) await this.#files.sync();
      return "kept";
    });
  }

  /** With what came of chunks that are not whole. */
  withParts<T>(owner: object, act: (parts: ChunkParts) => Promise<T>): Promise<T> {
    assert(this.#writer?.owner === owner, "parts of chunks are used under the lock");
    return this.#whileBusy(() => act(this.#parts));
  }

  /** The first reading of a chunk here reads all of it, and checks it. */
  async read(chunk: number, offset: number, length: number): Promise<Uint8Array> {
    const place = this.layout.place(chunk);
    assert(
      offset >= 0 && length >= 0 && offset + length <= place.bytes,
      `${length} bytes from ${offset} lie in a chunk of ${place.bytes}`,
    );
    return this.#whileNeeded(async () => {
      if (!this.have.has(chunk)) throw this.#damaged(chunk, "is not here");
      if (!this.#verified.has(chunk)) {
        const whole = await this.#checkedOnce(chunk);
        if (whole === null) {
          await this.#recordForgotten();
          throw this.#damaged(chunk, "was damaged on the disk and is forgotten");
        }
        return whole.slice(offset, offset + length);
      }
      const bytes = new Uint8Array(length);
      if (await this.#files.read(chunk, offset, bytes)) return bytes;
      this.#forget(chunk);
      await this.#recordForgotten();
      throw this.#damaged(chunk, "cannot be read from the disk and is forgotten");
    });
  }

  /** For a share the rest of the files may be holes. Nobody removes it until `rest` or `close`. */
  path(owner: object, needed: ChunkSet | null, options: CheckOptions): Promise<string> {
    return this.#inTurn(async () => {
      const over = await this.#use.begin();
      try {
        const path = await this.#checkedPath(needed ?? ChunkSet.full(this.layout.chunkCount), options);
        this.rest(owner);
        this.#paths.set(owner, over);
        return path;
      } catch (thrown) {
        over();
        throw thrown;
      }
    });
  }

  rest(owner: object): void {
    this.#paths.get(owner)?.();
    this.#paths.delete(owner);
  }

  /** Reads what is here of so many chunks from one on; tells the damaged ones. */
  scrub(range: { readonly from: number; readonly count: number }, options: CheckOptions): Promise<readonly number[]> {
    const { from, count } = range;
    return this.#inTurn(() =>
      this.#use.during(() =>
        this.#check(
          [...this.have].filter((chunk) => chunk >= from && chunk < from + count),
          options,
        ),
      ),
    );
  }

  async close(): Promise<void> {
    await this.#inTurn(async () => {
      await Promise.allSettled(this.#busy);
      await this.#files.close();
      this.#unlock();
      this.#use.close();
    });
  }

  #unlock(): void {
    this.#writer?.lock.release();
    this.#writer?.over();
    this.#writer = null;
  }

  async #begin(options: CheckOptions): Promise<void> {
    await this.#room.measure();
    await this.#folder.save(this.content).catch(async (thrown: unknown) => {
      throw await this.#room.fault(this.#folder.path, this.content.digests.length, thrown);
    });
    const lock = takeWeightsLock(this.#folder.lockPath, "write");
    try {
      await this.#look(options, lock !== null);
    } finally {
      lock?.release();
    }
  }

  /** While nothing here needed it another agent removed it, and may have begun it anew. */
  async #lost(): Promise<void> {
    await this.#files.close();
    for (const chunk of [...this.have]) this.#drop(chunk);
    this.#forgetNoMore();
    await this.#begin({ signal: new AbortController().signal });
  }

  async #checkedPath(wanted: ChunkSet, options: CheckOptions): Promise<string> {
    const { chunkCount } = this.layout;
    const storedChunks = this.have.size;
    const data = { chunkCount, storedChunks, damagedChunks: 0 };
    if (!this.have.includes(wanted)) {
      const message = `${storedChunks} of ${chunkCount} chunks are here, and not all that are needed`;
      throw new FallowError("weights-incomplete", message, { data });
    }
    const damagedChunks = (await this.#check([...wanted.minus(this.#verified)], options)).length;
    if (damagedChunks > 0) {
      const message = `${damagedChunks} of ${chunkCount} chunks were damaged on the disk and are forgotten`;
      throw new FallowError("weights-incomplete", message, { data: { ...data, damagedChunks } });
    }
    await this.#files.setLengths();
    await this.#folder.touch();
    return this.#files.pathOf(0);
  }

  /** What an earlier life, or an agent before chunks, left. */
  async #look(options: CheckOptions, isLocked: boolean): Promise<void> {
    const [onlyName] = this.layout.fileNames.length === 1 ? this.layout.fileNames : [];
    const isAdopted = isLocked && onlyName !== undefined && (await this.#folder.adoptOld(onlyName));
    const { trusted, suspect, isSound } = await this.#journal.claims();
    const inFiles = await this.#files.present();
    for (const chunk of trusted) if (inFiles.has(chunk)) this.have.add(chunk);
    const suspects =
      isSound && !isAdopted ? [...suspect].filter((chunk) => inFiles.has(chunk)) : [...inFiles.minus(this.have)];
    await this.#admit(suspects, options);
    if (!isLocked || (await this.#journal.begin(this.have))) return;
    await this.#journal.rewrite(this.have).catch((thrown: unknown) => {
      // On a full disk what is here can be read all the same; the next life checks it again.
      if (!isFull(thrown)) throw thrown;
    });
  }

  /** Takes over what the journal says by now: another agent may have written, or found damage. */
  async #absorb(signal: AbortSignal): Promise<void> {
    const { trusted, suspect, isSound } = await this.#journal.claims();
    if (isSound && suspect.size === 0) {
      for (const chunk of [...this.have]) if (!trusted.has(chunk)) this.#drop(chunk);
    }
    for (const chunk of trusted) if (!this.#forgotten.has(chunk)) this.have.add(chunk);
    const unsure = [...trusted, ...suspect].filter((chunk) => !this.have.has(chunk));
    if (unsure.length > 0) await this.#admit(unsure, { signal });
  }

  /** Those that are good are here from now on. */
  async #admit(chunks: readonly number[], { signal, onVerified }: CheckOptions): Promise<void> {
    let verifiedBytes = 0;
    await checkAll(chunks, signal, async (chunk, buffer) => {
      if ((await this.#files.readGood(chunk, buffer)) !== null) {
        this.have.add(chunk);
        this.#verified.add(chunk);
        this.#forgotten.delete(chunk);
      }
      verifiedBytes += this.layout.place(chunk).bytes;
      onVerified?.(verifiedBytes);
    });
  }

  /** Of chunks that are here; answers with those that were damaged, which are forgotten. */
  async #check(chunks: readonly number[], { signal, onVerified }: CheckOptions): Promise<readonly number[]> {
    const damaged: number[] = [];
    let verifiedBytes = 0;
    try {
      await checkAll(chunks, signal, async (chunk, buffer) => {
        if ((await this.#files.readGood(chunk, buffer)) !== null) this.#verified.add(chunk);
        else {
          this.#forget(chunk);
          damaged.push(chunk);
        }
        verifiedBytes += this.layout.place(chunk).bytes;
        onVerified?.(verifiedBytes);
      });
    } finally {
      if (damaged.length > 0) await this.#recordForgotten();
    }
    return damaged.sort((a, b) => a - b);
  }

  #checkedOnce(chunk: number): Promise<Uint8Array | null> {
    const known = this.#checking.get(chunk);
    if (known !== undefined) return known;
    const checking = this.#files
      .readGood(chunk, new ReusedBuffer())
      .then((bytes) => {
        if (bytes === null) this.#forget(chunk);
        else this.#verified.add(chunk);
        return bytes;
      })
      .finally(() => this.#checking.delete(chunk));
    this.#checking.set(chunk, checking);
    return checking;
  }

  #forget(chunk: number): void {
    this.#drop(chunk);
    this.#forgotten.add(chunk);
  }

  #forgetNoMore(): void {
    for (const chunk of [...this.#forgotten]) this.#forgotten.delete(chunk);
  }

  #drop(chunk: number): void {
    this.have.delete(chunk);
    this.#verified.delete(chunk);
  }

  /** So that no later life trusts them; when another agent writes, it finds out for itself. */
  async #recordForgotten(): Promise<void> {
    const lock = this.#writer?.lock ?? takeWeightsLock(this.#folder.lockPath, "write");
    if (lock === null) return;
    try {
      if (this.#writer !== null) for (const chunk of this.#forgotten) await this.#journal.append(chunk, "forgotten");
      else await this.#journal.forget(this.#forgotten);
      this.#forgetNoMore();
    } catch {
      // The disk may be the very reason; the digest is looked at again before the chunk is used.
    } finally {
      if (this.#writer?.lock !== lock) lock.release();
    }
  }

  #damaged(chunk: number, what: string): FallowError {
    const { weightsSha256 } = this.content.manifest;
    return new FallowError("chunk-damaged", `chunk ${chunk} of ${weightsSha256} ${what}`, {
      data: { weightsSha256, chunk },
    });
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(act);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #whileNeeded<T>(act: () => Promise<T>): Promise<T> {
    return this.#whileBusy(() => this.#use.during(act));
  }

  async #whileBusy<T>(act: () => Promise<T>): Promise<T> {
    const running = act();
    this.#busy.add(running);
    try {
      return await running;
    } finally {
      this.#busy.delete(running);
    }
  }
}
