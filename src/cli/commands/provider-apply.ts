/** `fallow providers apply FILE`: makes the grid's providers what a file says. */
import { parse as parseToml } from "smol-toml";
import { doneSchema } from "../../coordinator/admin/admin-schemas.ts";
import { type ProviderRow, providerListSchema } from "../../coordinator/admin/provider-schemas.ts";
import { PROVIDER_FILE_BYTES_MAX, parseProviderFile } from "../../wire/provider-file.ts";
import type { ProviderSettings } from "../../wire/provider-settings.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { type InputKind, readInput } from "../read-input.ts";
import { note, printJson } from "../terminal.ts";
import { missingKey, pathOf, putProvider, settingsOfRow } from "./provider-calls.ts";

const KIND: InputKind = {
  what: "providers file",
  bytesMax: PROVIDER_FILE_BYTES_MAX,
  fix: "name a TOML or JSON file; docs/providers.md has an example",
};

export interface ApplyOptions extends GlobalOptions {
  readonly prune?: boolean;
  readonly dryRun?: boolean;
}

type Change = { readonly providerId: string; readonly action: "add" | "change" | "keep" | "remove" };

export async function applyProviders(file: string, options: ApplyOptions): Promise<void> {
  const wanted = readProviders(file);
  const grid = connectGrid(options);
  const { providers } = await grid.json("/admin/v1/providers", providerListSchema);
  const changes = changesFor({ wanted, providers, isPruning: options.prune === true });
  for (const { providerId, action } of options.dryRun === true ? [] : changes) {
    const settings = wanted.find((one) => one.providerId === providerId);
    if (action === "remove") await grid.json(pathOf(providerId), doneSchema, { method: "DELETE" });
    if ((action !== "add" && action !== "change") || settings === undefined) continue;
    const put = await putProvider(grid, settings);
    if (!put.health.hasCredential) note(missingKey(put));
  }
  if (options.json === true) return printJson({ changes, isDryRun: options.dryRun === true });
  const would = options.dryRun === true ? "would be " : "";
  const words = { add: "added", change: "changed", keep: "as it was", remove: "removed" } as const;
  for (const { providerId, action } of changes)
    note(`${providerId}: ${action === "keep" ? "" : would}${words[action]}`);
}

export function changesFor({
  wanted,
  providers,
  isPruning,
}: {
  wanted: readonly ProviderSettings[];
  providers: readonly ProviderRow[];
  isPruning: boolean;
}): readonly Change[] {
  const changes = wanted.map((settings): Change => {
    const { providerId } = settings;
    const before = providers.find((row) => row.providerId === providerId);
    if (before === undefined) return { providerId, action: "add" };
    const isSame = canonical(settingsOfRow(before)) === canonical(settings);
    return { providerId, action: isSame ? "keep" : "change" };
  });
  const kept = new Set(wanted.map(({ providerId }) => providerId));
  const gone = providers.filter(({ providerId }) => !kept.has(providerId));
  return [...changes, ...(isPruning ? gone.map(({ providerId }): Change => ({ providerId, action: "remove" })) : [])];
}

/** Fields in one order: how they came to be in an object tells nothing. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([left], [right]) => (left < right ? -1 : 1)))
      : inner,
  );
}

function readProviders(file: string): readonly ProviderSettings[] {
  const text = readInput(file, KIND);
  const parsed = parseProviderFile(parsedText(file, text));
  if (parsed.ok) return parsed.value;
  throw new CliError(`${file}: ${parsed.reason.message}`, {
    exitCode: EXIT.usage,
    code: parsed.reason.code,
    fix: KIND.fix,
  });
}

/** JSON begins with a brace, and TOML never does. */
function parsedText(file: string, text: string): unknown {
  try {
    return /^\s*\{/.test(text) ? JSON.parse(text) : parseToml(text);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new CliError(`${file} is neither TOML nor JSON: ${said}`, {
      exitCode: EXIT.usage,
      code: "provider-file-invalid",
      fix: KIND.fix,
      cause,
    });
  }
}
