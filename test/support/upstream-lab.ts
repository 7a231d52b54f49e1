/** The real adapter to cloud providers against a hostile server, with keys and a log that a test can look into. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { CredentialBook } from "../../src/adapters/cloud-openai/credential-book.ts";
import { OpenAiUpstream, type OpenAiUpstreamOptions } from "../../src/adapters/cloud-openai/openai-upstream.ts";
import { modelId } from "../../src/domain/ids.ts";
import type { ProviderAbilities, ProviderModel, ProviderSpec } from "../../src/domain/provider.ts";
import type { CloudForm, CloudRun } from "../../src/ports/cloud.ts";
import type { UpstreamCall, UpstreamEvent } from "../../src/ports/cloud-upstream.ts";
import type { Log, LogFields } from "../../src/ports/log.ts";

export const SECRET = "sk-proj-Zq8vT1nW4xYb6Lm0";
export const SECRET_VARIABLE = "UPSTREAM_LAB_KEY";

export interface UpstreamLab {
  readonly upstream: OpenAiUpstream;
  readonly home: string;
  /** Every line of the log, as JSON. */
  readonly logged: readonly string[];
  call(call: Partial<UpstreamCall> & { readonly baseUrl: string }, onEvent: (event: UpstreamEvent) => void): CloudRun;
  /** All events up to the last one. */
  ask(call: Partial<UpstreamCall> & { readonly baseUrl: string }): Promise<readonly UpstreamEvent[]>;
  close(): Promise<void>;
}

export const CHAT: CloudForm = { kind: "chat", body: { messages: [{ role: "user", content: "Say hello" }] } };

export function aModel(abilities: Partial<ProviderAbilities> | null = null): ProviderModel {
  const all: ProviderAbilities = {
    streams: true,
    reportsUsage: true,
    tools: true,
    jsonSchema: true,
    logprobs: true,
    seed: true,
    rawPrompt: true,
    continuesAssistant: true,
    probedAtMs: 1,
  };
  return {
    modelId: modelId("ours"),
    upstreamModel: "theirs",
    cost: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
    price: { inputMicroUsdPerMtok: 1_100_000, outputMicroUsdPerMtok: 2_200_000 },
    contextTokensMax: 8_192,
    outputTokensMax: null,
    quantisation: null,
    abilities: abilities === null ? null : { ...all, ...abilities },
  };
}

export function aSpec(baseUrl: string, fields: Partial<ProviderSpec> = {}): ProviderSpec {
  return {
    providerId: "acme",
    name: "Acme",
    baseUrl,
    credential: { kind: "environment", variable: SECRET_VARIABLE },
    regions: ["eu"],
    dataPolicy: { collectsData: false, isZeroRetention: false },
    requestsPerMinuteMax: null,
    tokensPerMinuteMax: null,
    concurrencyMax: 8,
    models: [aModel()],
    isEnabled: true,
    addedAtMs: 1,
    ...fields,
  };
}

export function openUpstreamLab(options: Partial<OpenAiUpstreamOptions> = {}): UpstreamLab {
  const home = mkdtempSync(join(tmpdir(), "fallow-upstream-"));
  const logged: string[] = [];
  const clock = new SystemClock();
  const environment = { [SECRET_VARIABLE]: SECRET };
  const credentials = new CredentialBook({ environment, secretsPath: join(home, "secrets.json"), clock });
  const upstream = new OpenAiUpstream({ credentials, privateHosts: [], clock, log: keptLog(logged), ...options });
  const call: UpstreamLab["call"] = ({ baseUrl, ...given }, onEvent) => {
    const { providerId, credential } = aSpec(baseUrl);
    const provider = { providerId, baseUrl, credential };
    const usual = { provider, model: aModel(), form: CHAT, tokensMax: 64, firstTokenMsMax: 20_000, totalMsMax: 30_000 };
    return upstream.call({ ...usual, ...given }, onEvent);
  };
  return {
    upstream,
    home,
    logged,
    call,
    ask: (asked) =>
      new Promise((resolve) => {
        const events: UpstreamEvent[] = [];
        call(asked, (event) => {
          events.push(event);
          if (event.kind === "end" || event.kind === "failed") resolve(events);
        });
      }),
    close: async () => {
      await upstream.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

export function keptLog(lines: string[]): Log {
  const keep = (level: string) => (fields: LogFields, event: string) =>
    void lines.push(JSON.stringify({ level, event, ...fields }));
  const log: Log = {
    debug: keep("debug"),
    info: keep("info"),
    warn: keep("warn"),
    error: keep("error"),
    child: () => log,
  };
  return log;
}

export function textOf(events: readonly UpstreamEvent[], choice = 0): string {
  return events.map((event) => (event.kind === "text" && event.choice === choice ? event.text : "")).join("");
}
