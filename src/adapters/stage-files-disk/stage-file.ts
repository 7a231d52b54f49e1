/** One stage's file: written from its plan, with its digest in a note beside it, and checked against that. */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { FallowError } from "../../domain/fault.ts";
import { pieceBytes, STAGE_READ_BYTES, type StagePlan } from "../../weights/stage-plan.ts";
import type { FileByteSource } from "../tokenizer-llama/file-byte-source.ts";

export const NOTE_ENDING = ".sha256";
/** Read and hashed at once: the event loop stands still for less than a millisecond. */
const HASH_BYTES = 1024 * 1024;
const ZEROS = new Uint8Array(HASH_BYTES);

/** By which a file that is touched is known; who changes bytes and puts its time back is not found out. */
export interface StatedFile {
  readonly bytes: number;
  readonly changedMs: number;
  readonly inode: number;
}

export function noteOf(path: string): string {
  return `${path}${NOTE_ENDING}`;
}

/** Null when it is not there. */
export async function statedFile(path: string): Promise<StatedFile | null> {
  try {
    const { size, mtimeMs, ino } = await stat(path);
    return { bytes: size, changedMs: mtimeMs, inode: ino };
  } catch (cause) {
    if (isCode(cause, "ENOENT")) return null;
    throw cause;
  }
}

export function isSameFile(one: StatedFile, other: StatedFile | undefined): boolean {
  return one.bytes === other?.bytes && one.changedMs === other.changedMs && one.inode === other.inode;
}

/** Null when its bytes have the digest that its note tells; else what is wrong. */
export async function damageOf(path: string): Promise<string | null> {
  const noted = await readNote(path);
  if (noted === null) return "there is no note of its digest";
  const digest = await digestOf(path);
  return digest === noted ? null : `its digest is ${digest}, ${noted} was written`;
}

/** Zeros become holes. What was at the path before is replaced once the new one is whole and on the disk. */
export async function writeStage(
  path: string,
  plan: StagePlan,
  sources: readonly FileByteSource[],
): Promise<StatedFile> {
  const part = `${path}.part`;
  const hash = createHash("sha256");
  const file = await open(part, "w", 0o600);
  try {
    let at = 0;
    for (const piece of plan.pieces) {
      const length = pieceBytes(piece);
      if (piece.kind === "bytes") await put(file, at, { bytes: piece.bytes, hash });
      else if (piece.kind === "copy") await copyInto(file, at, { source: sources[piece.file], hash, ...piece });
      else hashZeros(hash, length);
      at += length;
    }
    hashZeros(hash, plan.fileBytes - at);
    await file.truncate(plan.fileBytes);
    await file.sync();
    await writeFile(noteOf(path), `${hash.digest("hex")}\n`, { mode: 0o600 });
  } catch (fault) {
    await file.close();
    await rm(part, { force: true });
    throw isCode(fault, "ENOSPC") ? diskFull(plan.fileBytes, fault) : fault;
  }
  await file.close();
  await rename(part, path);
  const stated = await statedFile(path);
  if (stated !== null) return stated;
  throw new FallowError(
    "stage-file-lost",
    `${path} was written, and is not there: does something else clear this folder?`,
  );
}

async function copyInto(
  file: FileHandle,
  at: number,
  {
    source,
    offset,
    bytes,
    hash,
  }: {
    readonly source: FileByteSource | undefined;
    readonly offset: number;
    readonly bytes: number;
    readonly hash: Hash;
  },
): Promise<void> {
  for (let done = 0; done < bytes; done += STAGE_READ_BYTES) {
    const length = Math.min(STAGE_READ_BYTES, bytes - done);
    const read = (await source?.read(offset + done, length)) ?? new Uint8Array(0);
    if (read.length !== length) {
      const message = `the model's file gave ${read.length} of ${length} bytes from byte ${offset + done} on`;
      throw new FallowError("weights-short", message);
    }
    await put(file, at + done, { bytes: read, hash });
  }
}

async function put(
  file: FileHandle,
  at: number,
  { bytes, hash }: { readonly bytes: Uint8Array; readonly hash: Hash },
): Promise<void> {
  hash.update(bytes);
  for (let done = 0; done < bytes.length; ) {
    // A disk that is nearly full takes a part, and says so only by this number.
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    if (bytesWritten === 0) throw diskFull(bytes.length, null);
    done += bytesWritten;
  }
}

async function readNote(path: string): Promise<string | null> {
  try {
    return (await readFile(noteOf(path), "utf8")).trim();
  } catch (cause) {
    if (isCode(cause, "ENOENT")) return null;
    throw cause;
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "r");
  try {
    const bytes = new Uint8Array(HASH_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(bytes, 0, bytes.length, null);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(bytes.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

function hashZeros(hash: Hash, count: number): void {
  for (let done = 0; done < count; done += HASH_BYTES) hash.update(ZEROS.subarray(0, count - done));
}

function diskFull(neededBytes: number, cause: unknown): FallowError {
  const message = `the disk became full while ${neededBytes} bytes of a stage's file were written: make room there`;
  return new FallowError("disk-full", message, { data: { neededBytes }, cause });
}

function isCode(fault: unknown, code: string): boolean {
  return fault instanceof Error && "code" in fault && fault.code === code;
}
