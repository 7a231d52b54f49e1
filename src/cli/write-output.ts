/** Files that a command writes for a person: whole or not at all. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { CliError, systemCode } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

/** Beside the file first, then renamed onto it, so that a stop in between leaves what was there. */
export function writeOutput(file: string, text: string): void {
  const beside = `${file}.${process.pid}.part`;
  try {
    writeFileSync(beside, text, { flag: "wx" });
    renameSync(beside, file);
  } catch (cause) {
    rmSync(beside, { force: true });
    throw cannotWrite(file, cause);
  }
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
