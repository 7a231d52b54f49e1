import { expect, test } from "vitest";
import { refuse } from "../../../domain/refusal.ts";
import { CLOUD_FAILURES, type CloudFailure } from "../../../ports/cloud.ts";
import { cloudRefusal, mayMove } from "./leg-refusal.ts";

const failed = (failure: CloudFailure) => ({
  kind: "failed" as const,
  failure,
  message: "it said no",
  retryAfterMs: failure === "rate-limited" ? 2_000 : null,
});

test.each([
  ["queue-full", true],
  ["no-capacity", true],
  ["no-capable-node", true],
  ["resource-unavailable", true],
  ["upstream-lost", true],
  ["invalid-request", false],
  ["context-length-exceeded", false],
  ["deadline-exceeded", false],
  ["draining", false],
] as const)("a grid that refuses with %s may hand the request on: %s", (code, isMovable) => {
  expect(mayMove(refuse(code, "why").reason)).toBe(isMovable);
});

test("every failure of a provider names it, and in mid-stream is a loss, whatever it was", () => {
  for (const failure of CLOUD_FAILURES) {
    expect(cloudRefusal("acme", failed(failure), false).message).toBe("cloud provider acme: it said no");
    expect(cloudRefusal("acme", failed(failure), true).code).toBe("upstream-lost");
  }
});

test("before the first token the caller is told whether it is the request, the moment or the provider", () => {
  expect(cloudRefusal("acme", failed("rejected"), false).code).toBe("invalid-request");
  expect(cloudRefusal("acme", failed("rate-limited"), false)).toMatchObject({
    code: "no-capacity",
    retryAfterMs: 2_000,
  });
  expect(cloudRefusal("acme", failed("bad-certificate"), false).code).toBe("upstream-lost");
});
