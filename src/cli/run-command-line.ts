/**
 * Runs a command line and turns whatever was thrown into one line with the cause, one with the fix, and an exit code.
 */
import { asCliError, type CliError } from "./cli-error.ts";
import { buildProgram, isHelpRequest, usageError } from "./program.ts";
import { asTypedHere } from "./runner-name.ts";

function isFlagged(...names: readonly string[]): boolean {
  return process.argv.slice(2).some((argument) => names.includes(argument));
}

function report(error: CliError): void {
  if (isFlagged("--json")) {
    process.stderr.write(
      `${JSON.stringify({ event: "error", code: error.code, message: error.message, fix: error.fix })}\n`,
    );
  } else {
    process.stderr.write(`fallow: ${asTypedHere(error.message)}\n`);
    if (error.fix !== null) process.stderr.write(`   fix: ${asTypedHere(error.fix)}\n`);
  }
  if (isFlagged("--verbose", "-v")) process.stderr.write(`${String(error.stack)}\n${causes(error)}`);
}

function causes(error: Error): string {
  return error.cause instanceof Error ? `caused by ${String(error.cause.stack)}\n${causes(error.cause)}` : "";
}

/** Whoever reads us may stop early (`fallow status | head`): the rest is for nobody, and that is no failure of ours. */
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
}

export async function runCommandLine(): Promise<void> {
  outliveReaders();
  try {
    await buildProgram().parseAsync(process.argv);
  } catch (thrown) {
    if (isHelpRequest(thrown)) return;
    const error = usageError(thrown) ?? asCliError(thrown);
    report(error);
    process.exitCode = error.exitCode;
  }
}
