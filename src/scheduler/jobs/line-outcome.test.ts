import { describe, expect, test } from "vitest";
import { BARREN_CAREFUL, BARREN_CLAIMS_MAX, chunkCare, LINE_TRIES_MAX, lineOutcome, waitMs } from "./line-outcome.ts";

const answer = (status: number, code: string | null = null, triesBefore = 0) => ({
  ...{ status, code, triesBefore },
  param: null,
});

describe("a line that was answered", () => {
  test("has its result when it succeeded, or when the fault is its own", () => {
    expect(lineOutcome(answer(200))).toEqual({ kind: "result", isOk: true, isSetAside: false });
    expect(lineOutcome(answer(400, "invalid_request"))).toEqual({ kind: "result", isOk: false, isSetAside: false });
    expect(lineOutcome(answer(404, "model_not_found"))).toMatchObject({ kind: "result", isOk: false });
  });

  test.each([
    "no_capable_node",
    "queue_full",
    "resource_unavailable",
    "insufficient_quota",
    "draining",
    "deadline_exceeded",
  ])("waits without counting a try after %s, however often", (code) => {
    expect(lineOutcome(answer(503, code, LINE_TRIES_MAX))).toEqual({ kind: "wait", code });
  });

  test("waits for a region, and has its result when its price or policy keeps everybody out for good", () => {
    const refusal = (param: string) => lineOutcome({ ...answer(503, "no_capable_node"), param });
    expect(refusal("grid.regions")).toEqual({ kind: "wait", code: "no_capable_node" });
    expect(refusal("grid.max_cost_usd")).toEqual({ kind: "result", isOk: false, isSetAside: false });
    expect(refusal("provider.max_price")).toMatchObject({ kind: "result" });
  });

  test("is tried again after a fault, later each time, and set aside at its last try", () => {
    const outcomes = Array.from({ length: LINE_TRIES_MAX }, (_, tries) =>
      lineOutcome(answer(502, "upstream_lost", tries)),
    );
    expect(outcomes.slice(0, -1).map(({ kind }) => kind)).toEqual(Array(LINE_TRIES_MAX - 1).fill("retry"));
    const delays = outcomes.flatMap((outcome) => (outcome.kind === "retry" ? [outcome.delayMs] : []));
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    expect(outcomes.at(-1)).toEqual({ kind: "result", isOk: false, isSetAside: true });
  });

  test("that we cancelled ourselves is dropped", () => {
    expect(lineOutcome(answer(499, "request_cancelled"))).toEqual({ kind: "dropped" });
  });
});

test("a batch that nothing can run for asks seldom, and never gives up", () => {
  const waits = Array.from({ length: 60 }, (_, at) => waitMs(at + 1));
  expect(waits[0]).toBe(250);
  expect(waits.at(-1)).toBe(15_000);
  expect(waits).toEqual([...waits].sort((a, b) => a - b));
});

test("a chunk that brings nothing is run with care, and in the end without its first line", () => {
  expect(chunkCare(1)).toBe("normal");
  expect(chunkCare(BARREN_CAREFUL + 1)).toBe("one-at-a-time");
  expect(chunkCare(BARREN_CLAIMS_MAX + 1)).toBe("set-first-aside");
});
