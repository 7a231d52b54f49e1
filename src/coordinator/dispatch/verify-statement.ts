/**
 * Whether a node's signed statement says what the coordinator saw. A statement that does not is dropped with its signature:
 * the tokens that were acknowledged still count, the node merely has nothing to show for them.
 */

import type { RequestTerms } from "../../domain/generation.ts";
import type { NodeStatement } from "../../domain/receipt.ts";
import { canonicalSignedJson } from "../../market/canonical-json.ts";
import { fromHex } from "../../market/hex.ts";
import { statementBytes, tokensSha256 } from "../../market/receipt.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { AttemptEnd } from "../../wire/agent-link.ts";
import { parseNodeStatement } from "../../wire/receipt.ts";
import type { RunningAttempt } from "./work.ts";

export interface StatementClaim {
  readonly gridId: string;
  readonly terms: RequestTerms;
  readonly attempt: RunningAttempt;
  readonly end: AttemptEnd;
}

/** Null when the statement stands, else what is wrong with it. */
export function statementProblem(claim: StatementClaim, crypto: Crypto): string | null {
  const { attempt, end } = claim;
  const parsed = parseNodeStatement(end.statementJson);
  if (!parsed.ok) return parsed.reason.join("; ");
  const statement = parsed.value;
  if (canonicalSignedJson(statement) !== end.statementJson) return "the statement is not canonical JSON";
  const expected = expectedFields(claim, crypto);
  for (const [name, value] of Object.entries(expected)) {
    const said: unknown = Object.entries(statement).find(([key]) => key === name)?.[1];
    if (said !== value) return `${name} is ${String(said)}, seen was ${String(value)}`;
  }
  if (statement.cachedTokens > statement.promptTokens) return "cachedTokens is more than promptTokens";
  const publicKey = fromHex(attempt.nodePublicKeyHex);
  const signature = fromHex(end.signature);
  if (publicKey === null || signature === null) return "the signature is not hex";
  const isValid = crypto.verify({ publicKey, message: statementBytes(statement), signature });
  return isValid ? null : "the signature does not verify under the node's key";
}

function expectedFields(claim: StatementClaim, crypto: Crypto): Partial<NodeStatement> {
  const { terms, attempt, end } = claim;
  const { lease } = attempt;
  return {
    gridId: claim.gridId,
    leaseId: lease.leaseId,
    epoch: lease.epoch,
    attemptId: lease.attemptId,
    requestId: terms.requestId,
    nodeId: lease.nodeId,
    requestSha256: terms.requestSha256,
    weightsSha256: terms.weightsSha256,
    tier: terms.tier,
    inputMicroUsdPerMtok: terms.price.inputMicroUsdPerMtok,
    outputMicroUsdPerMtok: terms.price.outputMicroUsdPerMtok,
    promptTokens: attempt.promptTokens,
    outputTokens: attempt.receivedTokenIds.length,
    outputSha256: tokensSha256(attempt.receivedTokenIds, (data) => crypto.sha256(data)),
    reason: end.reason,
  };
}
