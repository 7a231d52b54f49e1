/**
 * From a meter reading to postings. The tenant's charge goes to escrow and from there, in the same batch, to those who
 * earned it; escrow ends where it began. Shares are rounded down and what that leaves goes to the rounding account, so the
 * postings sum to zero to the last micro-USD.
 *
 * Of what output tokens cost, the nodes' share is split by the tokens that each delivered (acknowledged by the coordinator;
 * a node's own count is never used). Of what the prompt cost, it goes to the node that finished last, or, when none
 * finished, to the last that delivered. Tokens prefilled again after a failover are nobody's charge and nobody's pay.
 */
import { assert } from "../domain/assert.ts";
import { type AccountId, type NodeId, type RequestId, type TenantId, transferId } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import { addUsd, type MicroUsd, microUsd, shareOf, subtractUsd, type TokenPrice, ZERO_USD } from "../domain/money.ts";
import { AUDIT_REVENUE, ESCROW, nodeHeldAccount, PLATFORM_REVENUE, ROUNDING } from "./accounts.ts";
import { costOf, holdTransfer, voidTransfer } from "./hold.ts";
import { NODE_SHARE } from "./ledger.ts";

/** Who gets what of a charge, in basis points. */
export const SHARES = { nodes: 8_500, platform: 1_200, audit: 300 } as const;

export interface MeteredAttempt {
  readonly nodeId: NodeId;
  /** Tokens of this attempt that the coordinator accepted. */
  readonly acknowledgedTokens: number;
  readonly hasFinished: boolean;
}

export interface MeteredRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  /** What was held; zero for a free model. */
  readonly heldMicroUsd: MicroUsd;
  readonly price: TokenPrice;
  readonly promptTokens: number;
  /** In the order in which they ended. */
  readonly attempts: readonly MeteredAttempt[];
  readonly atMs: number;
}

/** The batch that settles a request: same input, same ids. Nothing to move (free, never held) is an empty batch. */
export function settlementOf(request: MeteredRequest): {
  readonly costMicroUsd: MicroUsd;
  readonly transfers: readonly Transfer[];
} {
  const cost = chargeFor(request);
  const total = addUsd(cost.prompt, cost.output);
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
  return { costMicroUsd: total, transfers: [charge, ...distribution(request, cost)] };
}

interface Charge {
  readonly prompt: MicroUsd;
  readonly output: MicroUsd;
}

/** The two lines of the bill; each node's pay is a part of one of them. */
function chargeFor(request: MeteredRequest): Charge {
  const outputTokens = request.attempts.reduce((sum, attempt) => sum + attempt.acknowledgedTokens, 0);
  const hasFinished = request.attempts.some((attempt) => attempt.hasFinished);
  const { price, promptTokens } = request;
  const total = costOf({ promptTokens, outputTokens, hasFinished, price });
  const output = costOf({ promptTokens: 0, outputTokens, hasFinished, price });
  return { prompt: subtractUsd(total, output), output };
}

function distribution(request: MeteredRequest, cost: Charge): readonly Transfer[] {
  const total = addUsd(cost.prompt, cost.output);
  const lines: { name: string; to: AccountId; amount: MicroUsd; reason: string }[] = [];
  for (const [node, amount] of nodeShares(request.attempts, cost)) {
    lines.push({ name: `node:${node}`, to: nodeHeldAccount(node), amount, reason: NODE_SHARE });
  }
  lines.push({
    name: "platform",
    to: PLATFORM_REVENUE,
    amount: shareOf(total, SHARES.platform),
    reason: "platform-fee",
  });
  lines.push({ name: "audit", to: AUDIT_REVENUE, amount: shareOf(total, SHARES.audit), reason: "audit-fee" });
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
  const pay = (node: NodeId, amount: MicroUsd) => shares.set(node, addUsd(shares.get(node) ?? ZERO_USD, amount));
  const pool = BigInt(shareOf(cost.output, SHARES.nodes));
  const tokens = attempts.reduce((sum, attempt) => sum + attempt.acknowledgedTokens, 0);
  const tokensOf = new Map<NodeId, number>();
  for (const { nodeId, acknowledgedTokens } of attempts) {
    tokensOf.set(nodeId, (tokensOf.get(nodeId) ?? 0) + acknowledgedTokens);
  }
  for (const [node, delivered] of tokensOf) {
    if (delivered > 0) pay(node, microUsd(Number((pool * BigInt(delivered)) / BigInt(tokens))));
  }
  const finisher =
    attempts.findLast((attempt) => attempt.hasFinished) ??
    attempts.findLast((attempt) => attempt.acknowledgedTokens > 0);
  if (finisher !== undefined) pay(finisher.nodeId, shareOf(cost.prompt, SHARES.nodes));
  return shares;
}
