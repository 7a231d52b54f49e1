/**
 * From a meter reading to postings. The tenant's charge goes to escrow and from there, in the same batch, to those who
 * earned it; escrow ends where it began. Shares are rounded down and what that leaves goes to the rounding account, so the
 * postings sum to zero to the last micro-USD.
 *
 * Of what output tokens cost, the nodes' share is split by the tokens that each delivered (acknowledged by the coordinator;
 * a node's own count is never used). Of what the prompt cost, it goes to the node that finished last, or, when none
 * finished, to the last that delivered. An attempt on a chain is paid to the nodes of all its stages, by their numbers of layers; what the division
 * leaves is rounding too. What a cloud provider made is paid to it at its own cost, and what the tenant pays above that is the platform's. Tokens prefilled again after a failover are nobody's charge and nobody's pay.
 */
import { assert } from "../domain/assert.ts";
import type { AttemptStage } from "../domain/attempt.ts";
import { type AccountId, type NodeId, type RequestId, type TenantId, transferId } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import { addUsd, type MicroUsd, microUsd, shareOf, subtractUsd, type TokenPrice, ZERO_USD } from "../domain/money.ts";
import type { CloudPart } from "../domain/receipt.ts";
import { AUDIT_REVENUE, ESCROW, nodeHeldAccount, PLATFORM_REVENUE, providerAccount, ROUNDING } from "./accounts.ts";
import { cloudCharge, costOf, holdTransfer, voidTransfer } from "./hold.ts";
import { NODE_SHARE } from "./ledger.ts";

/** Who gets what of a charge, in basis points. */
export const SHARES = { nodes: 8_500, platform: 1_200, audit: 300 } as const;

export interface MeteredAttempt {
  readonly nodeId: NodeId;
  /** Tokens of this attempt that the coordinator accepted. */
  readonly acknowledgedTokens: number;
  readonly hasFinished: boolean;
  /** Of a chain, in order; the last one is `nodeId`. Absent: the whole model ran on `nodeId`. */
  readonly stages?: readonly AttemptStage[];
}

/** A cloud provider's part, and what of the tenant's charge for it the provider gets; at most all of it. */
export interface SettledCloudPart extends CloudPart {
  readonly owedMicroUsd: MicroUsd;
}

export interface MeteredRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  /** What was held; zero for a free model. */
  readonly heldMicroUsd: MicroUsd;
  /** Names the hold where the request had several, one after the other. */
  readonly run?: string;
  readonly price: TokenPrice;
  /** In all; those of cloud parts are charged there. */
  readonly promptTokens: number;
  /** In the order in which they ended. */
  readonly attempts: readonly MeteredAttempt[];
  /** Absent: the grid made all of it. */
  readonly cloudParts?: readonly SettledCloudPart[];
  readonly atMs: number;
}

/** The batch that settles a request: same input, same ids. Nothing to move (free, never held) is an empty batch. */
export function settlementOf(request: MeteredRequest): {
  readonly costMicroUsd: MicroUsd;
  readonly transfers: readonly Transfer[];
} {
  const cost = chargeFor(request);
  const cloud = cloudOf(request);
  const total = addUsd(cost.prompt, cost.output, cloud.charge);
  assert(
    total <= request.heldMicroUsd,
    `${request.requestId} costs ${total}, at most the held ${request.heldMicroUsd}`,
  );
  if (request.heldMicroUsd === 0) return { costMicroUsd: total, transfers: [] };
  const hold = holdTransfer({ ...request, amountMicroUsd: request.heldMicroUsd });
  if (total === 0) return { costMicroUsd: total, transfers: [voidTransfer(hold, request.atMs)] };
  const charge: Transfer = {
    ...hold,
    transferId: transferId(`${request.requestId}:charge`),
    kind: "post",
    amountMicroUsd: total,
    holdTransferId: hold.transferId,
    reason: "charge",
  };
  return { costMicroUsd: total, transfers: [charge, ...distribution(request, cost, cloud)] };
}

interface CloudCharge {
  readonly charge: MicroUsd;
  /** What providers get of it, in the order of first appearance. */
  readonly owed: ReadonlyMap<string, MicroUsd>;
}

function cloudOf({ cloudParts = [] }: MeteredRequest): CloudCharge {
  const owed = new Map<string, MicroUsd>();
  for (const { providerId, owedMicroUsd } of cloudParts) {
    owed.set(providerId, addUsd(owed.get(providerId) ?? ZERO_USD, owedMicroUsd));
  }
  const charge = addUsd(...cloudParts.map(cloudCharge));
  assert(addUsd(...owed.values()) <= charge, "a provider gets at most what the tenant pays for its part");
  return { charge, owed };
}

/** Prompt tokens that the grid is paid for: a prompt is charged once, to whoever began. */
function gridPromptTokens({ promptTokens, cloudParts = [] }: MeteredRequest): number {
  const inCloud = cloudParts.reduce((sum, part) => sum + part.promptTokens, 0);
  assert(inCloud <= promptTokens, `${inCloud} prompt tokens in the cloud are some of ${promptTokens}`);
  return promptTokens - inCloud;
}

interface Charge {
  readonly prompt: MicroUsd;
  readonly output: MicroUsd;
}

