import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  HYBRID_MODES,
  type KeyPreferences,
  NO_PREFERENCES,
  type PreferenceWords,
  type RoutePreferences,
} from "../../domain/preferences.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import { mergePreferences } from "./merge-preferences.ts";
import { hybridOf } from "./route-rules.ts";

interface Said {
  readonly body?: PreferenceWords;
  readonly headers?: PreferenceWords;
  readonly key?: Partial<KeyPreferences>;
  readonly tier?: ServiceTier;
}

function merged(said: Said): RoutePreferences {
  const outcome = tried(said);
  if (!outcome.ok) throw new Error(`refused: ${outcome.reason.message}`);
  return outcome.value;
}

function tried({ body = {}, headers = {}, key, tier = "default" }: Said) {
  const rules = key?.rules ?? null;
  const defaults = key?.defaults ?? null;
  return mergePreferences({ body, headers, key: key === undefined ? null : { rules, defaults }, tier });
}

function refusalOf(said: Said): string {
  const outcome = tried(said);
  return outcome.ok ? "taken" : `${outcome.reason.param}: ${outcome.reason.message}`;
}

describe("preferences of a request", () => {
  test("without a word are none", () => {
    expect(merged({})).toEqual(NO_PREFERENCES);
    expect(merged({ body: { provider: null, grid: null }, key: {} })).toEqual(NO_PREFERENCES);
  });

  test("are the body's over the headers' over the key's defaults, each cap of a price for itself", () => {
    const said: Said = {
      body: { grid: { regions: ["eu"] }, provider: { max_price: { prompt: 0.1 } } },
      headers: {
        grid: { regions: ["us"], trust_min: 0.5 },
        provider: { max_price: { prompt: 9, completion: "0.29" } },
      },
      key: { defaults: { grid: { trust_min: 0.9, deadline_s: 1.5 }, provider: { max_price: { request: 0.000001 } } } },
    };
    expect(merged(said)).toMatchObject({
      regions: ["eu"],
      trustMin: 0.5,
      deadlineMs: 1_500,
      maxPrice: { promptMicroUsdPerMtok: 100_000, completionMicroUsdPerMtok: 290_000, requestMicroUsd: 1 },
    });
  });

  test("that name a cloud provider allow the cloud", () => {
    expect(merged({ body: { provider: { only: ["far"] } } }).hybrid).toBe("cloud-only");
    expect(merged({ body: { provider: { only: ["far", "grid"] } } }).hybrid).toBe("cloud-fallback");
    expect(merged({ body: { provider: { order: ["far"] } } }).hybrid).toBe("cloud-fallback");
    expect(merged({ body: { provider: { order: ["grid"] } } }).hybrid).toBeNull();
    expect(merged({ body: { provider: { order: ["far"] }, grid: { hybrid: "grid-only" } } }).hybrid).toBe("grid-only");
  });
});

