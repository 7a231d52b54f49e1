/**
 * What a command tells a person when it cannot go on: one line with the cause, one with what to do. Everything that a
 * command throws is turned into this shape once, in `main.ts`.
 */
import { AssertionFailed } from "../domain/assert.ts";
import { describeFault, FallowError } from "../domain/fault.ts";
import { EXIT, type ExitCode } from "./exit-codes.ts";

export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;
  readonly code: string;
  readonly fix: string | null;
  constructor(
    message: string,
    more: { exitCode?: ExitCode; code?: string; fix?: string | null; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.exitCode = more.exitCode ?? EXIT.failure;
    this.code = more.code ?? "failed";
    this.fix = more.fix ?? null;
  }
}

/** Fixes for faults that adapters raise; a fault that is not listed is shown with its own message only. */
const FIXES: Readonly<Record<string, string>> = {
  "peer-port-unusable": "name a free one with `--peer-port PORT`, or leave it out and a free one is taken",
  "engine-library-missing": "run `npm ci` in the project again, or `fallow doctor` to see what is missing",
  "engine-abi-mismatch": "run `npm ci` so that the engine library has the pinned version",
  "disk-full": "free some space, or choose another folder with --home",
  "store-unavailable": "check the address given with --database, that the server runs, and that the disk is not full",
  "store-in-use": "stop the other coordinator, or give this one another database",
  "store-corrupt": "restore the database from a backup",
  "store-newer-than-code": "update fallow: a newer version has worked on this database",
  "store-migration-differs": "use the version of fallow that made this database",
  "node-identity-exists": "choose another home with --home, or move the key that is there away",
  "node-identity-text-wrong": "copy the whole text that `fallow identity export` wrote",
  "node-identity-damaged": "restore it with `fallow identity restore`, or move the file away to become a new node",
  "tls-identity-unusable": "restore it from a backup, or move it away (every agent must then join again)",
  "tls-files-unusable": "give --tls-cert and --tls-key files that belong together",
  "tokenizer-unusable": "run `fallow doctor` to see whether the engine library works here",
  "link-unreachable": "check that the grid runs and that its address can be reached from here",
  "link-fingerprint-mismatch": "ask the grid's operator for a new join code: its certificate has changed",
};

const FIX_UNKNOWN = "run the command again with --verbose to see where it comes from";

/** The text of the system's error code, e.g. `ENOSPC`, when the thrown value carries one. */
export function systemCode(thrown: unknown): string | null {
  if (!(thrown instanceof Error) || !("code" in thrown)) return null;
  return typeof thrown.code === "string" ? thrown.code : null;
}

export function asCliError(thrown: unknown): CliError {
  if (thrown instanceof CliError) return thrown;
  if (thrown instanceof FallowError) {
    return new CliError(describeFault(thrown), {
      code: thrown.code,
      fix: FIXES[thrown.code] ?? FIX_UNKNOWN,
      cause: thrown,
    });
  }
  if (thrown instanceof AssertionFailed) {
    return new CliError(`this is a bug of fallow: ${thrown.message}`, {
      code: "bug",
      fix: "run the command again with --verbose and report what it prints",
      cause: thrown,
    });
  }
  const system = systemCode(thrown);
  const fix =
    system === "ENOSPC"
      ? "free some space, or choose another folder with --home"
      : system === "EACCES" || system === "EPERM"
        ? "give this user the right to write there, or choose another folder with --home"
        : FIX_UNKNOWN;
  return new CliError(describeFault(thrown), { code: system?.toLowerCase() ?? "failed", fix, cause: thrown });
}
