import { expect, test } from "vitest";
import { keyId, modelId, requestId, sha256Hex } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import type { Observation, RequestAsked } from "../observation.ts";
import { RuleChecker } from "./rules.ts";

const REQUEST = requestId(`req_${"0".repeat(26)}`);
const DIGEST = sha256Hex("0".repeat(64));

function checker() {
  const broken: string[] = [];
  const rules = new RuleChecker({
    report: ({ law, what }) => broken.push(`${law}: ${what}`),
    regionOf: (node) => (node === "node-0" ? "eu" : null),
  });
  return { broken, tell: (...observations: Observation[]) => observations.forEach((one) => void rules.observe(one)) };
}

function asked(regions: readonly string[] | null): Observation {
  const request: RequestAsked = {
    terms: {
      requestId: REQUEST,
      requestSha256: DIGEST,
      modelId: modelId("m"),
      weightsSha256: DIGEST,
      tier: "default",
      price: { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 0 },
      deadlineMs: 1_000,
      ...(regions === null ? {} : { constraints: { regions, trustMin: null, priceMicroUsdPerHourMax: null } }),
    },
    choices: 1,
    promptTokens: 1,
    tokensMax: 1,
    keyId: keyId(`key_${"0".repeat(26)}`),
    budgetMicroUsd: null,
    heldMicroUsd: microUsd(0),
    reference: [],
    vectors: [],
  };
  return { kind: "asked", request };
}

function started(node: string): Observation {
  const work = { kind: "embed" as const, inputs: [[1]] };
  const terms = {
    requestId: REQUEST,
    requestSha256: DIGEST,
    weightsSha256: DIGEST,
    tier: "default" as const,
    inputMicroUsdPerMtok: 0,
    outputMicroUsdPerMtok: 0,
  };
  const message = {
    type: "attempt.start" as const,
    leaseId: `lease_${"0".repeat(26)}`,
    epoch: 1,
    attemptId: `att_${"0".repeat(26)}`,
    replicaId: `rep_${"0".repeat(26)}`,
    deadlineMs: 1_000,
    terms,
    work,
  };
  return { kind: "order", node, connection: 1, message };
}

test("an attempt outside the regions that its request allows is a broken law, and one inside is none", () => {
  const { broken, tell } = checker();
  tell(asked(["eu"]), started("node-0"));
  expect(broken).toEqual([]);
  tell(started("node-1"));
  expect(broken).toEqual([`3: ${REQUEST} may run in eu and went to node-1 in no region`]);
});

test("a request without a rule may run anywhere", () => {
  const { broken, tell } = checker();
  tell(asked(null), started("node-1"));
  expect(broken).toEqual([]);
});

test("what a node said to have no room for is not staged on it", () => {
  const { broken, tell } = checker();
  const stage = (fileBytes: number): Observation => ({
    kind: "order",
    node: "node-0",
    connection: 7,
    message: { type: "weights.stage", weightsSha256: DIGEST, fileBytes },
  });
  tell(stage(1_000));
  tell({
    kind: "message",
    node: "node-0",
    connection: 7,
    message: { type: "weights.state", weights: [], freeBytes: 900 },
  });
  tell(stage(900));
  expect(broken).toEqual([]);
  tell(stage(901));
  expect(broken).toEqual(["3: 901 bytes are staged on node-0, which said that 900 are free"]);
});
