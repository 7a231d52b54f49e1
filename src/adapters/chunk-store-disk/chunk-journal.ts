/**
 * Which chunks of a model were verified and written, as bytes of a file that only ever grows by one small record for each chunk. A chunk's bytes are
 * written before its record, so that a killed process leaves a record only of what is there. Records carry a checksum; the head names
 * the boot in which they were written. What the journal says counts only in that boot: after a power cut the records may have reached
 * the disk and the chunks not.
 *
 * | bytes of the head | what                                     |
 * | ----------------- | ---------------------------------------- |
 * | 8                 | "FALLOWJ1"                               |
 * | 16                | boot id, zeros when the system tells none |
 * | 32                | id of the layout (sizes and digests)     |
 * | 4, 4              | chunk bytes, number of files             |
 * | 8 each            | bytes of each file                       |
 * | 4                 | CRC-32 of all that                       |
 *
 * A record: 4 bytes of chunk (highest bit set: forgotten), 4 bytes CRC-32 of these and the layout's id. Little-endian. A record of zeros is a
 * gap that a write left which did not come through. The last record of a chunk counts.
 */
import { crc32 } from "node:zlib";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { areSizesValid, chunkCountOfSizes, type LayoutSizes } from "./chunk-layout.ts";

export const RECORD_BYTES = 8;
const MAGIC = Buffer.from("FALLOWJ1", "latin1");
const BOOT_AT = 8;
const LAYOUT_AT = 24;
const CHUNK_BYTES_AT = 56;
const FILES_AT = 60;
const SIZES_AT = 64;
const FORGOTTEN = 0x8000_0000;
/** 512 files, and each of a million chunks kept, forgotten and kept again: more is no journal of ours. */
export const JOURNAL_BYTES_MAX = 32 * 1024 * 1024;

export interface JournalHead extends LayoutSizes {
  /** 16 bytes. */
  readonly bootId: Uint8Array;
  /** 32 bytes. */
  readonly layoutId: Uint8Array;
}

export interface Journal {
  readonly head: JournalHead;
  readonly chunks: ChunkSet;
  /** Records that are neither whole nor gaps: what they said is lost. */
  readonly isDamaged: boolean;
  /** Where the next record goes. */
  readonly endBytes: number;
}

export function encodeHead({ bootId, layoutId, chunkBytes, fileBytes }: JournalHead): Buffer {
  const head = Buffer.alloc(headBytes(fileBytes.length));
  MAGIC.copy(head);
  head.set(bootId, BOOT_AT);
  head.set(layoutId, LAYOUT_AT);
  head.writeUInt32LE(chunkBytes, CHUNK_BYTES_AT);
  head.writeUInt32LE(fileBytes.length, FILES_AT);
  for (const [at, bytes] of fileBytes.entries()) head.writeBigUInt64LE(BigInt(bytes), SIZES_AT + 8 * at);
  head.writeUInt32LE(crc32(head.subarray(0, -4)), head.length - 4);
  return head;
}

export function encodeRecord(layoutId: Uint8Array, chunk: number, kind: "kept" | "forgotten"): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  record.writeUInt32LE(kind === "kept" ? chunk : chunk + FORGOTTEN);
  record.writeUInt32LE(checkOf(record.subarray(0, 4), layoutId), 4);
  return record;
}

/** A whole journal. */
export function encodeJournal(head: JournalHead, chunks: ChunkSet): Buffer {
  return Buffer.concat([encodeHead(head), ...[...chunks].map((chunk) => encodeRecord(head.layoutId, chunk, "kept"))]);
}

/** Null when the head is not one: then nothing of it counts. */
export function decodeHead(bytes: Buffer): JournalHead | null {
  if (bytes.length < headBytes(1) || !bytes.subarray(0, BOOT_AT).equals(MAGIC)) return null;
  const files = bytes.readUInt32LE(FILES_AT);
  if (files > 65_536 || bytes.length < headBytes(files)) return null;
  const head = bytes.subarray(0, headBytes(files));
  if (head.readUInt32LE(head.length - 4) !== crc32(head.subarray(0, -4))) return null;
  const fileBytes = Array.from({ length: files }, (_, at) => Number(head.readBigUInt64LE(SIZES_AT + 8 * at)));
  const sizes = { chunkBytes: head.readUInt32LE(CHUNK_BYTES_AT), fileBytes };
  if (!areSizesValid(sizes)) return null;
  return { ...sizes, bootId: head.subarray(BOOT_AT, LAYOUT_AT), layoutId: head.subarray(LAYOUT_AT, CHUNK_BYTES_AT) };
}

export function decodeJournal(bytes: Buffer): Journal | null {
  const head = decodeHead(bytes);
  if (head === null) return null;
  const chunks = new ChunkSet(chunkCountOfSizes(head));
  let isDamaged = false;
  let at = headBytes(head.fileBytes.length);
  for (; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
    const word = bytes.readUInt32LE(at);
    const check = bytes.readUInt32LE(at + 4);
    if (word === 0 && check === 0) continue;
    const chunk = word & ~FORGOTTEN;
    if (check !== checkOf(bytes.subarray(at, at + 4), head.layoutId) || chunk >= chunks.chunkCount) isDamaged = true;
    else if (word >= FORGOTTEN) chunks.delete(chunk);
    else chunks.add(chunk);
  }
  return { head, chunks, isDamaged, endBytes: at };
}

export function headBytes(files: number): number {
  return SIZES_AT + 8 * files + 4;
}

/** Never zero, so that a gap is no record. */
function checkOf(word: Uint8Array, layoutId: Uint8Array): number {
  return (crc32(word, crc32(layoutId)) | 1) >>> 0;
}
