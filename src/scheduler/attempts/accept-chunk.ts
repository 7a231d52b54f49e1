/**
 * Whether a chunk that a node sent may count. A node is not trusted: it may send late, twice, with gaps, for a lease of
 * another node, or tokens that do not exist.
 *
 * | chunk                                        | verdict                                      |
 * | -------------------------------------------- | -------------------------------------------- |
 * | lease unknown, epoch of an earlier boot      | ignored: the coordinator restarted meanwhile |
 * | lease unknown, epoch of this boot            | breach `foreign-lease`                       |
 * | lease of another node                        | breach `foreign-lease`                       |
 * | lease of a chain, from its first stage       | as from the last one; ignored once it is over |
 * | lease known, epoch differs                   | breach `dead-epoch`                          |
 * | lease dead (revoked or run out)              | ignored: late                                |
 * | lease ended by the node itself               | breach `message-after-end`                   |
 * | seq seen before                              | breach `duplicate-seq`, the attempt goes on  |
 * | seq beyond the next                          | breach `skipped-seq`, the attempt is spoilt  |
 * | token id outside the vocabulary              | breach `token-out-of-vocabulary`, spoilt     |
 * | more tokens than were asked for              | breach `too-many-tokens`, spoilt             |
 * | else                                         | accepted whole                               |
 *
 * A spoilt attempt has a gap or a lie in it: it moves to another node from the last accepted token.
 */
import type { LeaseId, NodeId } from "../../domain/ids.ts";
import { EPOCHS_PER_BOOT } from "../../domain/lease.ts";
import type { LeaseRecord } from "./lease-table.ts";

export interface ChunkClaim {
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly seq: number;
  readonly tokenIds: readonly number[];
}

export interface AttemptProgress {
  readonly nextSeq: number;
  readonly vocabSize: number;
  readonly tokensLeft: number;
}

export type BreachCode =
  | "foreign-lease"
  | "dead-epoch"
  | "message-after-end"
  | "duplicate-seq"
  | "skipped-seq"
  | "token-out-of-vocabulary"
  | "too-many-tokens";

export type LeaseVerdict =
  | { readonly kind: "live" }
  | { readonly kind: "ignore"; readonly why: "late" | "dead-epoch" }
  | { readonly kind: "breach"; readonly code: BreachCode; readonly detail: string; readonly isSpoilt: boolean };

export type ChunkVerdict = Exclude<LeaseVerdict, { kind: "live" }> | { readonly kind: "accept" };

/** The lease's part of the check: for chunks, ends, failures and embeddings alike. */
export function judgeLease(claim: {
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly from: NodeId;
  readonly boot: number;
  readonly found: LeaseRecord | null;
}): LeaseVerdict {
  const { found, from } = claim;
  if (found === null) {
    const claimedBoot = Math.floor(claim.epoch / EPOCHS_PER_BOOT);
    if (claimedBoot < claim.boot) return { kind: "ignore", why: "dead-epoch" };
    return breach("foreign-lease", `${claim.leaseId} was never granted`, false);
  }
  const isHead = found.lease.headNodeId === from && found.lease.nodeId !== from;
  if (found.lease.nodeId !== from && !isHead) {
    return breach("foreign-lease", `${claim.leaseId} belongs to ${found.lease.nodeId}`, false);
  }
  if (found.lease.epoch !== claim.epoch) {
    return breach("dead-epoch", `epoch ${claim.epoch} of ${claim.leaseId}, whose epoch is ${found.lease.epoch}`, false);
  }
  switch (found.state) {
    case "live":
      return { kind: "live" };
    case "dead":
      return { kind: "ignore", why: "late" };
    case "ended":
      if (isHead) return { kind: "ignore", why: "late" };
      return breach("message-after-end", `${claim.leaseId} was ended by its node before`, false);
  }
}

/** For a chunk whose lease is live. */
export function judgeChunk(claim: ChunkClaim, progress: AttemptProgress): ChunkVerdict {
  if (claim.seq < progress.nextSeq) {
    return breach(
      "duplicate-seq",
      `seq ${claim.seq} of ${claim.leaseId} came before; next is ${progress.nextSeq}`,
      false,
    );
  }
  if (claim.seq > progress.nextSeq) {
    return breach(
      "skipped-seq",
      `seq ${claim.seq} of ${claim.leaseId} leaves a gap; next is ${progress.nextSeq}`,
      true,
    );
  }
  const foreign = claim.tokenIds.find((id) => id < 0 || id >= progress.vocabSize || !Number.isInteger(id));
  if (foreign !== undefined) {
    return breach("token-out-of-vocabulary", `token ${foreign}; the vocabulary has ${progress.vocabSize}`, true);
  }
  if (claim.tokenIds.length > progress.tokensLeft) {
    return breach("too-many-tokens", `${claim.tokenIds.length} tokens where ${progress.tokensLeft} were left`, true);
  }
  return { kind: "accept" };
}

function breach(code: BreachCode, detail: string, isSpoilt: boolean): Extract<LeaseVerdict, { kind: "breach" }> {
  return { kind: "breach", code, detail, isSpoilt };
}
