/**
 * How far chunks came that are not whole: for each so many bytes from its beginning lie at their place in the files. Nobody checked them; only the
 * digest of the whole chunk will tell. The bytes are written before the record, so that a killed process leaves a record only of what is
 * there. Everything that writes needs the model's write lock, and one at a time writes a chunk.
 *
 * A record: 4 bytes of chunk, 4 bytes of how far, 4 bytes CRC-32 of these, of the boot and of the layout, 4 zeros; little-endian, always at
 * its slot. What was written in another boot, or for another layout, does not check out: its bytes may not have reached the disk.
 */
import { crc32 } from "node:zlib";
import { isMissing } from "./disk-room.ts";
import { type OpenFiles, writeAt } from "./open-files.ts";
import { readSmallFile } from "./small-file.ts";

/** More chunks than are on their way at once; what has no slot is fetched whole. */
const SLOTS = 64;
const SLOT_BYTES = 16;
const CHECKED_BYTES = 8;

export interface PartsBinding {
  readonly bootId: Uint8Array;
  readonly layoutId: Uint8Array;
}

interface Part {
  readonly slot: number;
  readonly bytes: number;
}

export class PartsFile {
  readonly #path: string;
  readonly #files: OpenFiles;
  readonly #seed: number;
  readonly #parts = new Map<number, Part>();
  #freeSlots: number[] = [];

  constructor(path: string, { bootId, layoutId }: PartsBinding, files: OpenFiles) {
    this.#path = path;
    this.#files = files;
    this.#seed = crc32(layoutId, crc32(bootId));
  }

  /** Reads what an earlier process left. `bytesOf` tells a chunk's length, or null for one that is here or does not exist. */
  async begin(bytesOf: (chunk: number) => number | null): Promise<void> {
    await this.#files.close(this.#path);
    this.#parts.clear();
    this.#freeSlots = [];
    const bytes = (await readSmallFile(this.#path, SLOTS * SLOT_BYTES)) ?? Buffer.alloc(0);
    for (let slot = 0; slot < SLOTS; slot++) {
      const record = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
      const found = record.length === SLOT_BYTES ? this.#decode(record) : null;
      const wholeBytes = found === null ? null : bytesOf(found.chunk);
      const isOne = found !== null && wholeBytes !== null && found.bytes > 0 && found.bytes <= wholeBytes;
      if (isOne && !this.#parts.has(found.chunk)) this.#parts.set(found.chunk, { slot, bytes: found.bytes });
      else this.#freeSlots.push(slot);
    }
  }

  /** 0 when nothing of it is here, or when it is not known. */
  bytesOf(chunk: number): number {
    return this.#parts.get(chunk)?.bytes ?? 0;
  }

  async record(chunk: number, bytes: number): Promise<void> {
    const slot = this.#parts.get(chunk)?.slot ?? this.#freeSlots.pop();
    if (slot === undefined) return;
    this.#parts.set(chunk, { slot, bytes });
    await this.#write(slot, this.#encode({ chunk, bytes }));
  }

  async drop(chunk: number): Promise<void> {
    const part = this.#parts.get(chunk);
    if (part === undefined) return;
    this.#parts.delete(chunk);
    this.#freeSlots.push(part.slot);
    await this.#write(part.slot, Buffer.alloc(SLOT_BYTES)).catch((thrown: unknown) => {
      if (!isMissing(thrown)) throw thrown;
    });
  }

  async #write(slot: number, record: Buffer): Promise<void> {
    await this.#files.use(this.#path, "write", (file) => writeAt(file, record, slot * SLOT_BYTES));
  }

  #encode({ chunk, bytes }: { chunk: number; bytes: number }): Buffer {
    const record = Buffer.alloc(SLOT_BYTES);
    record.writeUInt32LE(chunk);
    record.writeUInt32LE(bytes, 4);
    record.writeUInt32LE(crc32(record.subarray(0, CHECKED_BYTES), this.#seed), CHECKED_BYTES);
    return record;
  }

  #decode(record: Buffer): { readonly chunk: number; readonly bytes: number } | null {
    if (record.readUInt32LE(CHECKED_BYTES) !== crc32(record.subarray(0, CHECKED_BYTES), this.#seed)) return null;
    return { chunk: record.readUInt32LE(), bytes: record.readUInt32LE(4) };
  }
}
