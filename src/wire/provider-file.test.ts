import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseProviderFile, pricedWithMargin, priceOfUsd } from "./provider-file.ts";
import { settingsOf, specOf } from "./provider-settings.ts";

const MODEL = { id: "acme/large", cost_in_usd: 0.15, cost_out_usd: 0.6 };
const ACME = { id: "acme", base_url: "https://api.acme.example/v1/", models: [MODEL] };

describe("the providers file", () => {
  test("gives the usual values for what it leaves out", () => {
    expect(parseProviderFile({ providers: [ACME] })).toEqual({
      ok: true,
      value: [
        {
          providerId: "acme",
          name: "acme",
          baseUrl: "https://api.acme.example/v1",
          credential: null,
          regions: [],
          dataPolicy: { collectsData: true, isZeroRetention: false },
          requestsPerMinuteMax: null,
          tokensPerMinuteMax: null,
          concurrencyMax: 32,
          isEnabled: true,
          models: [
            {
              modelId: "acme/large",
              upstreamModel: "acme/large",
              cost: { inputMicroUsdPerMtok: 150_000, outputMicroUsdPerMtok: 600_000 },
              price: { inputMicroUsdPerMtok: 150_000, outputMicroUsdPerMtok: 600_000 },
              contextTokensMax: 8_192,
              outputTokensMax: null,
              quantisation: null,
            },
          ],
        },
      ],
    });
  });

  test("a named price counts before the margin", () => {
    const models = [{ ...MODEL, price_out_usd: 2 }];
    const parsed = parseProviderFile({ providers: [{ ...ACME, margin_percent: 10, models }] });
    const price = { inputMicroUsdPerMtok: 165_000, outputMicroUsdPerMtok: 2_000_000 };
    expect(parsed).toMatchObject({ ok: true, value: [{ models: [{ price }] }] });
  });

  test("a provider of whose data nobody said anything is taken for one that collects it", () => {
    const policies = [{}, { collects_data: false }, { zero_retention: true }].map((said) => {
      const parsed = parseProviderFile({ providers: [{ ...ACME, ...said }] });
      return parsed.ok ? parsed.value[0]?.dataPolicy.collectsData : null;
    });
    expect(policies).toEqual([true, false, false]);
  });

  test.each([
    [{ providers: [] }, /providers/],
    [{ providers: [{ ...ACME, key: "sk-secret" }] }, /providers\[0\]\.key/],
    [{ providers: [{ ...ACME, key_env: "A", key_secret: "b" }] }, /not both/],
    [{ providers: [{ ...ACME, id: "grid" }] }, /own nodes/],
    [{ providers: [{ ...ACME, id: "A B" }] }, /lower-case/],
    [{ providers: [ACME, ACME] }, /in the file twice/],
    [{ providers: [{ ...ACME, models: [MODEL, MODEL] }] }, /twice under the same id/],
    [{ providers: [{ ...ACME, models: [{ ...MODEL, cost_in_usd: -1 }] }] }, /cost_in_usd/],
    [{ providers: [{ ...ACME, regions: ["Europe!"] }] }, /regions/],
    [{ providers: [{ ...ACME, collects_data: true, zero_retention: true }] }, /keep nothing/],
    ["text", /providers file/],
  ])("%j is refused with the place and the rule", (value, why) => {
    const parsed = parseProviderFile(value);
    expect(parsed.ok ? "" : parsed.reason.message).toMatch(why);
  });
});

test("law: a margin never makes a price smaller, and is at least what was asked for", () => {
  const anyCost = fc.record({
    inputUsd: fc.double({ min: 0, max: 900, noNaN: true }),
    outputUsd: fc.double({ min: 0, max: 900, noNaN: true }),
  });
  fc.assert(
    fc.property(anyCost, fc.double({ min: 0, max: 10, noNaN: true }), (usd, margin) => {
      const cost = priceOfUsd(usd);
      const price = pricedWithMargin(cost, margin);
      for (const side of ["inputMicroUsdPerMtok", "outputMicroUsdPerMtok"] as const) {
        expect(Number.isSafeInteger(price[side])).toBe(true);
        expect(price[side]).toBeGreaterThanOrEqual(cost[side]);
        expect(price[side] - cost[side]).toBeGreaterThanOrEqual(
          Math.floor((cost[side] * Math.round(margin * 100)) / 10_000),
        );
      }
    }),
  );
});

test("settings become a spec and come back as they were; a probed model keeps its abilities where nothing changed", () => {
  const parsed = parseProviderFile({ providers: [ACME] });
  const [settings] = parsed.ok ? parsed.value : [];
  if (settings === undefined) throw new Error("the sample is a good file");
  const first = specOf(settings, null, 7);
  expect(first.addedAtMs).toBe(7);
  expect(settingsOf(first)).toEqual(settings);
  const abilities = {
    streams: true,
    reportsUsage: true,
    tools: true,
    jsonSchema: true,
    logprobs: true,
    seed: true,
    rawPrompt: true,
    continuesAssistant: false,
    probedAtMs: 1,
  };
  const probed = { ...first, models: first.models.map((model) => ({ ...model, abilities })) };
  expect(specOf(settings, probed, 9)).toEqual(probed);
  expect(specOf({ ...settings, baseUrl: "https://other.example/v1" }, probed, 9).models[0]?.abilities).toBeNull();
});
