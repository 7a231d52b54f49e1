/**
 * Files that a command is given: read whole, within a bound, unpacked when they are gzip, as UTF-8 text. Whatever stops that is said
 * with the file's name and what would be right; exit code 2, since a file that is named is an argument.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { basename } from "node:path";
import { gunzipSync } from "node:zlib";
import { CliError, systemCode } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";
import { formatBytes } from "./format.ts";

export interface InputKind {
  /** In the message, e.g. `cluster file`. */
  readonly what: string;
  /** Of the text, after unpacking. */
  readonly bytesMax: number;
  /** What to do when it is the wrong file. */
  readonly fix: string;
}

const GZIP_MAGIC = [0x1f, 0x8b] as const;

export function readInput(file: string, kind: InputKind): string {
  const bytes = readWhole(file, kind);
  const isPacked = bytes[0] === GZIP_MAGIC[0] && bytes[1] === GZIP_MAGIC[1];
  const plain = isPacked ? unpacked(bytes, { file, kind }) : bytes;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(plain);
  } catch (cause) {
    throw refused(`${file} is no ${kind.what}: it is not UTF-8 text`, { kind, cause });
  }
}

/** The file's name without folder and endings: what a cluster is called that does not name itself. */
export function inputName(file: string): string {
  return basename(file).replace(/(\.json|\.csv|\.jsonl)?(\.gz)?$/, "") || "unnamed";
}

function readWhole(file: string, kind: InputKind): Uint8Array {
  let handle: number | null = null;
  try {
    handle = openSync(file, "r");
    const stat = fstatSync(handle);
    if (stat.isDirectory()) throw refused(`${file} is a folder, and a ${kind.what} is wanted`, { kind });
    return readUpTo(handle, { file, kind });
  } catch (thrown) {
    if (thrown instanceof CliError) throw thrown;
    const code = systemCode(thrown);
    const why =
      code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "this user may not read it" : String(code);
    throw refused(`${file} cannot be read: ${why}`, { kind, cause: thrown });
  } finally {
    if (handle !== null) closeSync(handle);
  }
}

const CHUNK_BYTES = 1 << 20;

/** In pieces and not by the size that the system tells: a pipe has none, and a file may grow. */
function readUpTo(handle: number, of: { readonly file: string; readonly kind: InputKind }): Uint8Array {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const chunk = new Uint8Array(CHUNK_BYTES);
    const count = readSync(handle, chunk);
    if (count === 0) break;
    length += count;
    if (length > of.kind.bytesMax) throw tooLong(of);
    // A pipe gives a few kilobytes at a time: the rest of the chunk is not kept for them.
    chunks.push(count > CHUNK_BYTES / 2 ? chunk.subarray(0, count) : chunk.slice(0, count));
  }
  return Buffer.concat(chunks, length);
}

function unpacked(bytes: Uint8Array, of: { readonly file: string; readonly kind: InputKind }): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: of.kind.bytesMax });
  } catch (cause) {
    if (systemCode(cause) === "ERR_BUFFER_TOO_LARGE") throw tooLong(of);
    throw refused(`${of.file} cannot be unpacked: its gzip data is damaged or cut`, { kind: of.kind, cause });
  }
}

function tooLong(of: { readonly file: string; readonly kind: InputKind }): CliError {
  return refused(`${of.file} is too long: a ${of.kind.what} has at most ${formatBytes(of.kind.bytesMax)}`, {
    kind: of.kind,
  });
}

function refused(message: string, more: { readonly kind: InputKind; readonly cause?: unknown }): CliError {
  return new CliError(message, {
    exitCode: EXIT.usage,
    code: "input-unreadable",
    fix: more.kind.fix,
    cause: more.cause,
  });
}
