/** `fallow providers list|show|enable|disable|remove`. */
import { doneSchema } from "../../coordinator/admin/admin-schemas.ts";
import {
  type ProviderRow,
  providerAnswerSchema,
  providerListSchema,
} from "../../coordinator/admin/provider-schemas.ts";
import { counted, fields, formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { note, printJson, printText } from "../terminal.ts";
import { abilitiesText, pathOf } from "./provider-calls.ts";
import { usd } from "./tables.ts";

export async function listProviders(options: GlobalOptions): Promise<void> {
  const { providers } = await connectGrid(options).json("/admin/v1/providers", providerListSchema);
  if (options.json === true) return printJson({ providers });
  printText(
    table(
      [
        { title: "PROVIDER" },
        { title: "STATE" },
        { title: "REGIONS", dropOrder: 2 },
        { title: "MODELS", isRight: true },
        { title: "RUNNING", isRight: true, dropOrder: 1 },
        { title: "DONE", isRight: true },
        { title: "FAILED", isRight: true },
        { title: "COST USD", isRight: true },
        { title: "FIRST TOKEN", isRight: true, dropOrder: 3 },
      ],
      providers.map((provider) => [
        provider.providerId,
        stateOf(provider),
        provider.regions.join(",") || "unknown",
        String(provider.models.length),
        `${provider.numbers.running}/${provider.concurrencyMax}`,
        String(provider.numbers.succeeded),
        String(failedOf(provider)),
        usd(provider.numbers.costMicroUsd),
        msText(provider.health.firstTokenMsP50),
      ]),
      "there is no cloud provider; `fallow providers add --help` says how to name one",
    ),
  );
}

export async function showProvider(providerId: string, options: GlobalOptions): Promise<void> {
  const { provider } = await connectGrid(options).json(pathOf(providerId), providerAnswerSchema);
  if (options.json === true) return printJson({ provider });
  const { health, numbers } = provider;
  const failures = numbers.failed.map(({ failure, count }) => `${failure} ${count}`).join(", ");
  printText(
    fields([
      ["provider", `${provider.providerId} (${provider.name})`],
      ["address", provider.baseUrl],
      ["key", keyText(provider)],
      ["regions", provider.regions.join(", ") || "unknown: no rule about regions lets it in"],
      ["data", dataText(provider)],
      ["limits", limitsText(provider)],
      ["state", stateOf(provider)],
      ...(health.lastFailure === null ? [] : [["last failure", health.lastFailure] as const]),
      ["speed", `first token ${msText(health.firstTokenMsP50)}, ${speedText(health.tokPerSecondP50)}`],
      [
        "requests",
        `${numbers.succeeded} done, ${numbers.cancelled} cancelled, ${failedOf(provider)} failed${failures === "" ? "" : ` (${failures})`}`,
      ],
      [
        "tokens",
        `${numbers.promptTokens} prompt, ${numbers.outputTokens} output, ${usd(numbers.costMicroUsd)} USD since the start`,
      ],
    ]),
  );
  printText("\n");
  printText(modelTable(provider));
}

export async function enableProvider(providerId: string, isEnabled: boolean, options: GlobalOptions): Promise<void> {
  const call = { method: "POST", body: { isEnabled } } as const;
  const { provider } = await connectGrid(options).json(`${pathOf(providerId)}/enabled`, providerAnswerSchema, call);
  if (options.json === true) return printJson({ provider });
  note(`${providerId} is ${isEnabled ? "enabled" : "disabled"}`);
}

export async function removeProvider(providerId: string, options: GlobalOptions): Promise<void> {
  await connectGrid(options).json(pathOf(providerId), doneSchema, { method: "DELETE" });
  if (options.json === true) return printJson({ providerId, action: "remove" });
  note(`${providerId} is removed`);
}

function modelTable({ models }: ProviderRow): string {
  return table(
    [
      { title: "MODEL" },
      { title: "THERE", dropOrder: 1 },
      { title: "COST IN/OUT", isRight: true },
      { title: "PRICE IN/OUT", isRight: true },
      { title: "CONTEXT", isRight: true, dropOrder: 2 },
      { title: "ABILITIES" },
    ],
    models.map(({ modelId, upstreamModel, cost, price, contextTokensMax, abilities }) => [
      modelId,
      upstreamModel,
      perMtok(cost),
      perMtok(price),
      String(contextTokensMax),
      abilities === null ? "not probed" : abilitiesText(abilities),
    ]),
    "it offers no model",
  );
}

function stateOf({ isEnabled, health }: ProviderRow): string {
  if (!isEnabled) return "disabled";
  if (!health.hasCredential) return "no key";
  if (health.breaker === "closed") return health.freeSlots > 0 ? "ready" : "busy";
  return health.opensAgainAtMs === null ? "failing, on trial" : `failing until ${formatTime(health.opensAgainAtMs)}`;
}

function keyText({ credential, health }: ProviderRow): string {
  if (credential === null) return "none needed";
  const where =
    credential.kind === "environment" ? `environment variable ${credential.variable}` : `secret ${credential.name}`;
  return `${where}${health.hasCredential ? "" : " (not there)"}`;
}

function dataText({ dataPolicy }: ProviderRow): string {
  if (dataPolicy.isZeroRetention) return "keeps nothing";
  return dataPolicy.collectsData ? "keeps or trains on what it is sent" : "neither keeps nor trains on what it is sent";
}

function limitsText({ requestsPerMinuteMax, tokensPerMinuteMax, concurrencyMax }: ProviderRow): string {
  const perMinute = (limit: number | null, noun: string) => (limit === null ? `any ${noun}s` : counted(limit, noun));
  return `${perMinute(requestsPerMinuteMax, "request")} and ${perMinute(tokensPerMinuteMax, "token")} per minute, ${concurrencyMax} at once`;
}

function failedOf({ numbers }: ProviderRow): number {
  return numbers.failed.reduce((sum, { count }) => sum + count, 0);
}

function perMtok({
  inputMicroUsdPerMtok,
  outputMicroUsdPerMtok,
}: {
  inputMicroUsdPerMtok: number;
  outputMicroUsdPerMtok: number;
}): string {
  return `${inputMicroUsdPerMtok / 1e6}/${outputMicroUsdPerMtok / 1e6}`;
}

function msText(ms: number | null): string {
  return ms === null ? "-" : `${Math.round(ms)} ms`;
}

function speedText(tokPerSecond: number | null): string {
  return tokPerSecond === null ? "no speed yet" : `${tokPerSecond.toFixed(1)} tokens/s`;
}
