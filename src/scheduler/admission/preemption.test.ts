import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { leaseId } from "../../domain/ids.ts";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import { choosePreemption, PREEMPTIONS_MAX, type PreemptionCandidate, preemptionCostMs } from "./preemption.ts";

const lease = (number: number) => leaseId(`lease_${String(number).padStart(26, "0")}`);
const candidate = (number: number, change: Partial<PreemptionCandidate> = {}): PreemptionCandidate => ({
  leaseId: lease(number),
  tier: "flex",
  preemptions: 0,
  hasProgress: true,
  lostWorkMs: 100,
  reloadBytes: 0,
  restMs: 10_000,
  ...change,
});
const chosen = (...candidates: readonly PreemptionCandidate[]) => choosePreemption(candidates)?.leaseId ?? null;

describe("who gives a slot up", () => {
  test("flex before default, however much the flex stream loses", () => {
    const flex = candidate(1, { lostWorkMs: 9_000 });
    expect(chosen(candidate(2, { tier: "default", lostWorkMs: 1 }), flex)).toBe(lease(1));
  });

  test("never priority", () => {
    expect(chosen(candidate(1, { tier: "priority", lostWorkMs: 0 }))).toBeNull();
  });

  test("of default tasks the one with the newest checkpoint, unless carrying it costs more", () => {
    const old = candidate(1, { tier: "default", lostWorkMs: 240_000, restMs: 1e7 });
    const fresh = candidate(2, { tier: "default", lostWorkMs: 5_000, restMs: 1e7 });
    expect(chosen(old, fresh)).toBe(lease(2));
    const heavy = candidate(3, { tier: "default", lostWorkMs: 1_000, reloadBytes: 10e9, restMs: 1e7 });
    expect(preemptionCostMs(heavy)).toBe(801_000);
    expect(chosen(old, heavy)).toBe(lease(1));
  });

  test("nobody who was moved too often, has no progress, or is over sooner than it would be back", () => {
    expect(chosen(candidate(1, { preemptions: PREEMPTIONS_MAX }))).toBeNull();
    expect(chosen(candidate(1, { hasProgress: false }))).toBeNull();
    expect(chosen(candidate(1, { restMs: 100 }))).toBeNull();
    expect(chosen(candidate(1, { restMs: 101 }))).toBe(lease(1));
  });

  test("law: the order of the candidates changes nothing, and no choice costs less within its tier", () => {
    const anyCandidate = fc.record({
      tier: fc.constantFrom(...SERVICE_TIERS),
      preemptions: fc.nat(3),
      hasProgress: fc.boolean(),
      lostWorkMs: fc.nat(3),
      reloadBytes: fc.constantFrom(0, 12_500),
      restMs: fc.nat(6),
    });
    fc.assert(
      fc.property(fc.array(anyCandidate, { maxLength: 8 }), (drawn) => {
        const all = drawn.map((one, at) => candidate(at, one));
        expect(choosePreemption([...all].reverse())).toEqual(choosePreemption(all));
        const best = all.find((one) => one.leaseId === chosen(...all));
        if (best === undefined) return;
        const cheaper = all.filter(
          (one) =>
            one.tier === best.tier &&
            choosePreemption([one]) !== null &&
            preemptionCostMs(one) < preemptionCostMs(best),
        );
        expect(cheaper).toEqual([]);
      }),
    );
  });
});

describe("background work", () => {
  test("gives its slot up before anybody else, however often it did and whatever it loses", () => {
    const background = candidate(1, {
      isBackground: true,
      preemptions: 99,
      hasProgress: false,
      lostWorkMs: 1e6,
      restMs: 1,
    });
    expect(chosen(candidate(2, { lostWorkMs: 1 }), background)).toBe(lease(1));
    expect(chosen(background)).toBe(lease(1));
  });
});
