/** Files that a command writes for a person: whole or not at all. */
import { closeSync, openSync, readSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { CliError, systemCode } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

/** How each report begins; a file that begins otherwise is somebody's work and is never written over. */
const REPORT_BEGINS = "<!doctype html>";

/**
 * A report. Beside the file first, then renamed onto it, so that a stop in between leaves what was there. A link is followed; a pipe or
 * device (`/dev/stdout`) is written to and not replaced.
 */
export function writeReport(file: string, text: string): void {
  const target = followed(file);
  const beside = `${target}.${process.pid}.part`;
  try {
    if (isPlain(target)) {
      if (!isReport(target)) throw notOurs(file);
      writeFileSync(beside, text, { flag: "wx" });
      renameSync(beside, target);
    } else writeFileSync(target, text);
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    rmSync(beside, { force: true });
    throw cannotWrite(file, cause);
  }
}

function followed(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file; // it is not there yet, or writing tells what is wrong
  }
}

/** True also for what is not there. */
function isPlain(file: string): boolean {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat === undefined || stat.isFile();
}

/** True also for a file that is empty or not there. */
function isReport(file: string): boolean {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0) return true;
  const handle = openSync(file, "r");
  try {
    const head = Buffer.alloc(REPORT_BEGINS.length);
    return head.toString("latin1", 0, readSync(handle, head)).toLowerCase() === REPORT_BEGINS;
  } finally {
    closeSync(handle);
  }
}

function notOurs(file: string): CliError {
  return new CliError(`${file} is there already and is no report: it would be lost`, {
    exitCode: EXIT.usage,
    code: "output-unwritable",
    fix: "name another file, or remove that one first",
  });
}

function cannotWrite(file: string, cause: unknown): CliError {
  const code = systemCode(cause);
  const why: Readonly<Record<string, string>> = {
    ENOENT: "its folder does not exist",
    EISDIR: "it is a folder",
    EACCES: "this user may not write there",
    EROFS: "the file system is read-only",
    ENOSPC: "the disk is full",
  };
  return new CliError(`${file} cannot be written: ${why[code ?? ""] ?? code ?? String(cause)}`, {
    exitCode: code === "ENOSPC" ? EXIT.failure : EXIT.usage,
    code: "output-unwritable",
    fix: "name a file in a folder where this user may write",
    cause,
  });
}
