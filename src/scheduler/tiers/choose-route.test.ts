import { describe, expect, test } from "vitest";
import { type Asked, asked, BUSY, cloud, GRID, price } from "../../../test/support/route-samples.ts";
import { microUsd } from "../../domain/money.ts";
import { NO_PRICE_CAPS, type RoutePreferences } from "../../domain/preferences.ts";
import { chooseRoute, nameOf } from "./choose-route.ts";
import type { CloudFacts, RequestNeeds } from "./route-question.ts";

function wayOf(question: Asked): readonly string[] {
  const decision = chooseRoute(asked(question));
  return decision.ok ? decision.candidates.map(nameOf) : [];
}

function refusalOf(question: Asked) {
  const decision = chooseRoute(asked(question));
  if (decision.ok) throw new Error(`it goes to ${decision.candidates.map(nameOf).join(", ")}`);
  return { ...decision.reason, losers: decision.losers };
}

describe("without a word", () => {
  test.each([
    ["priority", ["grid", "acme"]],
    ["default", ["grid"]],
    ["flex", ["grid"]],
  ] as const)("%s runs on %s", (tier, way) => {
    expect(wayOf({ tier })).toEqual(way);
  });

  test("a model that the grid does not have runs where it is, whatever the tier; a word against the cloud still holds", () => {
    for (const tier of ["default", "flex"] as const) {
      expect(wayOf({ tier, grid: null })).toEqual(["acme"]);
      expect(wayOf({ tier, grid: null, preferences: { hybrid: "grid-only" } })).toEqual([]);
    }
  });

  test("a grid that would be late comes last for priority, and stays first for who only prefers it", () => {
    const late = { ...GRID, outlook: { ...GRID.outlook, firstTokenMs: 2_001 } };
    expect(wayOf({ grid: late })).toEqual(["acme", "grid"]);
    expect(wayOf({ grid: late, preferences: { hybrid: "prefer-grid" } })).toEqual(["grid", "acme"]);
  });

  test("a grid that refuses is left out, and its own word is the refusal when nobody else may", () => {
    const grid = { ...GRID, outlook: { ...GRID.outlook, refusal: BUSY } };
    expect(wayOf({ grid })).toEqual(["acme"]);
    const refusal = refusalOf({ grid, tier: "default" });
    expect(refusal).toMatchObject({ code: "queue-full", retryAfterMs: 4_000 });
    expect(refusal.message).toContain("prefer-grid");
    expect(refusal.message).toContain("4.0 s");
  });
});

test("a refusal names the field that keeps a request off the grid, where nothing else may run it", () => {
  const preferences = { maxCostMicroUsd: microUsd(1) };
  expect(refusalOf({ tier: "flex", preferences }).param).toBe("grid.max_cost_usd");
  const anywhere = { ...preferences, hybrid: "cloud-fallback", ignore: ["acme"] } as const;
  expect(refusalOf({ tier: "flex", preferences: anywhere }).param).toBeNull();
});

describe("each hard rule keeps out whoever breaks it, by its name and with the values", () => {
  const rules: readonly (readonly [string, Partial<RoutePreferences>, string, RegExp])[] = [
    ["hybrid", { hybrid: "grid-only" }, "grid.hybrid", /grid-only/],
    ["only", { only: ["other"] }, "provider.only", /other/],
    ["ignore", { ignore: ["acme"] }, "provider.ignore", /acme/],
    ["regions", { regions: ["us", "asia"] }, "grid.regions", /us, asia/],
    ["excluded regions", { excludedRegions: ["eu"] }, "grid.exclude_regions", /eu/],
    ["data collection", { dataCollection: "deny" }, "provider.data_collection", /deny/],
    ["zero retention", { requiresZeroRetention: true }, "provider.zdr", /zdr/],
    ["quantisations", { quantisations: ["fp16"] }, "provider.quantizations", /fp16/],
    [
      "prompt price",
      { maxPrice: { ...NO_PRICE_CAPS, promptMicroUsdPerMtok: 499_999 } },
      "provider.max_price",
      /0\.499999/,
    ],
    [
      "completion price",
      { maxPrice: { ...NO_PRICE_CAPS, completionMicroUsdPerMtok: 899_999 } },
      "provider.max_price",
      /0\.899999/,
    ],
    [
      "request price",
      { maxPrice: { ...NO_PRICE_CAPS, requestMicroUsd: microUsd(100) } },
      "provider.max_price",
      /0\.000100/,
    ],
    ["cost", { maxCostMicroUsd: microUsd(100) }, "grid.max_cost_usd", /0\.000100/],
    ["confidentiality", { confidentiality: "tee" }, "grid.confidentiality", /tee/],
    ["verification", { verification: "full" }, "grid.verification", /full/],
  ];
  const lax = cloud({ spec: { dataPolicy: { collectsData: true, isZeroRetention: false } } });

  test.each(rules)("%s", (_, preferences, rule, values) => {
    expect(wayOf({ grid: null, clouds: [lax], preferences: { hybrid: "cloud-fallback" } })).toEqual(["acme"]);
    const refusal = refusalOf({ grid: null, clouds: [lax], preferences: { hybrid: "cloud-fallback", ...preferences } });
    expect(refusal.losers).toMatchObject([{ who: "acme", rule }]);
    expect(refusal.message).toMatch(values);
    expect(refusal.retryAfterMs).toBeNull();
  });

  const needs: readonly (readonly [string, Partial<RequestNeeds>, Partial<CloudFacts["model"]>, string])[] = [
    ["context", { promptTokensLikely: 32_500 }, {}, "context"],
    ["length of the answer", {}, { outputTokensMax: 499 }, "context"],
    ["tools", { hasTools: true }, { abilities: null }, "ability"],
    ["JSON", { hasJson: true }, { abilities: null }, "ability"],
    ["raw prompts", { kind: "completion" }, { abilities: null }, "ability"],
    ["logprobs", { hasLogprobs: true }, {}, "ability"],
    ["token ids", { hasTokenIds: true }, {}, "ability"],
  ];
  test.each(needs)("%s", (_, request, model, rule) => {
    const refusal = refusalOf({ grid: null, clouds: [cloud({ model })], request });
    expect(refusal.losers).toMatchObject([{ who: "acme", rule }]);
    expect(refusal.code).toBe(rule === "context" ? "context-length-exceeded" : "unsupported-parameter");
  });

  test("a region that is not known is in none, allowed or excluded", () => {
    const nowhere = [cloud({ spec: { regions: [] } })];
    expect(refusalOf({ grid: null, clouds: nowhere, preferences: { regions: ["eu"] } }).code).toBe("no-capable-node");
    expect(wayOf({ grid: null, clouds: nowhere, preferences: { excludedRegions: ["us"] } })).toEqual([]);
  });

  test("a provider that may compute inside and outside of the allowed regions is outside", () => {
    const both = [cloud({ spec: { regions: ["eu", "us"] } })];
    expect(wayOf({ grid: null, clouds: both, preferences: { regions: ["eu"] } })).toEqual([]);
  });
});

