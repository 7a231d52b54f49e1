/**
 * What nodes send about their attempts, judged message by message. Nothing here trusts a node: what does not fit the lease, the
 * order, the vocabulary or the count is dropped and reported as a breach, and an attempt that it spoils is given up.
 */
import type { NodeId } from "../../domain/ids.ts";
import { leaseId as asLeaseId } from "../../domain/ids.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import { judgeChunk, judgeLease } from "../../scheduler/attempts/accept-chunk.ts";
import type { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import { afterToken } from "../../scheduler/attempts/stall.ts";
import { withTokens } from "../../scheduler/placement/observed-speed.ts";
import type { AttemptEnd, Chunk } from "../../wire/agent-link.ts";
import type { Roster, WorkMessage } from "../roster.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import { EmbeddingWork } from "./embedding-work.ts";
import { statementProblem } from "./verify-statement.ts";
import type { RunningAttempt, Work } from "./work.ts";

export type Statement = { readonly json: string; readonly signatureHex: string };

/** What follows from a message; the dispatcher carries it out. */
export interface WorkInboxHandlers {
  /** The attempt that holds a live lease; null when it is being closed. */
  find(leaseId: string): Work | null;
  onTokens(work: Work, tokens: readonly SampledToken[]): void;
  onEnd(work: Work, end: { reason: AttemptEnd["reason"]; statement: Statement | null }): void;
  /** The first that comes of either of two attempts: the other one loses. */
  onFirst(work: Work, attempt: RunningAttempt): void;
  onSpoilt(work: Work, attempt: RunningAttempt, detail: string): void;
  onFailed(work: Work, attempt: RunningAttempt, failure: { code: string; message: string }): void;
}

export interface WorkInboxPorts {
  readonly gridId: string;
  readonly boot: number;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly roster: Roster;
  readonly leases: LeaseTable;
  /** The clock of leases and stalls. */
  patientMs(): number;
}

type AttemptMessage = Exclude<WorkMessage, { type: "replica.state" }>;

export class WorkInbox {
  readonly #ports: WorkInboxPorts;
  readonly #options: DispatchOptions;
  readonly #handlers: WorkInboxHandlers;
  /** Messages of leases that were revoked meanwhile. */
  lateMessages = 0;
  breaches = 0;

  constructor(ports: WorkInboxPorts, options: DispatchOptions, handlers: WorkInboxHandlers) {
    this.#ports = ports;
    this.#options = options;
    this.#handlers = handlers;
  }

  take(from: NodeId, message: AttemptMessage): void {
    if (message.type === "attempt.chunks") {
      for (const chunk of message.chunks) this.#takeChunk(from, chunk);
      return;
    }
    const held = this.#heldBy(from, message);
    if (held === null) return;
    switch (message.type) {
      case "attempt.end":
        this.#takeEnd(held, message);
        return;
      case "attempt.embedding":
        this.#takeVectors(held, message.vectors);
        return;
      case "attempt.failed":
        this.#handlers.onFailed(held.work, held.attempt, message);
    }
  }

  #takeChunk(from: NodeId, chunk: Chunk): void {
    const held = this.#heldBy(from, chunk);
    if (held === null) return;
    const { work, attempt } = held;
    const tokensLeft = work.room(chunk.tokenIds) + attempt.acknowledgedTokens - attempt.receivedTokenIds.length;
    const verdict = judgeChunk(
      { ...chunk, leaseId: asLeaseId(chunk.leaseId) },
      { nextSeq: attempt.nextSeq, vocabSize: work.vocabSize, tokensLeft },
    );
    if (verdict.kind === "breach") {
      this.#breach(from, verdict);
      if (verdict.isSpoilt) this.#handlers.onSpoilt(work, attempt, `${verdict.code}: ${verdict.detail}`);
      return;
    }
    if (verdict.kind === "ignore") return;
    const tokens = sampledTokens(chunk, work.vocabSize);
    if (tokens === null) {
      const detail = `details of seq ${chunk.seq} do not fit its tokens`;
      this.#breach(from, { code: "details-differ", detail });
      this.#handlers.onSpoilt(work, attempt, detail);
      return;
    }
    const nowMs = this.#ports.patientMs();
    if (work.hedge !== null) this.#handlers.onFirst(work, attempt);
    attempt.nextSeq += 1;
    for (const { tokenId } of tokens) attempt.receivedTokenIds.push(tokenId);
    attempt.pace = afterToken(attempt.pace, nowMs);
    this.#ports.leases.renew(attempt.lease.leaseId, { nowMs, ttlMs: this.#options.leaseTtlMs });
    if (work.phase === "closing") return;
    attempt.acknowledgedTokens += tokens.length;
    const leased = this.#ports.leases.leasedOn(attempt.lease.replicaId);
    attempt.effort = withTokens(attempt.effort, { nowMs, tokens: tokens.length, leased });
    this.#handlers.onTokens(work, tokens);
  }

  #takeEnd(held: Held, end: AttemptEnd): void {
    const { work, attempt, from } = held;
    const problem = this.#endProblem(work, attempt, end);
    if (problem !== null) {
      this.#breach(from, problem);
      this.#handlers.onSpoilt(work, attempt, `${problem.code}: ${problem.detail}`);
      return;
    }
    if (work.hedge !== null) this.#handlers.onFirst(work, attempt);
    const detail = statementProblem(
      { gridId: this.#ports.gridId, terms: work.terms, attempt, end },
      this.#ports.crypto,
    );
    if (detail !== null) this.#breach(from, { code: "statement-differs", detail });
    const statement = detail === null ? { json: end.statementJson, signatureHex: end.signature } : null;
    this.#handlers.onEnd(work, { reason: end.reason, statement });
  }

  #endProblem(work: Work, attempt: RunningAttempt, end: AttemptEnd): { code: string; detail: string } | null {
    if (end.seq !== attempt.nextSeq) {
      return { code: "skipped-seq", detail: `ended at seq ${end.seq}, ${attempt.nextSeq} chunks came` };
    }
    if (work.phase === "closing") return null;
    const detail = work.endProblem(end.reason);
    return detail === null ? null : { code: "false-end", detail };
  }

  #takeVectors(held: Held, vectors: readonly string[]): void {
    const { work, attempt, from } = held;
    const detail = work instanceof EmbeddingWork ? work.takeVectors(vectors) : "a generation answered with vectors";
    if (detail === null) {
      const nowMs = this.#ports.patientMs();
      attempt.completedAtMs = nowMs;
      this.#ports.leases.renew(attempt.lease.leaseId, { nowMs, ttlMs: this.#options.leaseTtlMs });
      return;
    }
    this.#breach(from, { code: "vectors-differ", detail });
    this.#handlers.onSpoilt(work, attempt, detail);
  }

  #heldBy(from: NodeId, claim: { leaseId: string; epoch: number; type?: string }): Held | null {
    const leaseId = asLeaseId(claim.leaseId);
    const found = this.#ports.leases.find(leaseId);
    const verdict = judgeLease({ leaseId, epoch: claim.epoch, from, boot: this.#ports.boot, found });
    if (verdict.kind === "breach") {
      this.#breach(from, verdict);
      return null;
    }
    const isOfHead = claim.type !== "attempt.failed" && found?.lease.nodeId !== from;
    if (verdict.kind === "live" && isOfHead && claim.type !== "attempt.end") {
      this.#breach(from, {
        code: "foreign-lease",
        detail: `${claim.type ?? "a chunk"} of ${leaseId} from a first stage`,
      });
      return null;
    }
    const work = verdict.kind === "live" && !isOfHead ? this.#handlers.find(leaseId) : null;
    const attempt = work?.attemptUnder(leaseId) ?? null;
    if (work !== null && attempt !== null) return { work, attempt, from };
    this.lateMessages += 1;
    return null;
  }

  #breach(from: NodeId, breach: { code: string; detail: string }): void {
    this.breaches += 1;
    this.#ports.log.warn({ nodeId: from, code: breach.code, detail: breach.detail }, "node broke the protocol");
    this.#ports.roster.reportBreach(from, { code: breach.code, detail: breach.detail });
  }
}

interface Held {
  readonly work: Work;
  readonly attempt: RunningAttempt;
  readonly from: NodeId;
}

/** Null when the details are of other tokens than the chunk's own, or name tokens that do not exist. */
function sampledTokens(chunk: Chunk, vocabSize: number): readonly SampledToken[] | null {
  const { details, tokenIds } = chunk;
  if (details === null) return tokenIds.map((tokenId) => ({ tokenId, logprob: null, top: [] }));
  const fits =
    details.length === tokenIds.length &&
    details.every(
      (detail, at) => detail.tokenId === tokenIds[at] && detail.top.every(({ tokenId }) => tokenId < vocabSize),
    );
  return fits ? details : null;
}
