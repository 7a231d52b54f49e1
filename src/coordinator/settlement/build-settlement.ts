/** From a finished request to what the store writes: transfers, the receipt's body, its leaf. Pure but for the clock's value and a new id. */
import { assert } from "../../domain/assert.ts";
import type { AttemptRecord } from "../../domain/attempt.ts";
import { type KeyId, type RequestId, receiptId, type Sha256Hex, sha256Hex, type TenantId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { addUsd, type MicroUsd, subtractUsd, type TokenPrice, ZERO_USD } from "../../domain/money.ts";
import { GRID_PROVIDER } from "../../domain/preferences.ts";
import type { NodeStatement, ReceiptBody, ReceiptChoice } from "../../domain/receipt.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import { canonicalSignedJson } from "../../market/canonical-json.ts";
import { toHex } from "../../market/hex.ts";
import { cloudCharge } from "../../market/hold.ts";
import { receiptAttempt, receiptLeaf } from "../../market/receipt.ts";
import { type SettledCloudPart, settlementOf } from "../../market/settle.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { ReceiptRecord, SettledPart, Settlement as StoredSettlement } from "../../ports/store.ts";
import { parseNodeStatement } from "../../wire/receipt.ts";

export interface SettleRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly model: Pick<ModelManifest, "modelId" | "weightsSha256">;
  readonly tier: ServiceTier;
  readonly price: TokenPrice;
  readonly requestSha256: Sha256Hex;
  readonly seedSha256: Sha256Hex;
  readonly promptTokens: number;
  readonly choices: readonly ReceiptChoice[];
  /** In the order in which they ended; the acknowledged tokens of each choice and those of its cloud parts add up to its output tokens. */
  readonly attempts: readonly AttemptRecord[];
  /** Absent: the grid made all of it. */
  readonly cloudParts?: readonly SettledCloudPart[];
  readonly createdAtMs: number;
}

export interface BuiltSettlement {
  readonly settlement: StoredSettlement;
  /** Statements that could not be read and are left out of the receipt. */
  readonly problems: readonly string[];
}

export function buildSettlement(
  request: SettleRequest,
  more: {
    readonly gridId: string;
    readonly heldMicroUsd: MicroUsd;
    /** Of the hold. */
    readonly run?: string | undefined;
    readonly clock: Clock;
    readonly crypto: Crypto;
    readonly ids: Ids;
  },
): BuiltSettlement {
  assertCountsAgree(request);
  const { price, promptTokens, requestId, tenantId, cloudParts = [] } = request;
  const { costMicroUsd, transfers } = settlementOf({
    requestId,
    tenantId,
    heldMicroUsd: more.heldMicroUsd,
    ...(more.run === undefined ? {} : { run: more.run }),
    price,
    promptTokens,
    attempts: request.attempts.map((attempt) => ({ ...attempt, hasFinished: attempt.ending === "finished" })),
    ...(cloudParts.length === 0 ? {} : { cloudParts }),
    atMs: Math.floor(more.clock.wallMs()),
  });
  const statements = request.attempts.map(statementOf);
  const body: ReceiptBody = {
    v: 1,
    kind: "fallow-receipt",
    gridId: more.gridId,
    receiptId: receiptId(more.ids.make("rcpt")),
    requestId,
    requestSha256: request.requestSha256,
    modelId: request.model.modelId,
    weightsSha256: request.model.weightsSha256,
    tier: request.tier,
    seedSha256: request.seedSha256,
    promptTokens,
    choices: request.choices,
    price: { inputMicroUsdPerMtok: price.inputMicroUsdPerMtok, outputMicroUsdPerMtok: price.outputMicroUsdPerMtok },
    costMicroUsd,
    createdAtMs: Math.floor(request.createdAtMs),
    attempts: request.attempts.map((attempt, index) => receiptAttempt(attempt, statements[index]?.statement ?? null)),
    ...(cloudParts.length === 0 ? {} : { cloudParts: cloudParts.map(({ owedMicroUsd: _, ...shown }) => shown) }),
  };
  const bodyJson = canonicalSignedJson(body);
  const receipt = {
    receiptId: body.receiptId,
    requestId,
    tenantId,
    keyId: request.keyId,
    modelId: body.modelId,
    tier: request.tier,
    promptTokens,
    outputTokens: request.choices.reduce((sum, choice) => sum + choice.outputTokens, 0),
    costMicroUsd,
    createdAtMs: body.createdAtMs,
    bodyJson,
    leafSha256: sha256Hex(toHex(receiptLeaf(bodyJson, (data) => more.crypto.sha256(data)))),
  };
  return {
    settlement: { transfers, receipt, ...(cloudParts.length === 0 ? {} : { parts: partsOf(receipt, cloudParts) }) },
    problems: statements.flatMap((one) => (one.problem === null ? [] : [one.problem])),
  };
}

