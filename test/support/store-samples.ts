/** Records with every field filled, numbered so that tests can tell them apart. */
import {
  attemptId,
  keyId,
  leaseId,
  modelId,
  type NodeId,
  nodeId,
  receiptId,
  requestId,
  type Sha256Hex,
  sha256Hex,
  type TenantId,
  tenantId,
} from "../../src/domain/ids.ts";
import type { Transfer } from "../../src/domain/ledger.ts";
import type { ModelManifest } from "../../src/domain/model.ts";
import { microUsd } from "../../src/domain/money.ts";
import { holdTransfer } from "../../src/market/hold.ts";
import { houseCredit } from "../../src/market/house.ts";
import { settlementOf } from "../../src/market/settle.ts";
import type { ApiKey, ModelRecord, NodeRecord, Settlement, Tenant } from "../../src/ports/store.ts";

const MADE = {
  req: requestId,
  ten: tenantId,
  key: keyId,
  rcpt: receiptId,
  att: attemptId,
  lease: leaseId,
} as const;

/** The n-th id of its kind: `req_00000000000000000000000007`. */
export function madeId<P extends keyof typeof MADE>(prefix: P, number: number): ReturnType<(typeof MADE)[P]>;
export function madeId(prefix: keyof typeof MADE, number: number): string {
  return MADE[prefix](`${prefix}_${String(number).padStart(26, "0")}`);
}

export function digest(number: number): Sha256Hex {
  return sha256Hex(number.toString(16).padStart(64, "0"));
}

export function nodeIdOf(number: number): NodeId {
  return nodeId(`node_${number.toString(16).padStart(32, "0")}`);
}

export function aTenant(number: number): Tenant {
  return {
    tenantId: madeId("ten", number),
    name: `tenant ${number} "ü"`,
    createdAtMs: 1_700_000_000_000 + number,
    limits: null,
  };
}

export function anApiKey(number: number, fields: Partial<ApiKey> = {}): ApiKey {
  return {
    keyId: madeId("key", number),
    tenantId: aTenant(1).tenantId,
    secretSha256: digest(number),
    secretHint: `sk-fallow-${number}`,
    name: `key ${number}`,
    scopes: ["inference", "usage"],
    requestsPerMinuteMax: null,
    tokensPerMinuteMax: null,
    budgetMicroUsd: microUsd(5_000),
    monthlyBudgetMicroUsd: null,
    models: [],
    preferences: null,
    createdAtMs: 1_700_000_000_000,
    expiresAtMs: 1_800_000_000_000,
    revokedAtMs: null,
    ...fields,
  };
}

export function aNode(number: number): NodeRecord {
  return {
    nodeId: nodeIdOf(number),
    publicKeyHex: digest(number),
    name: `node ${number}`,
    capabilities: {
      platform: "linux-x64",
      cpuModel: "A CPU",
      cpuCores: 8,
      memoryBytes: 32 * 2 ** 30,
      diskFreeBytes: 2 ** 40,
      devices: [
        {
          deviceId: "cpu",
          kind: "cpu",
          variant: "cpu",
          name: "A CPU",
          memoryBytes: 32 * 2 ** 30,
          memoryFreeBytes: 16 * 2 ** 30,
          reserveBytes: 2 ** 30,
        },
      ],
      engineVariant: "cpu",
      engineVersion: "3.22.1",
      referenceSpeed: { prefillTokPerSecond: 812.5, decodeTokPerSecond: 204.25, measuredAtMs: 1_700_000_000_000 },
    },
    joinedAtMs: 1_700_000_000_000,
    lastSeenAtMs: 1_700_000_000_001,
    isDraining: false,
    removedAtMs: null,
  };
}

export function aManifest(id: string): ModelManifest {
  return {
    modelId: modelId(id),
    weightsSha256: digest(77),
    fileBytes: 3_000_000,
    name: `Model ${id}`,
    architecture: "llama",
    quantisation: "Q8_0",
    parameterCount: 2_900_000,
    layerCount: 6,
    embeddingLength: 256,
    headCount: 8,
    headCountKv: 4,
    vocabSize: 1_024,
    contextTokensMax: 2_048,
    kvBytesPerToken: 6_144,
    chatTemplate: "{{ messages }}",
    chatTemplateSha256: digest(78),
    tokenizerSha256: digest(79),
    licence: null,
    price: { inputMicroUsdPerMtok: 50_000, outputMicroUsdPerMtok: 100_000 },
    warmReplicas: 1,
    addedAtMs: 1_700_000_000_000,
  };
}

export function aModel(id: string): ModelRecord {
  return { manifest: aManifest(id), weightsPath: `/models/${id}.gguf` };
}

export function credit(tenant: TenantId, amount: number): Transfer {
  return houseCredit({ tenantId: tenant, creditId: "first", amountMicroUsd: microUsd(amount), atMs: 5 });
}

export function aReceipt(
  request: number,
  fields: { costMicroUsd?: number; createdAtMs?: number } = {},
): Settlement["receipt"] {
  return {
    receiptId: madeId("rcpt", request),
    requestId: madeId("req", request),
    tenantId: aTenant(1).tenantId,
    keyId: anApiKey(1).keyId,
    modelId: modelId("tiny"),
    tier: "default",
    promptTokens: 100,
    outputTokens: 20,
    costMicroUsd: microUsd(fields.costMicroUsd ?? 0),
    createdAtMs: fields.createdAtMs ?? 1_700_000_000_000,
    bodyJson: `{"request":${request}}`,
    leafSha256: digest(1_000_000 + request),
  };
}

/** A settlement of `costMicroUsd` by one node, and the hold of twice as much that goes before it. */
export function settlementFor(
  request: number,
  fields: { costMicroUsd: number; createdAtMs?: number },
): Settlement & { readonly hold: readonly Transfer[] } {
  const held = {
    requestId: madeId("req", request),
    tenantId: aTenant(1).tenantId,
    heldMicroUsd: microUsd(fields.costMicroUsd * 2),
    atMs: 50,
  };
  const { transfers } = settlementOf({
    ...held,
    price: { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 1_000_000 },
    promptTokens: 100,
    attempts: [{ nodeId: nodeIdOf(1), acknowledgedTokens: fields.costMicroUsd, hasFinished: true }],
  });
  const hold = [holdTransfer({ ...held, amountMicroUsd: held.heldMicroUsd })];
  return { transfers, receipt: aReceipt(request, fields), hold };
}
