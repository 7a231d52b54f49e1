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
  "engine-library-missing": "run `npm ci` in the project again, or `fallow doctor` to see what is missing",
  "engine-abi-mismatch": "run `npm ci` so that the engine library has the pinned version",
  "disk-full": "free some space, or choose another folder with --home",
  "store-unreachable": "check the address given with --database and that the server runs",
  "link-unreachable": "check that the grid runs and that its address can be reached from here",
  "link-fingerprint-mismatch": "ask the grid's operator for a new join code: its certificate has changed",
};

/** The text of the system's error code, e.g. `ENOSPC`, when the thrown value carries one. */
export function systemCode(thrown: unknown): string | null {
  if (!(thrown instanceof Error) || !("code" in thrown)) return null;
  return typeof thrown.code === "string" ? thrown.code : null;
}

export function asCliError(thrown: unknown): CliError {
  if (thrown instanceof CliError) return thrown;
  if (thrown instanceof FallowError) {
    return new CliError(describeFault(thrown), { code: thrown.code, fix: FIXES[thrown.code] ?? null, cause: thrown });
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
        : null;
  return new CliError(describeFault(thrown), { code: system?.toLowerCase() ?? "failed", fix, cause: thrown });
}
