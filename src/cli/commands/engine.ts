/** `fallow engine`: the variants of the engine on this machine, which agents otherwise install by themselves when they need one. */
import { ENGINE_PACKAGE_VERSION } from "../../adapters/engine-variants/pinned-packages.ts";
import type { VariantFolder } from "../../adapters/engine-variants/variant-folder.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";
import { CliError } from "../cli-error.ts";
import { fixForVariant } from "../compose/engine-fixes.ts";
import { installedVariants, variantFolder } from "../compose/installed-variants.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes, table } from "../format.ts";
import { ENGINES_FOLDER, type HomeFolder, homeFolder, openHome } from "../home/home-folder.ts";
import { onStopSignals } from "../stop-signals.ts";
import { note, openProgress, printJson, printText } from "../terminal.ts";

export interface EngineOptions {
  readonly home?: string;
  readonly json?: boolean;
}

const VARIANTS: readonly EngineVariant[] = ["cpu", "cuda", "vulkan", "metal"];

interface EngineRow {
  readonly variant: EngineVariant;
  readonly version: string;
  readonly state: "installed" | "obtainable" | "unavailable";
  /** Null when it is not installed, or came along with this program. */
  readonly folder: string | null;
  readonly downloadBytes: number | null;
  readonly unpackedBytes: number | null;
}

export async function listEngines(options: EngineOptions): Promise<void> {
  const home = homeFolder(options.home);
  const folder = foldersOf(home);
  const installed = await installedVariants(folder);
  const engines = VARIANTS.map((variant): EngineRow => {
    const found = installed.find((each) => each.variant === variant);
    const pin = folder.packageOf(variant);
    return {
      variant,
      version: ENGINE_PACKAGE_VERSION,
      state: found !== undefined ? "installed" : pin === null ? "unavailable" : "obtainable",
      folder: found?.directory ?? null,
      downloadBytes: pin?.downloadBytes ?? null,
      unpackedBytes: pin?.unpackedBytes ?? null,
    };
  });
  if (options.json === true) return printJson({ engines });
  printText(
    table(
      [
        { title: "VARIANT" },
        { title: "VERSION" },
        { title: "STATE" },
        { title: "DOWNLOAD", isRight: true },
        { title: "ON DISK", isRight: true },
        { title: "WHERE" },
      ],
      engines.map((row) => [
        row.variant,
        row.version,
        STATES[row.state],
        row.downloadBytes === null ? "-" : formatBytes(row.downloadBytes),
        row.unpackedBytes === null ? "-" : formatBytes(row.unpackedBytes),
        row.folder ?? (row.state === "installed" ? "comes with fallow" : "-"),
      ]),
      "",
    ),
  );
}

const STATES = {
  installed: "installed",
  obtainable: "not installed",
  unavailable: "not for this machine",
} as const satisfies Record<EngineRow["state"], string>;

export async function installEngine(variant: EngineVariant, options: EngineOptions): Promise<void> {
  const folder = foldersOf(openHome(options.home));
  const isThere = await comesAlong(variant, folder);
  const before = isThere ? null : await folder.find(variant);
  const progress = openProgress();
  const stop = onStopSignals(() => progress.end());
  try {
    const directory = isThere
      ? null
      : await folder.install(variant, {
          signal: stop.signal,
          onProgress: ({ bytes, bytesTotal }) =>
            progress.step(
              `installing the ${variant} engine (${formatBytes(bytesTotal)}) ${Math.round((100 * bytes) / bytesTotal)} %`,
            ),
        });
    progress.end();
    const wasInstalled = isThere || before !== null;
    if (options.json === true) return printJson({ variant, folder: directory, wasInstalled });
    if (directory === null) return note(`the ${variant} engine comes with fallow`);
    note(`the ${variant} engine ${wasInstalled ? "was installed already" : "is installed"} in ${directory}`);
  } catch (thrown) {
    progress.end();
    throw installFailure(variant, thrown);
  } finally {
    stop.dispose();
  }
}

export async function removeEngine(variant: EngineVariant, options: EngineOptions): Promise<void> {
  const folder = foldersOf(homeFolder(options.home));
  const wasRemoved = await folder.remove(variant).catch((thrown: unknown) => {
    throw installFailure(variant, thrown);
  });
  if (!wasRemoved) {
    throw new CliError(`the ${variant} engine is not installed in this home`, {
      exitCode: EXIT.refused,
      code: "engine-not-installed",
      fix: "`fallow engine list` shows what is; --home names another home",
    });
  }
  if (options.json === true) return printJson({ variant, removed: true });
  note(`the ${variant} engine is removed; \`fallow up --engine cpu\` keeps an agent from installing it again`);
}

function foldersOf(home: HomeFolder): VariantFolder {
  return variantFolder(home.at(ENGINES_FOLDER));
}

async function comesAlong(variant: EngineVariant, folder: VariantFolder): Promise<boolean> {
  const found = (await installedVariants(folder)).find((each) => each.variant === variant);
  return found !== undefined && found.directory === null;
}

function installFailure(variant: EngineVariant, thrown: unknown): unknown {
  if (!(thrown instanceof FallowError)) return thrown;
  return new CliError(describeFault(thrown), {
    exitCode: thrown.code === "engine-variant-unavailable" ? EXIT.refused : EXIT.failure,
    code: thrown.code,
    fix: thrown.code === "aborted" ? "run the command again" : fixForVariant(variant, thrown.code),
    cause: thrown,
  });
}
