import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { asked, BUSY, cloud, GRID, price } from "../../../test/support/route-samples.ts";
import { microUsd } from "../../domain/money.ts";
import { HYBRID_MODES, type RoutePreferences } from "../../domain/preferences.ts";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import { chooseRoute, nameOf } from "./choose-route.ts";
import type { GridFacts, RouteQuestion } from "./route-question.ts";
import { hybridIn, mostOf } from "./route-rules.ts";

const region = fc.constantFrom("eu", "us", "asia");
const name = fc.constantFrom("a", "b", "c", "grid");
const preferences: fc.Arbitrary<RoutePreferences> = fc.record({
  order: fc.option(fc.uniqueArray(name), { nil: null }),
  only: fc.option(fc.uniqueArray(name, { minLength: 1 }), { nil: null }),
  ignore: fc.uniqueArray(name, { maxLength: 2 }),
  allowFallbacks: fc.boolean(),
  sort: fc.constantFrom(null, "price", "throughput", "latency"),
  maxPrice: fc.record({
    promptMicroUsdPerMtok: fc.option(fc.nat(1_000_000), { nil: null }),
    completionMicroUsdPerMtok: fc.option(fc.nat(1_000_000), { nil: null }),
    requestMicroUsd: fc.option(fc.nat(5_000).map(microUsd), { nil: null }),
  }),
  quantisations: fc.option(fc.uniqueArray(fc.constantFrom("fp8", "q8_0", "fp16"), { minLength: 1 }), { nil: null }),
  dataCollection: fc.constantFrom("allow", "deny"),
  requiresZeroRetention: fc.boolean(),
  regions: fc.option(fc.uniqueArray(region, { minLength: 1 }), { nil: null }),
  excludedRegions: fc.uniqueArray(region, { maxLength: 1 }),
  deadlineMs: fc.constant(null),
  maxCostMicroUsd: fc.option(fc.nat(5_000).map(microUsd), { nil: null }),
  confidentiality: fc.constantFrom("public", "public", "public", "own-nodes"),
  verification: fc.constant("none"),
  hybrid: fc.constantFrom(null, ...HYBRID_MODES),
  trustMin: fc.constant(null),
  wantsReceipt: fc.constant(false),
});
const tokenPrice = fc.tuple(fc.nat(1_000_000), fc.nat(1_000_000)).map(([input, output]) => price(input, output));
const drawnCloud = (id: string) =>
  fc
    .record({
      regions: fc.uniqueArray(region, { maxLength: 2 }),
      collectsData: fc.boolean(),
      isZeroRetention: fc.boolean(),
      price: tokenPrice,
      quantisation: fc.constantFrom(null, "fp8", "fp16"),
      contextTokensMax: fc.constantFrom(1_000, 1_500, 32_768),
      freeSlots: fc.nat(2),
      breaker: fc.constantFrom("closed", "closed", "open", "half-open"),
    })
    .map(({ regions, collectsData, isZeroRetention, freeSlots, breaker, ...model }) =>
      cloud({
        id,
        spec: { regions, dataPolicy: { collectsData, isZeroRetention } },
        model,
        health: { freeSlots, breaker, retryAfterMs: freeSlots === 0 ? 1_000 : 0 },
      }),
    );
const question: fc.Arbitrary<RouteQuestion> = fc
  .record({
    tier: fc.constantFrom(...SERVICE_TIERS),
    preferences,
    grid: fc.option(
      fc.record({ price: tokenPrice, firstTokenMs: fc.nat(5_000), isBusy: fc.boolean() }).map(
        ({ price: asks, firstTokenMs, isBusy }): GridFacts => ({
          ...GRID,
          price: asks,
          outlook: { ...GRID.outlook, firstTokenMs, refusal: isBusy ? BUSY : null },
        }),
      ),
      { nil: null },
    ),
    clouds: fc.tuple(drawnCloud("a"), drawnCloud("b"), drawnCloud("c")),
  })
  .map((drawn) => asked(drawn));

describe("for any wishes and any facts", () => {
  test("nobody is asked who breaks a hard rule", () => {
    fc.assert(
      fc.property(question, (drawn) => {
        const decision = chooseRoute(drawn);
        if (!decision.ok) return;
        const { preferences: wish, clouds } = drawn;
        const hybrid = hybridIn(drawn);
        expect(wish.confidentiality).toBe("public");
        for (const candidate of decision.candidates) {
          const who = nameOf(candidate);
          expect(candidate.kind === "cloud" ? hybrid : "prefer-grid").not.toBe("grid-only");
          expect(candidate.kind === "grid" ? hybrid : "prefer-grid").not.toBe("cloud-only");
          expect(wish.ignore).not.toContain(who);
          if (wish.only !== null) expect(wish.only).toContain(who);
          const { promptMicroUsdPerMtok, completionMicroUsdPerMtok, requestMicroUsd } = wish.maxPrice;
          expect(candidate.price.inputMicroUsdPerMtok).toBeLessThanOrEqual(promptMicroUsdPerMtok ?? 1e9);
          expect(candidate.price.outputMicroUsdPerMtok).toBeLessThanOrEqual(completionMicroUsdPerMtok ?? 1e9);
          expect(candidate.mostMicroUsd).toBeLessThanOrEqual(requestMicroUsd ?? 1e9);
          const facts = clouds.find(({ spec }) => spec.providerId === who);
          if (facts === undefined) continue;
          const { regions, dataPolicy } = facts.spec;
          if (wish.regions !== null) {
            expect(regions.length).toBeGreaterThan(0);
            for (const one of regions) expect(wish.regions).toContain(one);
          }
          for (const one of wish.excludedRegions) expect(regions).not.toContain(one);
          if (wish.dataCollection === "deny") expect(dataPolicy.collectsData).toBe(false);
          if (wish.requiresZeroRetention) expect(dataPolicy.isZeroRetention).toBe(true);
          if (wish.quantisations !== null) expect(wish.quantisations).toContain(facts.model.quantisation);
          expect(facts.model.contextTokensMax).toBeGreaterThanOrEqual(1_500);
          expect([facts.health.breaker === "open", facts.health.freeSlots]).not.toEqual([true, 0]);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("what is held covers every candidate and is never above the caller's bound; everybody is asked or named as a loser", () => {
    fc.assert(
      fc.property(question, (drawn) => {
        const decision = chooseRoute(drawn);
        const { preferences: wish, grid, clouds, request } = drawn;
        const everybody = [...(grid === null ? [] : ["grid"]), ...clouds.map(({ spec }) => spec.providerId)].sort();
        const named = decision.ok ? decision.candidates.map(nameOf) : [];
        expect([...named, ...decision.losers.map(({ who }) => who)].sort()).toEqual(everybody);
        if (!decision.ok) return;
        for (const candidate of decision.candidates) {
          expect(decision.holdMicroUsd).toBeGreaterThanOrEqual(mostOf(request, candidate.price));
        }
        expect(decision.holdMicroUsd).toBeLessThanOrEqual(wish.maxCostMicroUsd ?? 1e12);
        if (!wish.allowFallbacks) expect(decision.candidates).toHaveLength(1);
      }),
      { numRuns: 1_000 },
    );
  });

  test("the order in which providers are listed changes nothing", () => {
    fc.assert(
      fc.property(question, (drawn) => {
        const turned = chooseRoute({ ...drawn, clouds: [...drawn.clouds].reverse() });
        const straight = chooseRoute(drawn);
        const way = (decision: typeof turned) => (decision.ok ? decision.candidates.map(nameOf) : decision.reason.code);
        expect(way(turned)).toEqual(way(straight));
      }),
    );
  });
});
