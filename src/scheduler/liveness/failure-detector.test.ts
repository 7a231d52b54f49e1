import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIVENESS } from "../../domain/node.ts";
import { bornPulse, credited, heard, judged, LOOK_NOISE_MS, ownPauseMs, type Pulse } from "./failure-detector.ts";

const PLANNED_MS = LIVENESS.checkMs;

describe("the failure detector", () => {
  test("goes from alive over suspect to dead by silence alone", () => {
    const pulse = bornPulse(1_000);
    expect(judged(pulse, 1_000 + LIVENESS.suspectMs - 1, LIVENESS).verdict).toBe("alive");
    expect(judged(pulse, 1_000 + LIVENESS.suspectMs, LIVENESS).verdict).toBe("suspect");
    expect(judged(pulse, 1_000 + LIVENESS.deadMs, LIVENESS).verdict).toBe("dead");
  });

  test("takes a suspicion back when a message arrives, and never a death", () => {
    const suspect = judged(bornPulse(0), LIVENESS.suspectMs, LIVENESS);
    expect(heard(suspect, 2_600).verdict).toBe("alive");
    const dead = judged(bornPulse(0), LIVENESS.deadMs, LIVENESS);
    expect(() => heard(dead, 5_000)).toThrow(/must hold/);
  });

  test("keeps the stated bounds: looked at every check interval, silence is suspected within 3 s and dead within 5 s", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: PLANNED_MS, noNaN: true }), (phaseMs) => {
        let pulse = bornPulse(0);
        let suspectedAtMs: number | null = null;
        for (let nowMs = phaseMs; ; nowMs += PLANNED_MS) {
          pulse = judged(pulse, nowMs, LIVENESS);
          if (pulse.verdict === "suspect") suspectedAtMs ??= nowMs;
          if (pulse.verdict !== "dead") continue;
          expect(suspectedAtMs).toBeLessThanOrEqual(3_000);
          expect(nowMs).toBeLessThanOrEqual(5_000);
          return;
        }
      }),
    );
  });

  test("never gets better by looking, however often", () => {
    const worse = { alive: 0, suspect: 1, dead: 2 };
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 8_000, noNaN: true }), { maxLength: 30 }), (looksMs) => {
        let pulse = bornPulse(0);
        for (const nowMs of looksMs.toSorted((a, b) => a - b)) {
          const next = judged(pulse, nowMs, LIVENESS);
          expect(worse[next.verdict]).toBeGreaterThanOrEqual(worse[pulse.verdict]);
          pulse = next;
        }
      }),
    );
  });

  test("blames nobody for the watcher's own pause, and credits no more than that pause", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2_000 }),
        fc.integer({ min: LOOK_NOISE_MS, max: 3_600_000 }),
        (silentMs, pauseMs) => {
          const pulse: Pulse = { lastHeardMs: 10_000 - silentMs, verdict: "alive" };
          const nowMs = 10_000 + PLANNED_MS + pauseMs;
          const pausedMs = ownPauseMs({ lastLookMs: 10_000, nowMs, plannedMs: PLANNED_MS });
          expect(pausedMs).toBe(pauseMs);
          const after = credited(pulse, pausedMs, nowMs);
          expect(nowMs - after.lastHeardMs).toBe(silentMs + PLANNED_MS);
          expect(judged(after, nowMs, LIVENESS).verdict).toBe(
            silentMs + PLANNED_MS >= LIVENESS.suspectMs ? "suspect" : "alive",
          );
        },
      ),
    );
  });

  test("takes ordinary lateness of a timer for no pause, so that lateness cannot hide a silent node", () => {
    expect(ownPauseMs({ lastLookMs: 0, nowMs: PLANNED_MS + LOOK_NOISE_MS - 1, plannedMs: PLANNED_MS })).toBe(0);
  });
});
