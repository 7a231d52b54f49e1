/** The files that hold one model's chunks: chunks are read and written by their place, and what was not written is a hole. */
import { join } from "node:path";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { hasDigest, type ReusedBuffer } from "./chunk-check.ts";
import type { ChunkLayout } from "./chunk-layout.ts";
import { type DiskRoom, factsOf, hasCode } from "./disk-room.ts";
import { type OpenFiles, readAt, writeAt } from "./open-files.ts";

export interface ChunkFilesParts {
  readonly folder: string;
  readonly layout: ChunkLayout;
  readonly digests: Uint8Array;
  readonly files: OpenFiles;
  readonly room: DiskRoom;
}

export interface WriteHow {
  readonly offset: number;
  note(): Promise<void>;
}

export class ChunkFiles {
  readonly #parts: ChunkFilesParts;

  constructor(parts: ChunkFilesParts) {
    this.#parts = parts;
  }

  pathOf(file: number): string {
    return join(this.#parts.folder, this.#parts.layout.nameOf(file));
  }

  isGood(chunk: number, bytes: Uint8Array): Promise<boolean> {
    return hasDigest(bytes, this.#parts.digests, chunk);
  }

  /**
   * Writes bytes of a chunk from `offset` on, and then does `note`, which needs room too. Rejects `disk-full`. The headroom is looked at for the
   * first part of a chunk and for the last; those between are on their way already.
   */
  async write(chunk: number, bytes: Uint8Array, how: WriteHow): Promise<void> {
    const { layout, files, room } = this.#parts;
    const place = layout.place(chunk);
    const path = this.pathOf(place.file);
    const isBetween = how.offset > 0 && how.offset + bytes.length < place.bytes;
    const held = isBetween ? null : await room.hold(path, bytes.length);
    try {
      if (bytes.length > 0) await files.use(path, "write", (open) => writeAt(open, bytes, place.offset + how.offset));
      await how.note();
    } catch (thrown) {
      throw await room.fault(path, bytes.length, thrown);
    } finally {
      held?.done();
    }
  }

  /** False when the disk does not give so many. */
  async read(chunk: number, offset: number, into: Uint8Array): Promise<boolean> {
    const { layout, files } = this.#parts;
    const place = layout.place(chunk);
    const path = this.pathOf(place.file);
    const found = await files.use(path, "read", (open) => readAt(open, into, place.offset + offset)).catch(unreadable);
    return found === into.length;
  }

  /** Null when the disk does not give the bytes that belong there, for whatever reason. */
  async readGood(chunk: number, buffer: ReusedBuffer): Promise<Uint8Array | null> {
    const into = buffer.of(this.#parts.layout.place(chunk).bytes);
    return (await this.read(chunk, 0, into)) && (await this.isGood(chunk, into)) ? into : null;
  }

  /** Chunks that lie within the files as long as they are. */
  async present(): Promise<ChunkSet> {
    const { layout } = this.#parts;
    const present = new ChunkSet(layout.chunkCount);
    for (const [file, bytes] of layout.fileBytes.entries()) {
      const { first, count } = layout.chunksOf(file);
      const size = (await factsOf(this.pathOf(file)))?.size ?? 0;
      const whole = size >= bytes ? count : Math.floor(size / layout.chunkBytes);
      if (whole > 0) present.addRun([first, whole]);
    }
    return present;
  }

  /** Files of a share end where the whole ones do, and what was adopted may be too long. */
  async setLengths(): Promise<void> {
    for (const [file, bytes] of this.#parts.layout.fileBytes.entries()) {
      const path = this.pathOf(file);
      if ((await factsOf(path))?.size === bytes) continue;
      await this.#parts.files.use(path, "write", (open) => open.truncate(bytes));
    }
  }

  /** Some file systems tell only here that there was no room. */
  async sync(): Promise<void> {
    const { layout, files, room } = this.#parts;
    for (const [file, bytes] of layout.fileBytes.entries()) {
      const path = this.pathOf(file);
      await files
        .use(path, "write", (open) => open.datasync())
        .catch(async (thrown: unknown) => {
          throw await room.fault(path, bytes, thrown);
        });
    }
  }

  close(): Promise<void> {
    return this.#parts.files.close(join(this.#parts.folder, "/"));
  }
}

/** The file is to blame, not the moment: a process that has too many files open finds its chunks whole later. */
function unreadable(thrown: unknown): number {
  if (["EMFILE", "ENFILE", "ENOMEM", "EAGAIN"].some((code) => hasCode(thrown, code))) throw thrown;
  return -1;
}
