/** What a node may take from the source now: chunks that no holder could give it and that nobody else brings. */
import { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { CoordinatorMessage } from "../../wire/agent-link.ts";
import { eligibleHolders, type NamingPorts } from "./holder-list.ts";
import type { Swarm } from "./swarm.ts";

export type ClaimAnswer = Extract<CoordinatorMessage, { type: "weights.claimed" }>;

/** A claim lasts for the bytes at this rate, and some time: a modem's neighbour must not wait for the modem. */
const CLAIM_BYTES_PER_SECOND_MIN = 512 * 1024;
const CLAIM_MS_BASE = 15_000;
export const CLAIM_MS_MAX = 120_000;
/** Chunks that one claim gives when many ask: the rest is for them. */
const CLAIM_SHARE_MIN = 8;
/** Ahead of need: who comes meanwhile waits for no more than these. */
export const IDLE_CLAIM_MAX = 8;
const RETRY_SOON_MS = 500;
const RETRY_LATER_MS = 2_000;
const UNREACHABLE_MS = 60_000;

export interface ClaimQuestion {
  readonly nodeId: NodeId;
  readonly asked: ChunkSet;
  readonly chunksMax: number;
  /** Holders that it tried and failed to reach. */
  readonly unreachable: readonly NodeId[];
  /** Somebody takes from the source what is waited for, of this model or another. */
  readonly isSourceUrgent: boolean;
}

/** Counts what it gives as given: send it. */
export function answerClaim(question: ClaimQuestion, swarm: Swarm, ports: NamingPorts): ClaimAnswer {
  const { nodeId, asked, unreachable } = question;
  const nowMs = ports.clock.monoMs();
  const want = swarm.wants.get(nodeId);
  for (const holder of unreachable) want?.unreachable.set(holder, nowMs + UNREACHABLE_MS);
  const isIdle = want?.isIdle ?? false;
  if (isIdle && question.isSourceUrgent) return emptyClaim(swarm.weightsSha256, RETRY_LATER_MS);
  const have = swarm.holdings.get(nodeId)?.have;
  const need = have === undefined ? asked : asked.minus(have);
  const elsewhere = new ChunkSet(swarm.chunkCount);
  for (const { holding } of eligibleHolders(nodeId, swarm, ports, new Set(unreachable))) {
    elsewhere.addAll(holding.have);
    if (elsewhere.isFull) break;
  }
  const share = Math.max(CLAIM_SHARE_MIN, Math.ceil(need.size / Math.max(1, swarm.wants.size)));
  const chunksMax = Math.min(question.chunksMax, isIdle ? IDLE_CLAIM_MAX : share);
  const bytes = Math.min(chunksMax, need.size) * swarm.chunkBytes;
  const ttlMs = Math.min(CLAIM_MS_MAX, CLAIM_MS_BASE + Math.ceil((bytes * 1_000) / CLAIM_BYTES_PER_SECOND_MIN));
  const given = swarm.claims.give({ nodeId, need, chunksMax, elsewhere, nowMs, untilMs: nowMs + ttlMs, isIdle });
  if (given.length === 0) return emptyClaim(swarm.weightsSha256, RETRY_SOON_MS);
  swarm.account(nodeId).claimedChunks += given.length;
  const set = new ChunkSet(swarm.chunkCount);
  for (const chunk of given) set.add(chunk);
  const runs = set.runs().map(([from, count]): [number, number] => [from, count]);
  return { type: "weights.claimed", weightsSha256: swarm.weightsSha256, runs, ttlMs, retryAfterMs: RETRY_SOON_MS };
}

export function emptyClaim(weightsSha256: string, retryAfterMs: number): ClaimAnswer {
  return { type: "weights.claimed", weightsSha256, runs: [], ttlMs: 0, retryAfterMs };
}
