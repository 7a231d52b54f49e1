/**
 * The commands of `fallow` and their options. A command's code is loaded when it runs, so that `fallow --help` reads this file
 * and nothing of the grid.
 */
import { Command, CommanderError } from "commander";
import { CliError } from "./cli-error.ts";
import { EXIT, EXIT_CODES_HELP } from "./exit-codes.ts";
import { addEngineCommands } from "./program-engine.ts";
import { addGridCommands } from "./program-grid.ts";
import { addHostCommands } from "./program-host.ts";
import { packageVersion } from "./version.ts";

export function buildProgram(): Command {
  const program = new Command("fallow")
    .description("Pool idle GPUs into one OpenAI-compatible compute grid.")
    .version(packageVersion(), "-V, --version", "show the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .configureHelp({ showGlobalOptions: false })
    .showSuggestionAfterError(true)
    // What stands behind a subcommand's name is the subcommand's, also where its parent has an option of that name (`sim serve --trace`).
    .enablePositionalOptions()
    .addHelpText(
      "after",
      `
First steps:
  fallow up                 start a grid on this machine, with one agent and a small model
  fallow chat "hello"       talk to it
  fallow join CODE          lend this machine to a grid
${EXIT_CODES_HELP}`,
    );
  addHostCommands(program);
  addEngineCommands(program);
  addGridCommands(program);
  harden(program);
  return program;
}

/** Errors of parsing come back as exceptions, from subcommands too, so that `main.ts` is the one place that reports. */
function harden(command: Command): void {
  command.exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  for (const child of command.commands) harden(child);
}

export function isHelpRequest(thrown: unknown): boolean {
  return thrown instanceof CommanderError && thrown.exitCode === 0;
}

/** An error of parsing as exit code 2, or null when it is of another kind. */
export function usageError(thrown: unknown): CliError | null {
  if (!(thrown instanceof CommanderError)) return null;
  if (thrown.code === "commander.help") {
    return new CliError("a command is missing", { exitCode: EXIT.usage, code: "usage", fix: "see `fallow --help`" });
  }
  const [first, suggestion] = thrown.message.replace(/^error: /, "").split("\n");
  return new CliError(suggestion === undefined ? `${first}` : `${first} ${suggestion}`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: "see `fallow --help`, or `fallow COMMAND --help`",
  });
}
