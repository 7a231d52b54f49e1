import { describe, expect, test } from "vitest";
import { PREFERENCE_HEADERS } from "../../../wire/openai/preferences.ts";
import { askedTerms } from "./asked-terms.ts";

const FULL = {
  "x-grid-tier": "flex",
  "x-grid-regions": "eu, home",
  "x-grid-exclude-regions": "us",
  "x-grid-deadline-s": "2.5",
  "x-grid-max-cost-usd": "0.01",
  "x-grid-confidentiality": "own-nodes",
  "x-grid-verification": "none",
  "x-grid-hybrid": "grid-only",
  "x-grid-trust-min": "0.5",
  "x-grid-receipt": "true",
  "x-provider-order": "grid",
  "x-provider-only": "grid,far",
  "x-provider-ignore": "near",
  "x-provider-allow-fallbacks": "false",
  "x-provider-require-parameters": "true",
  "x-provider-data-collection": "deny",
  "x-provider-zdr": "true",
  "x-provider-quantizations": "Q8_0",
  "x-provider-sort": "latency",
  "x-provider-max-price-prompt": "1",
  "x-provider-max-price-completion": "2.5",
  "x-provider-max-price-request": "0.5",
};

function asked(headers: Record<string, string>, body = {}) {
  return askedTerms(body, { headers: new Headers(headers), key: null });
}

describe("headers", () => {
  test("say all that a body can", () => {
    expect(Object.keys(FULL)).toEqual(PREFERENCE_HEADERS);
    expect(asked(FULL)).toEqual({
      ok: true,
      value: {
        tier: "flex",
        preferences: {
          order: ["grid"],
          only: ["grid", "far"],
          ignore: ["near"],
          allowFallbacks: false,
          sort: "latency",
          maxPrice: {
            promptMicroUsdPerMtok: 1_000_000,
            completionMicroUsdPerMtok: 2_500_000,
            requestMicroUsd: 500_000,
          },
          quantisations: ["q8_0"],
          dataCollection: "deny",
          requiresZeroRetention: true,
          regions: ["eu", "home"],
          excludedRegions: ["us"],
          deadlineMs: 2_500,
          maxCostMicroUsd: 10_000,
          confidentiality: "own-nodes",
          verification: "none",
          hybrid: "grid-only",
          trustMin: 0.5,
          wantsReceipt: true,
        },
      },
    });
  });

  test("give way to the body", () => {
    const outcome = asked(FULL, { service_tier: "priority", grid: { regions: ["home"] } });
    expect(outcome).toMatchObject({ ok: true, value: { tier: "priority", preferences: { regions: ["home"] } } });
  });

  test.each([
    ["x-grid-region", "eu", "header 'x-grid-region' is not supported"],
    ["x-provider-price", "1", "header 'x-provider-price' is not supported"],
    ["x-grid-regions", "EU", "header x-grid-regions: parameter 'grid.regions[0]' is \"EU\""],
    ["x-grid-deadline-s", "soon", "header x-grid-deadline-s: "],
    ["x-grid-receipt", "yes", "header x-grid-receipt: "],
    ["x-grid-max-cost-usd", "1e9", "header x-grid-max-cost-usd: "],
    ["x-provider-sort", "fastest", '"price", "throughput", "latency"'],
    ["x-grid-tier", "gold", '"auto", "default", "flex", "priority"'],
  ])("%s: %s is refused by name", (name, value, message) => {
    const outcome = asked({ [name]: value });
    expect(outcome).toMatchObject({ ok: false, reason: { param: name } });
    expect(outcome.ok ? "" : outcome.reason.message).toContain(message);
  });

  test("of others are nobody's business", () => {
    expect(asked({ "x-forwarded-for": "1.2.3.4", "x-stainless-os": "Linux" })).toMatchObject({ ok: true });
  });
});