describe("a key's rules", () => {
  const rules: PreferenceWords = {
    provider: { ignore: ["far"], data_collection: "deny", max_price: { prompt: 2 } },
    grid: { regions: ["eu", "home"], max_cost_usd: 0.5, trust_min: 0.6, hybrid: "prefer-grid" },
  };

  test("hold for a request that says nothing", () => {
    expect(merged({ key: { rules } })).toMatchObject({
      ignore: ["far"],
      dataCollection: "deny",
      regions: ["eu", "home"],
      maxCostMicroUsd: 500_000,
      trustMin: 0.6,
      hybrid: "grid-only",
    });
  });

  test("are narrowed by a request, never widened", () => {
    const body: PreferenceWords = {
      provider: { data_collection: "allow", max_price: { prompt: 50 } },
      grid: { regions: ["us", "eu"], max_cost_usd: 3, trust_min: 0.7, hybrid: "cloud-fallback" },
    };
    expect(merged({ body, key: { rules } })).toMatchObject({
      dataCollection: "deny",
      regions: ["eu"],
      maxCostMicroUsd: 500_000,
      trustMin: 0.7,
      hybrid: "prefer-grid",
      maxPrice: { promptMicroUsdPerMtok: 2_000_000 },
    });
  });

  test("refuse what they leave nothing of, naming both", () => {
    expect(refusalOf({ body: { grid: { regions: ["us"] } }, key: { rules } })).toContain('["us"] and this key\'s rule');
    const cloud = refusalOf({ body: { grid: { hybrid: "cloud-only" } }, key: { rules } });
    expect(cloud).toContain("grid.hybrid 'cloud-only' and the rule 'prefer-grid'");
    const out = refusalOf({ body: { grid: { exclude_regions: ["eu", "home"] } }, key: { rules } });
    expect(out).toContain("grid.regions and grid.exclude_regions contradict each other (with the rules of this key)");
  });

  test("are kept by whatever a request says, for drawn words", () => {
    const region = fc.constantFrom("eu", "us", "home");
    const lists = { minLength: 1, maxLength: 3 };
    const words = fc.record({
      provider: fc.record({
        only: fc.option(fc.uniqueArray(fc.constantFrom("grid", "far", "near"), lists)),
        ignore: fc.option(fc.uniqueArray(fc.constantFrom("grid", "far", "near"), lists)),
        zdr: fc.option(fc.boolean()),
        allow_fallbacks: fc.option(fc.boolean()),
        quantizations: fc.option(fc.uniqueArray(fc.constantFrom("q8_0", "FP16"), lists)),
        max_price: fc.record({ prompt: fc.option(fc.integer({ min: 0, max: 5 })) }),
      }),
      grid: fc.record({
        regions: fc.option(fc.uniqueArray(region, lists)),
        exclude_regions: fc.option(fc.uniqueArray(region, lists)),
        max_cost_usd: fc.option(fc.integer({ min: 0, max: 5 })),
        deadline_s: fc.option(fc.integer({ min: 1, max: 5 })),
        trust_min: fc.option(fc.constantFrom(0.1, 0.5)),
        hybrid: fc.option(fc.constantFrom(...HYBRID_MODES)),
      }),
    });
    const tier = fc.constantFrom<ServiceTier[]>("priority", "default", "flex");
    fc.assert(
      fc.property(words, words, words, tier, (body, defaults, drawn, drawnTier) => {
        const alone = tried({ body: drawn, tier: drawnTier });
        const outcome = tried({ body, key: { defaults, rules: drawn }, tier: drawnTier });
        if (!alone.ok || !outcome.ok) return;
        const [rule, kept] = [alone.value, outcome.value];
        const within = (a: readonly string[] | null, b: readonly string[] | null) =>
          b === null || a?.every((name) => b.includes(name)) === true;
        expect(within(kept.regions, rule.regions)).toBe(true);
        expect(within(kept.only, rule.only)).toBe(true);
        expect(within(kept.quantisations, rule.quantisations)).toBe(true);
        expect(within(rule.ignore, kept.ignore)).toBe(true);
        expect(within(rule.excludedRegions, kept.excludedRegions)).toBe(true);
        expect(kept.maxCostMicroUsd ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(
          rule.maxCostMicroUsd ?? Number.POSITIVE_INFINITY,
        );
        expect(kept.deadlineMs ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(
          rule.deadlineMs ?? Number.POSITIVE_INFINITY,
        );
        expect(kept.trustMin ?? 0).toBeGreaterThanOrEqual(rule.trustMin ?? 0);
        expect(kept.requiresZeroRetention || !rule.requiresZeroRetention).toBe(true);
        expect(!kept.allowFallbacks || rule.allowFallbacks).toBe(true);
        if (rule.hybrid === "grid-only") expect(hybridOf(drawnTier, kept)).toBe("grid-only");
        if (rule.hybrid === "cloud-only") expect(hybridOf(drawnTier, kept)).toBe("cloud-only");
      }),
      { numRuns: 500 },
    );
  });
});

describe("contradictions are refused with both names", () => {
  test.each<[string, PreferenceWords, string, string]>([
    [
      "the same providers only and ignored",
      { provider: { only: ["a"], ignore: ["a"] } },
      "provider.only",
      "provider.ignore",
    ],
    [
      "an order of which nothing may be used",
      { provider: { order: ["a"], only: ["b"], allow_fallbacks: false } },
      "provider.order",
      "provider.only",
    ],
    [
      "an order that is ignored",
      { provider: { order: ["a"], ignore: ["a"], allow_fallbacks: false } },
      "provider.order",
      "provider.ignore",
    ],
    [
      "a region in both lists",
      { grid: { regions: ["eu", "us"], exclude_regions: ["us"] } },
      "grid.regions",
      "grid.exclude_regions",
    ],
    [
      "the cloud only on own nodes",
      { grid: { hybrid: "cloud-only", confidentiality: "own-nodes" } },
      "grid.hybrid",
      "grid.confidentiality",
    ],
    [
      "the cloud only, of the grid",
      { grid: { hybrid: "cloud-only" }, provider: { only: ["grid"] } },
      "grid.hybrid",
      "provider.only",
    ],
    [
      "the grid only, elsewhere",
      { grid: { hybrid: "grid-only" }, provider: { only: ["far"] } },
      "grid.hybrid",
      "provider.only",
    ],
    [
      "the grid only, ignored",
      { grid: { hybrid: "grid-only" }, provider: { ignore: ["grid"] } },
      "grid.hybrid",
      "provider.ignore",
    ],
  ])("%s", (_, body, first, second) => {
    const refusal = refusalOf({ body });
    expect(refusal).toContain(first);
    expect(refusal).toContain(second);
    expect(refusal).toContain("contradict each other");
  });

  test("one of several that is ignored leaves the others", () => {
    expect(merged({ body: { provider: { only: ["a", "b"], ignore: ["a"] } } }).only).toEqual(["a", "b"]);
  });
});

test("what nobody here can keep is refused by its name, also where a key's rule asks for it", () => {
  expect(refusalOf({ body: { grid: { confidentiality: "tee" } } })).toContain("grid.confidentiality 'tee'");
  expect(refusalOf({ body: { grid: { verification: "sampled" } } })).toContain("grid.verification 'sampled'");
  expect(refusalOf({ key: { rules: { grid: { verification: "full" } } } })).toContain("grid.verification 'full'");
});

test("a rule of cloud-only sends a request that says nothing to the cloud, and priority stays within prefer-grid", () => {
  expect(merged({ key: { rules: { grid: { hybrid: "cloud-only" } } } }).hybrid).toBe("cloud-only");
  expect(merged({ tier: "priority", key: { rules: { grid: { hybrid: "prefer-grid" } } } }).hybrid).toBe("prefer-grid");
});
