/** How the coordinator's own records look to an operator. Pure: record in, row out. */
import type { AttachedServer } from "../../domain/attached-engine.ts";
import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId } from "../../domain/ids.ts";
import { type Account, availableMicroUsd, type Transfer } from "../../domain/ledger.ts";
import type { ApiKey, JoinToken, ModelRecord, ReceiptRecord } from "../../ports/store.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import { receiptBodySchema } from "../../wire/receipt.ts";
import type { NodeView } from "../roster.ts";
import type { AccountRow, KeyRow, ModelRow, NodeRow, ReplicaRow, RequestRow, TransferRow } from "./admin-schemas.ts";

export function nodeRow(
  node: NodeView,
  more: { nowMonoMs: number; earnedMicroUsd: number; warnings?: readonly string[] },
): NodeRow {
  const { capabilities } = node;
  return {
    nodeId: node.nodeId,
    name: node.name,
    state: node.state,
    isYielding: node.isYielding,
    rttMs: node.rttMs,
    joinedAtMs: node.joinedAtMs,
    silentMs: Math.max(0, Math.round(more.nowMonoMs - node.lastMessageMonoMs)),
    platform: capabilities.platform,
    cpuModel: capabilities.cpuModel,
    cpuCores: capabilities.cpuCores,
    memoryBytes: capabilities.memoryBytes,
    engineVariant: capabilities.engineVariant,
    engineVersion: capabilities.engineVersion,
    devices: capabilities.devices.map((device) => {
      const { deviceId, name, memoryBytes, memoryFreeBytes } = device;
      return { deviceId, name, memoryBytes, memoryFreeBytes, lentBytes: usableBytes(device) };
    }),
    decodeTokPerSecond: capabilities.referenceSpeed?.decodeTokPerSecond ?? null,
    earnedMicroUsd: more.earnedMicroUsd,
    replicas: node.replicas.filter(({ state }) => state !== "gone").length,
    warnings: [...(node.warnings ?? []), ...(more.warnings ?? [])],
    ...(capabilities.attached === undefined ? {} : { attached: attachedRow(capabilities.attached) }),
  };
}

function attachedRow({ kind, version, isExact, models }: AttachedServer): NonNullable<NodeRow["attached"]> {
  return { kind, version, isExact, models: models.map(({ modelId }) => modelId) };
}

export function replicaRow(replica: ReplicaReport, node: NodeView, modelId: ModelId | null): ReplicaRow {
  const { replicaId, state, progress, slots, slotsBusy, queued, contextTokens, memoryBytes, failure } = replica;
  return {
    replicaId,
    modelId,
    nodeId: node.nodeId,
    nodeName: node.name,
    state,
    progress,
    slots,
    slotsBusy,
    queued,
    contextTokens,
    memoryBytes,
    failure: failure === null ? null : `${failure.code}: ${failure.message}`,
  };
}

export function requestRow(receipt: ReceiptRecord): RequestRow {
  const body = receiptBodySchema.parse(JSON.parse(receipt.bodyJson));
  return {
    requestId: receipt.requestId,
    receiptId: receipt.receiptId,
    modelId: receipt.modelId,
    tier: receipt.tier,
    promptTokens: receipt.promptTokens,
    outputTokens: receipt.outputTokens,
    costMicroUsd: receipt.costMicroUsd,
    createdAtMs: receipt.createdAtMs,
    nodeIds: [...new Set(body.attempts.map(({ nodeId }) => nodeId))],
    attempts: body.attempts.length,
  };
}

export function accountRow(account: Account): AccountRow {
  return {
    accountId: account.accountId,
    availableMicroUsd: availableMicroUsd(account),
    debitsPendingMicroUsd: account.debitsPending,
    debitsPostedMicroUsd: account.debitsPosted,
    creditsPendingMicroUsd: account.creditsPending,
    creditsPostedMicroUsd: account.creditsPosted,
  };
}

export function transferRow(transfer: Transfer): TransferRow {
  const { transferId, kind, debitAccountId, creditAccountId, amountMicroUsd, requestId, reason, atMs } = transfer;
  return { transferId, kind, debitAccountId, creditAccountId, amountMicroUsd, requestId, reason, atMs };
}

export function modelRow(model: ModelRecord, replicasReady: number): ModelRow {
  const { manifest } = model;
  return {
    modelId: manifest.modelId,
    name: manifest.name,
    architecture: manifest.architecture,
    quantisation: manifest.quantisation,
    parameterCount: manifest.parameterCount,
    layerCount: manifest.layerCount,
    vocabSize: manifest.vocabSize,
    contextTokensMax: manifest.contextTokensMax,
    fileBytes: manifest.fileBytes,
    weightsSha256: manifest.weightsSha256,
    hasChatTemplate: manifest.chatTemplate !== null,
    inputMicroUsdPerMtok: manifest.price.inputMicroUsdPerMtok,
    outputMicroUsdPerMtok: manifest.price.outputMicroUsdPerMtok,
    warmReplicas: manifest.warmReplicas,
    addedAtMs: manifest.addedAtMs,
    licence: manifest.licence,
    source: manifest.source ?? null,
    draftModelId: manifest.draftModelId ?? null,
    replicasReady,
  };
}

export function keyRow(key: ApiKey, spentMicroUsd: number): KeyRow {
  return {
    keyId: key.keyId,
    name: key.name,
    secretHint: key.secretHint,
    tenantId: key.tenantId,
    scopes: [...key.scopes],
    requestsPerMinuteMax: key.requestsPerMinuteMax,
    tokensPerMinuteMax: key.tokensPerMinuteMax,
    budgetMicroUsd: key.budgetMicroUsd,
    monthlyBudgetMicroUsd: key.monthlyBudgetMicroUsd,
    preferences: key.preferences,
    spentMicroUsd,
    models: key.models === null ? null : [...key.models],
    createdAtMs: key.createdAtMs,
    expiresAtMs: key.expiresAtMs,
    revokedAtMs: key.revokedAtMs,
  };
}

export function joinTokenRow(token: JoinToken): Omit<JoinToken, "tokenSha256"> {
  const { usesMax, usesLeft, createdAtMs, expiresAtMs } = token;
  return { usesMax, usesLeft, createdAtMs, expiresAtMs };
}
