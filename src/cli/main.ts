#!/usr/bin/env node
/**
 * The entry point of `fallow`. It checks the one thing that must hold before any other file can be read (Node's version),
 * runs the command and turns whatever was thrown into one line with the cause, one with the fix, and an exit code.
 */
import { asCliError, type CliError } from "./cli-error.ts";
import { buildProgram, isHelpRequest, usageError } from "./program.ts";

const NODE_MAJOR_MIN = 24;

function isFlagged(...names: readonly string[]): boolean {
  return process.argv.slice(2).some((argument) => names.includes(argument));
}

function report(error: CliError): void {
  if (isFlagged("--json")) {
    process.stderr.write(
      `${JSON.stringify({ event: "error", code: error.code, message: error.message, fix: error.fix })}\n`,
    );
  } else {
    process.stderr.write(`fallow: ${error.message}\n`);
    if (error.fix !== null) process.stderr.write(`   fix: ${error.fix}\n`);
  }
  if (isFlagged("--verbose", "-v")) process.stderr.write(`${String(error.stack)}\n${causes(error)}`);
}

function causes(error: Error): string {
  return error.cause instanceof Error ? `caused by ${String(error.cause.stack)}\n${causes(error.cause)}` : "";
}

async function main(): Promise<void> {
  // SQLite in Node still announces itself as a release candidate on stderr, where scripts read our errors.
  process.removeAllListeners("warning");
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
    process.stderr.write(`fallow: needs Node ${NODE_MAJOR_MIN} or later, this is ${process.versions.node}\n`);
    process.exitCode = 1;
    return;
  }
  try {
    await buildProgram().parseAsync(process.argv);
  } catch (thrown) {
    if (isHelpRequest(thrown)) return;
    const error = usageError(thrown) ?? asCliError(thrown);
    report(error);
    process.exitCode = error.exitCode;
  }
}

await main();
