/** The providers' part of the Store port's contract. */
import { expect, test } from "vitest";
import { modelId } from "../../src/domain/ids.ts";
import type { ProviderSpec } from "../../src/domain/provider.ts";
import type { Store } from "../../src/ports/store.ts";

export function aProvider(providerId: string, fields: Partial<ProviderSpec> = {}): ProviderSpec {
  return {
    providerId,
    name: `Provider "${providerId}" ü`,
    baseUrl: "https://api.example.com/v1",
    credential: { kind: "environment", variable: "EXAMPLE_KEY" },
    regions: ["eu", "us-east"],
    dataPolicy: { collectsData: false, isZeroRetention: true },
    requestsPerMinuteMax: 60,
    tokensPerMinuteMax: null,
    concurrencyMax: 8,
    models: [
      {
        modelId: modelId("meta/llama-3:8b"),
        upstreamModel: "llama-3-8b-instruct",
        cost: { inputMicroUsdPerMtok: 100_000, outputMicroUsdPerMtok: 200_000 },
        price: { inputMicroUsdPerMtok: 110_000, outputMicroUsdPerMtok: 220_000 },
        contextTokensMax: 131_072,
        outputTokensMax: null,
        quantisation: "fp8",
        abilities: null,
      },
    ],
    isEnabled: true,
    addedAtMs: 1_700_000_000_000,
    ...fields,
  };
}

export function describeProviderContract(store: () => Store, reopen: () => Promise<void>): void {
  test("a provider is kept with every field as given, and listed by id", async () => {
    const [model] = aProvider("b").models;
    if (model === undefined) throw new Error("the sample has a model");
    const abilities = {
      streams: true,
      reportsUsage: false,
      tools: true,
      jsonSchema: false,
      logprobs: true,
      seed: false,
      rawPrompt: true,
      continuesAssistant: true,
      wantsContinueFlag: true,
      tokensField: "max_completion_tokens" as const,
      probedAtMs: 5,
    };
    const probed = aProvider("b", {
      credential: { kind: "secret", name: "b" },
      models: [model, { ...model, modelId: modelId("other"), outputTokensMax: 4_096, abilities }],
    });
    const bare = aProvider("a", { credential: null, regions: [], models: [], isEnabled: false });
    await store().providers.put(probed);
    await store().providers.put(bare);
    await reopen();
    expect(await store().providers.list()).toEqual([bare, probed]);
    expect(await store().providers.get("b")).toEqual(probed);
    expect(await store().providers.get("c")).toBeNull();
  });

  test("a provider that is put again is replaced, and one that is removed is gone", async () => {
    await store().providers.put(aProvider("a"));
    const changed = aProvider("a", { isEnabled: false, models: [], addedAtMs: 7 });
    await store().providers.put(changed);
    expect(await store().providers.list()).toEqual([changed]);
    expect(await store().providers.remove("a")).toBe(true);
    expect(await store().providers.remove("a")).toBe(false);
    await reopen();
    expect(await store().providers.list()).toEqual([]);
  });
}
