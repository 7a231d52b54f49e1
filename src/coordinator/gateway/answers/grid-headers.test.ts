import { expect, test } from "vitest";
import type { AttemptRecord } from "../../../domain/attempt.ts";
import { attemptId, leaseId, nodeId, requestId, sha256Hex } from "../../../domain/ids.ts";
import type { NodeStatement } from "../../../domain/receipt.ts";
import { canonicalSignedJson } from "../../../market/canonical-json.ts";
import { beginningHeaders, energyOf, withReceipt } from "./grid-headers.ts";

const id = "0".repeat(25);
const NODE = nodeId(`node_${"a".repeat(32)}`);

function attempt(energyMilliJoule: number | null, more: Partial<AttemptRecord> = {}): AttemptRecord {
  const statement: NodeStatement = {
    v: 1,
    kind: "fallow-attempt",
    gridId: "grid-1",
    leaseId: leaseId(`lease_${id}1`),
    epoch: 1,
    attemptId: attemptId(`att_${id}1`),
    requestId: requestId(`req_${id}1`),
    nodeId: NODE,
    requestSha256: sha256Hex("0".repeat(64)),
    weightsSha256: sha256Hex("0".repeat(64)),
    tier: "default",
    inputMicroUsdPerMtok: 1,
    outputMicroUsdPerMtok: 1,
    promptTokens: 3,
    cachedTokens: 0,
    outputTokens: 1,
    outputSha256: sha256Hex("0".repeat(64)),
    numericClass: "llama/cpu/Q8_0",
    startedAtMs: 1,
    endedAtMs: 2,
    energyMilliJoule,
    energyMethod: energyMilliJoule === null ? null : "nvml",
    reason: "stop-token",
  };
  return {
    attemptId: statement.attemptId,
    leaseId: statement.leaseId,
    epoch: 1,
    nodeId: NODE,
    nodePublicKeyHex: "00".repeat(32),
    choice: 0,
    acknowledgedTokens: 1,
    ending: "finished",
    detail: null,
    statementJson: canonicalSignedJson(statement),
    signatureHex: "00".repeat(64),
    ...more,
  };
}

test("energy is told where every node that worked stated its own, and not otherwise", () => {
  expect(energyOf([attempt(1_200), attempt(300)])).toBe(1_500);
  expect(energyOf([attempt(1_200), attempt(null)])).toBeNull();
  expect(energyOf([attempt(1_200), attempt(1, { statementJson: null })])).toBeNull();
  // Who delivered nothing did no work of this answer.
  expect(energyOf([attempt(null, { acknowledgedTokens: 0, ending: "node-lost" }), attempt(7)])).toBe(7);
  expect(energyOf([])).toBeNull();
});

test("a beginning names node, class and region as far as they are known", () => {
  const nodes = { label: () => ({ nodeClass: "nvidia-l4", region: null }), places: () => [] };
  const start = { tier: "flex", nodeId: NODE, providerId: null, queuedMs: 12.4 } as const;
  expect(beginningHeaders({ nodes }, start)).toEqual({
    "x-grid-tier": "flex",
    "x-grid-queue-ms": "12",
    "x-grid-node": NODE,
    "x-grid-node-class": "nvidia-l4",
  });
  expect(beginningHeaders({}, { ...start, nodeId: null, providerId: "far", queuedMs: null })).toEqual({
    "x-grid-tier": "flex",
    "x-grid-provider": "far",
    "x-grid-node-class": "cloud",
  });
});

test("a body without a receipt stays as it is", () => {
  expect(withReceipt('{"id":"a"}', null)).toBe('{"id":"a"}');
});
