/** What the commands about providers ask the grid for, and words that several of them use. */
import { type ProviderRow, providerAnswerSchema } from "../../coordinator/admin/provider-schemas.ts";
import { type ProviderSettings, providerSettingsSchema } from "../../wire/provider-settings.ts";
import { CliError } from "../cli-error.ts";
import type { GridClient } from "../grid-client.ts";

export function settingsOfRow(row: ProviderRow): ProviderSettings {
  const { health: _, numbers: __, addedAtMs: ___, models, ...rest } = row;
  return providerSettingsSchema.parse({ ...rest, models: models.map(({ abilities: ____, ...model }) => model) });
}

export async function putProvider(grid: GridClient, settings: ProviderSettings): Promise<ProviderRow> {
  const call = { method: "PUT", body: settings } as const;
  return (await grid.json(pathOf(settings.providerId), providerAnswerSchema, call)).provider;
}

export async function findProvider(grid: GridClient, providerId: string): Promise<ProviderRow | null> {
  try {
    return (await grid.json(pathOf(providerId), providerAnswerSchema)).provider;
  } catch (thrown) {
    if (thrown instanceof CliError && thrown.code === "not_found") return null;
    throw thrown;
  }
}

export function missingKey({ providerId, credential }: ProviderRow): string {
  const where =
    credential?.kind === "environment"
      ? `the environment variable ${credential.variable} is not set where the grid runs`
      : `secrets.json of the grid's home has no ${credential?.name ?? "key"}`;
  return `${providerId} has no key yet: ${where}`;
}

export function pathOf(providerId: string): string {
  return `/admin/v1/providers/${encodeURIComponent(providerId)}`;
}

const ABILITY_WORDS = [
  ["streams", "streams"],
  ["reportsUsage", "usage"],
  ["tools", "tools"],
  ["jsonSchema", "json-schema"],
  ["logprobs", "logprobs"],
  ["seed", "seed"],
  ["rawPrompt", "raw-prompt"],
  ["continuesAssistant", "continues"],
] as const;

export function abilitiesText(abilities: NonNullable<ProviderRow["models"][number]["abilities"]>): string {
  const there = ABILITY_WORDS.filter(([ability]) => abilities[ability]).map(([, word]) => word);
  return there.length === 0 ? "none" : there.join(" ");
}