describe("who cannot begin at this moment", () => {
  test("is told with the time after which to ask again, the least of all", () => {
    const open = cloud({ id: "a", health: { breaker: "open", opensAgainAtMs: 1_007_000, lastFailure: "503" } });
    const full = cloud({ id: "b", health: { freeSlots: 0, retryAfterMs: 3_000 } });
    const refusal = refusalOf({ grid: null, clouds: [open, full] });
    expect(refusal).toMatchObject({ code: "no-capacity", retryAfterMs: 3_000 });
    expect(refusal.message).toContain("503");
    expect(refusalOf({ grid: null, clouds: [full], tier: "flex", preferences: { hybrid: "cloud-only" } }).code).toBe(
      "resource-unavailable",
    );
  });

  test("keeps its place where fallbacks are not allowed: nobody else is asked instead", () => {
    const full = cloud({ id: "a", health: { freeSlots: 0, retryAfterMs: 3_000 } });
    const preferences = { order: ["a", "acme"], allowFallbacks: false } as const;
    expect(refusalOf({ grid: null, clouds: [full, cloud()], preferences }).losers).toMatchObject([
      { who: "acme", rule: "provider.allow_fallbacks" },
      { who: "a", rule: "capacity" },
    ]);
  });

  test("without a key, or switched off, is out", () => {
    const clouds = [
      cloud({ id: "a", health: { hasCredential: false } }),
      cloud({ id: "b", spec: { isEnabled: false } }),
    ];
    expect(refusalOf({ grid: null, clouds }).losers.map(({ rule }) => rule)).toEqual(["not-ready", "not-ready"]);
  });
});

describe("the order", () => {
  const cheap = cloud({
    id: "cheap",
    model: { price: price(1_000, 1_000) },
    health: { firstTokenMsP50: 900, tokPerSecondP50: 10 },
  });
  const quick = cloud({ id: "quick", health: { firstTokenMsP50: 50, tokPerSecondP50: 20 } });
  const rapid = cloud({ id: "rapid", health: { firstTokenMsP50: null, tokPerSecondP50: 200 } });
  const clouds = [rapid, quick, cheap];
  test.each([
    ["as named, then the rest by price", { order: ["rapid", "grid"] }, ["rapid", "grid", "cheap", "quick"]],
    ["by price", { sort: "price" }, ["cheap", "grid", "quick", "rapid"]],
    ["by latency, unknown last", { sort: "latency" }, ["quick", "grid", "cheap", "rapid"]],
    ["by throughput, unknown last", { sort: "throughput" }, ["rapid", "quick", "cheap", "grid"]],
    ["only the first", { sort: "price", allowFallbacks: false }, ["cheap"]],
    ["cloud only", { hybrid: "cloud-only" }, ["cheap", "quick", "rapid"]],
  ] as const)("%s", (_, preferences, way) => {
    expect(wayOf({ clouds, preferences })).toEqual(way);
  });

  test("ends where the caller's bound of cost would be passed by going on elsewhere", () => {
    const maxCostMicroUsd = microUsd(960);
    const dearPrompt = cloud({ id: "prompt", model: { price: price(900_000, 0) } });
    const dearAnswer = cloud({ id: "answer", model: { price: price(0, 1_800_000) } });
    const ways = { grid: null, clouds: [dearPrompt, dearAnswer], preferences: { maxCostMicroUsd } };
    expect(wayOf({ ...ways, preferences: {} })).toEqual(["answer", "prompt"]);
    expect(wayOf(ways)).toEqual(["answer"]);
  });
});
