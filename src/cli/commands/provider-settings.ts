/** `fallow providers add` and `set`: what the flags name, laid over what the provider has. */
import { providerAnswerSchema } from "../../coordinator/admin/provider-schemas.ts";
import { dataPolicyOf, PROVIDER_DEFAULTS, pricedWithMargin } from "../../wire/provider-file.ts";
import {
  type ProviderModelSettings,
  type ProviderSettings,
  providerSettingsSchema,
} from "../../wire/provider-settings.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import type { ProviderFlags } from "../program-providers.ts";
import { note, printJson } from "../terminal.ts";
import { findProvider, missingKey, pathOf, putProvider, settingsOfRow } from "./provider-calls.ts";
import { parseModelFlag } from "./provider-model.ts";
import { probeAndTell } from "./provider-probe.ts";

export interface AddProviderOptions extends GlobalOptions, ProviderFlags {
  readonly probe?: boolean;
}

export async function addProvider(
  { providerId, address }: { providerId: string; address: string },
  options: AddProviderOptions,
): Promise<void> {
  const grid = connectGrid(options);
  const known = await findProvider(grid, providerId);
  if (known !== null) {
    throw new CliError(`there is a provider ${providerId} already`, {
      exitCode: EXIT.refused,
      code: "provider-exists",
      fix: `change it with \`fallow providers set ${providerId}\`, or choose another name`,
    });
  }
  const models = (options.model ?? []).map((text) => parseModelFlag(text, options));
  if (models.length === 0) {
    throw new CliError("no model is named: a provider without one serves nothing", {
      exitCode: EXIT.usage,
      code: "usage",
      fix: "add --model OUR-ID=THEIR-ID@IN/OUT, with USD per million tokens",
    });
  }
  const settings = checked({
    providerId,
    name: options.name ?? providerId,
    baseUrl: address.replace(/\/+$/, ""),
    credential: credentialOf(options) ?? null,
    regions: [...(options.region ?? [])],
    dataPolicy: dataPolicyOf({ collectsData: options.collectsData, isZeroRetention: options.zeroRetention }),
    requestsPerMinuteMax: limitOf(options.rpm) ?? null,
    tokensPerMinuteMax: limitOf(options.tpm) ?? null,
    concurrencyMax: options.concurrency ?? PROVIDER_DEFAULTS.concurrencyMax,
    models,
    isEnabled: true,
  });
  const provider = await putProvider(grid, settings);
  if (!provider.health.hasCredential) note(missingKey(provider));
  if (options.json === true) printJson({ provider });
  else note(`${providerId} is added, with ${models.map(({ modelId }) => modelId).join(", ")}`);
  if (options.probe === false) return;
  await probeAndTell({ grid, providerId, models: undefined }, options);
}

export interface SetProviderOptions extends GlobalOptions, ProviderFlags {
  readonly address?: string;
  readonly keyless?: boolean;
  readonly removeModel?: readonly string[];
}

export async function setProvider(providerId: string, options: SetProviderOptions): Promise<void> {
  const grid = connectGrid(options);
  const before = settingsOfRow((await grid.json(pathOf(providerId), providerAnswerSchema)).provider);
  const credential = options.keyless === true ? null : credentialOf(options);
  const settings = checked({
    ...before,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.address === undefined ? {} : { baseUrl: options.address.replace(/\/+$/, "") }),
    ...(credential === undefined ? {} : { credential }),
    ...(options.region === undefined ? {} : { regions: [...options.region] }),
    dataPolicy: {
      collectsData: options.collectsData ?? (options.zeroRetention === true ? false : before.dataPolicy.collectsData),
      isZeroRetention:
        options.zeroRetention ?? (options.collectsData === true ? false : before.dataPolicy.isZeroRetention),
    },
    ...(options.rpm === undefined ? {} : { requestsPerMinuteMax: limitOf(options.rpm) ?? null }),
    ...(options.tpm === undefined ? {} : { tokensPerMinuteMax: limitOf(options.tpm) ?? null }),
    ...(options.concurrency === undefined ? {} : { concurrencyMax: options.concurrency }),
    models: modelsAfter(before.models, options),
  });
  const provider = await putProvider(grid, settings);
  if (!provider.health.hasCredential) note(missingKey(provider));
  if (options.json === true) return printJson({ provider });
  note(`${providerId} is changed`);
}

function modelsAfter(before: readonly ProviderModelSettings[], options: SetProviderOptions): ProviderModelSettings[] {
  const named = (options.model ?? []).map((text) => parseModelFlag(text, options));
  const gone = new Set([...(options.removeModel ?? []), ...named.map(({ modelId }) => String(modelId))]);
  const unknown = (options.removeModel ?? []).find((id) => !before.some(({ modelId }) => modelId === id));
  if (unknown !== undefined) {
    throw new CliError(`it offers no model ${unknown}`, {
      exitCode: EXIT.usage,
      code: "usage",
      fix: `it offers ${before.map(({ modelId }) => modelId).join(", ")}`,
    });
  }
  const { margin } = options;
  const kept = before.filter(({ modelId }) => !gone.has(modelId));
  const repriced = kept.map((model) =>
    margin === undefined ? model : { ...model, price: pricedWithMargin(model.cost, margin) },
  );
  return [...repriced, ...named];
}

/** Undefined: the flags say nothing of it. */
function credentialOf({ keyEnv, keySecret }: ProviderFlags): ProviderSettings["credential"] | undefined {
  if (keyEnv !== undefined && keySecret !== undefined) {
    throw new CliError("--key-env and --key-secret name two keys", {
      exitCode: EXIT.usage,
      code: "usage",
      fix: "name one of them",
    });
  }
  if (keyEnv !== undefined) return { kind: "environment", variable: keyEnv };
  return keySecret === undefined ? undefined : { kind: "secret", name: keySecret };
}

function limitOf(limit: number | "none" | undefined): number | null | undefined {
  return limit === "none" ? null : limit;
}

/** The same rules as the grid's, told before anything is sent. */
function checked(settings: ProviderSettings): ProviderSettings {
  const parsed = providerSettingsSchema.safeParse(settings);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CliError(`${issue?.path.join(".") ?? "the provider"}: ${issue?.message ?? "does not fit"}`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: "see `fallow providers add --help`",
  });
}
