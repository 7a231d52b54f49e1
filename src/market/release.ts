/**
 * A node's share waits in `node:{id}:held` for the audit window. Then it becomes payable; or, when an audit failed, it goes
 * back to the tenant who paid it. Both carry one id, so that the ledger itself refuses to do both.
 */
import { assert } from "../domain/assert.ts";
import type { NodeId, TenantId } from "../domain/ids.ts";
import { nodeId } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import { nodePayableAccount, tenantAccount } from "./accounts.ts";
import { closeIdOf, NODE_SHARE } from "./ledger.ts";

/** 24 h: an audit sample is drawn and replayed within the hour; the rest is room for a disputed one. */
export const AUDIT_WINDOW_MS = 24 * 3_600_000;

/** `share` is a `node-share` transfer whose audit window has passed. */
export function releaseTransfer(share: Transfer, atMs: number): Transfer {
  return { ...closing(share, atMs), creditAccountId: nodePayableAccount(nodeOf(share)), reason: "release" };
}

/** `tenantId` is who paid for the request of this share. */
export function refundTransfer(
  share: Transfer,
  refund: { readonly tenantId: TenantId; readonly atMs: number },
): Transfer {
  return { ...closing(share, refund.atMs), creditAccountId: tenantAccount(refund.tenantId), reason: "refund" };
}

function closing(share: Transfer, atMs: number): Transfer {
  assert(share.reason === NODE_SHARE, `${share.transferId} is a node's share`);
  return { ...share, transferId: closeIdOf(share.transferId), debitAccountId: share.creditAccountId, atMs };
}

/** The node whose `node:{id}:held` account a share was paid into. */
function nodeOf(share: Transfer): NodeId {
  const [, id] = share.creditAccountId.split(":");
  assert(id !== undefined, `${share.creditAccountId} is a node's account`);
  return nodeId(id);
}