/** The two lines of the bill; each node's pay is a part of one of them. */
function chargeFor(request: MeteredRequest): Charge {
  const outputTokens = request.attempts.reduce((sum, attempt) => sum + attempt.acknowledgedTokens, 0);
  const hasFinished = request.attempts.some((attempt) => attempt.hasFinished);
  const { price } = request;
  const promptTokens = gridPromptTokens(request);
  const total = costOf({ promptTokens, outputTokens, hasFinished, price });
  const output = costOf({ promptTokens: 0, outputTokens, hasFinished, price });
  return { prompt: subtractUsd(total, output), output };
}

function distribution(request: MeteredRequest, cost: Charge, cloud: CloudCharge): readonly Transfer[] {
  const onGrid = addUsd(cost.prompt, cost.output);
  const total = addUsd(onGrid, cloud.charge);
  const margin = subtractUsd(cloud.charge, addUsd(...cloud.owed.values()));
  const lines: { name: string; to: AccountId; amount: MicroUsd; reason: string }[] = [];
  for (const [node, amount] of nodeShares(request.attempts, cost)) {
    lines.push({ name: `node:${node}`, to: nodeHeldAccount(node), amount, reason: NODE_SHARE });
  }
  for (const [provider, amount] of cloud.owed) {
    lines.push({ name: `provider:${provider}`, to: providerAccount(provider), amount, reason: "provider-cost" });
  }
  lines.push({
    name: "platform",
    to: PLATFORM_REVENUE,
    amount: addUsd(shareOf(onGrid, SHARES.platform), margin),
    reason: "platform-fee",
  });
  lines.push({ name: "audit", to: AUDIT_REVENUE, amount: shareOf(onGrid, SHARES.audit), reason: "audit-fee" });
  const paid = addUsd(...lines.map((line) => line.amount));
  lines.push({ name: "rounding", to: ROUNDING, amount: subtractUsd(total, paid), reason: "rounding" });
  assert(paid <= total, `${request.requestId} pays out ${paid}, at most its charge ${total}`);
  return lines
    .filter((line) => line.amount > 0)
    .map((line) => ({
      transferId: transferId(`${request.requestId}:${line.name}`),
      kind: "direct",
      debitAccountId: ESCROW,
      creditAccountId: line.to,
      amountMicroUsd: line.amount,
      holdTransferId: null,
      requestId: request.requestId,
      reason: line.reason,
      atMs: request.atMs,
    }));
}

/** Each node's pay, in the order of first appearance. */
function nodeShares(attempts: readonly MeteredAttempt[], cost: Charge): ReadonlyMap<NodeId, MicroUsd> {
  const shares = new Map<NodeId, MicroUsd>();
  const pay = (pool: MicroUsd, of: readonly MeteredAttempt[], tokensOf: (attempt: MeteredAttempt) => number) => {
    for (const [node, amount] of splitByWork(pool, of, tokensOf)) {
      shares.set(node, addUsd(shares.get(node) ?? ZERO_USD, amount));
    }
  };
  const delivering = attempts.filter(({ acknowledgedTokens }) => acknowledgedTokens > 0);
  pay(shareOf(cost.output, SHARES.nodes), delivering, ({ acknowledgedTokens }) => acknowledgedTokens);
  const finisher = attempts.findLast((attempt) => attempt.hasFinished) ?? delivering.at(-1);
  if (finisher !== undefined) pay(shareOf(cost.prompt, SHARES.nodes), [finisher], () => 1);
  return shares;
}

/** By tokens, and of each attempt by layers; each part rounded down. */
function splitByWork(
  pool: MicroUsd,
  attempts: readonly MeteredAttempt[],
  tokensOf: (attempt: MeteredAttempt) => number,
): ReadonlyMap<NodeId, MicroUsd> {
  const works = attempts.map((attempt) => ({ tokens: BigInt(tokensOf(attempt)), stages: stagesOf(attempt) }));
  const layersOf = (stages: readonly AttemptStage[]) => stages.reduce((sum, { layers }) => sum + BigInt(layers), 0n);
  // One denominator for all attempts: those of one request mostly have the model's number of layers, or ran it whole.
  const common = works.reduce((multiple, { stages }) => leastCommonMultiple(multiple, layersOf(stages)), 1n);
  const parts = new Map<NodeId, bigint>();
  let whole = 0n;
  for (const { tokens, stages } of works) {
    const perLayer = (tokens * common) / layersOf(stages);
    for (const { nodeId, layers } of stages) {
      const part = perLayer * BigInt(layers);
      parts.set(nodeId, (parts.get(nodeId) ?? 0n) + part);
      whole += part;
    }
  }
  return new Map([...parts].map(([node, part]) => [node, microUsd(Number((BigInt(pool) * part) / whole))]));
}

function stagesOf({ nodeId, stages }: MeteredAttempt): readonly AttemptStage[] {
  if (stages === undefined) return [{ nodeId, layers: 1 }];
  assert(stages.at(-1)?.nodeId === nodeId, `the last stage of an attempt on ${nodeId} is its own`);
  assert(
    stages.every(({ layers }) => Number.isSafeInteger(layers) && layers > 0),
    `each stage of an attempt on ${nodeId} has layers`,
  );
  return stages;
}

function leastCommonMultiple(a: bigint, b: bigint): bigint {
  let [divisor, rest] = [a, b];
  while (rest !== 0n) [divisor, rest] = [rest, divisor % rest];
  return (a / divisor) * b;
}
