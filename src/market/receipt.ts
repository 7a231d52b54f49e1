/**
 * Building what is signed. Each signature is over a label, a zero byte and the canonical JSON of the body; the label keeps a
 * signature of one kind from being shown as one of another kind.
 */
import type { AttemptRecord } from "../domain/attempt.ts";
import type { Sha256Hex } from "../domain/ids.ts";
import { sha256Hex } from "../domain/ids.ts";
import { leafHash, type Sha256 } from "../domain/merkle-tree.ts";
import type { NodeStatement, ReceiptAttempt, ReceiptBody } from "../domain/receipt.ts";
import { canonicalSignedJson } from "./canonical-json.ts";
import { toHex } from "./hex.ts";

const STATEMENT_LABEL = "fallow-attempt-v1\0";
const RECEIPT_LABEL = "fallow-receipt-v1\0";

/** What a node signs. */
export function statementBytes(statement: NodeStatement): Uint8Array {
  return new TextEncoder().encode(STATEMENT_LABEL + canonicalSignedJson(statement));
}

/** What the coordinator signs. */
export function receiptBytes(body: ReceiptBody): Uint8Array {
  return new TextEncoder().encode(RECEIPT_LABEL + canonicalSignedJson(body));
}

/** The receipt's leaf in the log: its canonical JSON, hashed as RFC 9162 hashes an entry. */
export function receiptLeaf(bodyJson: string, sha256: Sha256): Uint8Array {
  return leafHash(new TextEncoder().encode(bodyJson), sha256);
}

/** Digest of token ids as a node and the coordinator both compute it: little-endian int32, in order. */
export function tokensSha256(tokenIds: readonly number[], sha256: Sha256): Sha256Hex {
  const bytes = new Uint8Array(tokenIds.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, tokenId] of tokenIds.entries()) view.setInt32(index * 4, tokenId, true);
  return sha256Hex(toHex(sha256(bytes)));
}

/** An attempt as the receipt shows it. `statement` is what `record.statementJson` says, parsed; null when it has none. */
export function receiptAttempt(record: AttemptRecord, statement: NodeStatement | null): ReceiptAttempt {
  return {
    attemptId: record.attemptId,
    leaseId: record.leaseId,
    epoch: record.epoch,
    choice: record.choice,
    nodeId: record.nodeId,
    nodePublicKey: record.nodePublicKeyHex,
    acknowledgedTokens: record.acknowledgedTokens,
    ending: record.ending,
    statement,
    nodeSignature: statement === null ? null : record.signatureHex,
    ...(record.stages === undefined ? {} : { stages: record.stages.map(({ nodeId, layers }) => ({ nodeId, layers })) }),
  };
}
