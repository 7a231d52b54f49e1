import { describe, expect, test } from "vitest";
import {
  AVOID_MAX_MS,
  asChainTrouble,
  CHAIN_CHANGES_MAX,
  chainPauseMs,
  decideFailover,
  ENGINE_DEATHS_MAX,
  isEngineDeath,
  isRetry,
  RETRIES_MAX,
  TROUBLES_MAX,
  type Trouble,
} from "./failover.ts";

const FIRST = { troubles: 1, retries: 1, engineDeaths: 0, requestFaults: 0, chainChanges: 0 };
const failed = (code: string): Trouble => ({ kind: "failed", code, message: "because" });

describe("decideFailover", () => {
  test.each([
    [{ kind: "node-gone", detail: "" }, "node-lost", 0],
    [{ kind: "node-suspect", detail: "" }, "node-lost", 0],
    [{ kind: "node-yielded", detail: "" }, "moved", 0],
    [{ kind: "stalled", detail: "" }, "moved", 500],
    [{ kind: "lease-expired", detail: "" }, "timed-out", 500],
    [{ kind: "spoilt", detail: "" }, "failed", 500],
    [failed("engine-crashed"), "failed", 500],
    [failed("replica-not-ready"), "failed", 500],
    [failed("yield"), "moved", 2_000],
    [failed("a code that nobody knows"), "failed", 500],
  ] as const)("%o moves the stream", (trouble, ending, avoidNodeMs) => {
    expect(decideFailover(trouble, FIRST)).toEqual({ kind: "move", ending, avoidNodeMs });
  });

  test.each(["grammar-invalid", "context-exceeded", "token-out-of-vocabulary"])(
    "%s is the request's own fault once a second attempt finds it too: one node may lie",
    (code) => {
      expect(decideFailover(failed(code), { ...FIRST, requestFaults: 1 }).kind).toBe("move");
      const decision = decideFailover(failed(code), {
        troubles: 2,
        retries: 2,
        engineDeaths: 0,
        requestFaults: 2,
        chainChanges: 0,
      });
      expect(decision).toMatchObject({ kind: "give-up", reason: { code: "invalid-request", retryAfterMs: null } });
    },
  );

  test("a deadline that passed on the node ends the stream as such", () => {
    const decision = decideFailover(failed("deadline-exceeded"), FIRST);
    expect(decision).toMatchObject({ kind: "give-up", ending: "timed-out", reason: { code: "deadline-exceeded" } });
  });

  test("a node is avoided longer after each trouble, up to a bound", () => {
    const avoided = Array.from({ length: TROUBLES_MAX }, (_, at) => {
      const decision = decideFailover({ kind: "stalled", detail: "" }, { ...FIRST, troubles: at + 1 });
      return decision.kind === "move" ? decision.avoidNodeMs : null;
    });
    expect(avoided).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, AVOID_MAX_MS, AVOID_MAX_MS]);
  });

  test("gives up after the bound of troubles, or of dead engines", () => {
    const gone: Trouble = { kind: "node-gone", detail: "" };
    expect(decideFailover(gone, { ...FIRST, troubles: TROUBLES_MAX + 1 }).kind).toBe("give-up");
    const dead = decideFailover(failed("engine-crashed"), { ...FIRST, troubles: 3, engineDeaths: ENGINE_DEATHS_MAX });
    expect(dead).toMatchObject({ kind: "give-up", reason: { code: "upstream-lost" } });
  });

  test("a chain that changes is nobody's fault: the stream waits for it, longer and longer, up to a bound", () => {
    const lost = asChainTrouble(failed("chain-broken"));
    expect(lost).toMatchObject({ kind: "chain-changed" });
    expect(asChainTrouble(failed("engine-crashed"))).toEqual(failed("engine-crashed"));
    expect(isRetry(lost)).toBe(false);
    const counts = { ...FIRST, troubles: 0, chainChanges: CHAIN_CHANGES_MAX };
    expect(decideFailover(lost, counts)).toEqual({ kind: "move", ending: "moved", avoidNodeMs: 0 });
    expect(decideFailover(lost, { ...counts, chainChanges: CHAIN_CHANGES_MAX + 1 }).kind).toBe("give-up");
    expect([1, 2, 3, 4, 5, 64].map(chainPauseMs)).toEqual([0, 0, 50, 100, 200, 1_000]);
  });

  test("gives up after three retries, and does not count moves off nodes and engines that died", () => {
    const stalled: Trouble = { kind: "stalled", detail: "" };
    expect(decideFailover(stalled, { ...FIRST, retries: RETRIES_MAX }).kind).toBe("move");
    const decision = decideFailover(stalled, { ...FIRST, retries: RETRIES_MAX + 1 });
    expect(decision).toMatchObject({ kind: "give-up", reason: { code: "upstream-lost" } });
    expect([stalled, failed("engine-overloaded"), failed("grammar-invalid")].map(isRetry)).toEqual([true, true, true]);
    const moves: readonly Trouble[] = [{ kind: "node-gone", detail: "" }, failed("yield"), failed("engine-crashed")];
    expect(moves.map(isRetry)).toEqual([false, false, false]);
  });

  test("only an engine's own end counts as its death", () => {
    expect(isEngineDeath(failed("engine-hung"))).toBe(true);
    expect(isEngineDeath(failed("engine-closed"))).toBe(false);
    expect(isEngineDeath({ kind: "node-gone", detail: "" })).toBe(false);
  });
});