/** Who served how much, the grid's own nodes first where they began. */
function partsOf(
  receipt: Pick<ReceiptRecord, "promptTokens" | "outputTokens" | "costMicroUsd">,
  cloudParts: readonly SettledCloudPart[],
): readonly SettledPart[] {
  const parts = new Map<string, SettledPart>();
  const add = (part: SettledPart) => {
    const before = parts.get(part.provider);
    parts.set(part.provider, {
      provider: part.provider,
      promptTokens: part.promptTokens + (before?.promptTokens ?? 0),
      outputTokens: part.outputTokens + (before?.outputTokens ?? 0),
      costMicroUsd: addUsd(part.costMicroUsd, before?.costMicroUsd ?? ZERO_USD),
    });
  };
  for (const part of cloudParts) {
    const { providerId: provider, promptTokens, outputTokens } = part;
    add({ provider, promptTokens, outputTokens, costMicroUsd: cloudCharge(part) });
  }
  const inCloud = [...parts.values()];
  const onGrid: SettledPart = {
    provider: GRID_PROVIDER,
    promptTokens: receipt.promptTokens - sum(inCloud.map((part) => part.promptTokens)),
    outputTokens: receipt.outputTokens - sum(inCloud.map((part) => part.outputTokens)),
    costMicroUsd: subtractUsd(receipt.costMicroUsd, addUsd(...inCloud.map((part) => part.costMicroUsd))),
  };
  const isFirst = onGrid.promptTokens > 0;
  if (onGrid.outputTokens === 0 && !isFirst) return inCloud;
  return isFirst ? [onGrid, ...inCloud] : [...inCloud, onGrid];
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

/** Nothing is charged for what was not acknowledged, and nobody delivers what nobody gets. */
function assertCountsAgree(request: SettleRequest): void {
  const counted = request.choices.map(() => 0);
  for (const { choice, acknowledgedTokens, attemptId } of request.attempts) {
    const before = counted[choice];
    assert(before !== undefined, `attempt ${attemptId} is of one of the ${counted.length} choices, not ${choice}`);
    counted[choice] = before + acknowledgedTokens;
  }
  for (const { choice, providerId, outputTokens } of request.cloudParts ?? []) {
    const before = counted[choice];
    assert(before !== undefined, `a part of ${providerId} is of one of the ${counted.length} choices, not ${choice}`);
    counted[choice] = before + outputTokens;
  }
  for (const [index, choice] of request.choices.entries()) {
    assert(
      choice.outputTokens === counted[index],
      `choice ${index} of ${request.requestId} has ${choice.outputTokens} tokens, its attempts ${counted[index]}`,
    );
  }
}

function statementOf(attempt: AttemptRecord): { statement: NodeStatement | null; problem: string | null } {
  if (attempt.statementJson === null || attempt.signatureHex === null) return { statement: null, problem: null };
  const parsed = parseNodeStatement(attempt.statementJson);
  if (parsed.ok) return { statement: parsed.value, problem: null };
  return { statement: null, problem: `${attempt.attemptId}: ${parsed.reason.join("; ")}` };
}
