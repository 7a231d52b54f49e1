/** What a node may take from the source now (scheduler/distribution/source-claims.ts decides), with what only the shell knows. */
import type { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { CoordinatorMessage } from "../../wire/agent-link.ts";
import { isNameableTo, type NamingPorts } from "./holder-list.ts";
import type { Swarm } from "./swarm.ts";

export type ClaimAnswer = Extract<CoordinatorMessage, { type: "weights.claimed" }>;

/** Chunks that one node holds claims on when many ask: the rest is for them. */
const CLAIM_SHARE_MIN = 8;
/** Ahead of need: who comes meanwhile waits for no more than these. */
export const IDLE_CLAIM_MAX = 8;
const RETRY_LATER_MS = 2_000;
const UNREACHABLE_MS = 60_000;
/** Of a claim that nobody else waits for. */
const ALONE_TTL_MS = 600_000;

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
  const { nodeId, asked } = question;
  const { weightsSha256 } = swarm;
  const nowMs = ports.clock.monoMs();
  const want = swarm.wants.get(nodeId);
  // Only of holders there are: a node that names others without end must not be remembered without end.
  for (const holder of question.unreachable) {
    if (swarm.holdings.has(holder)) want?.unreachable.set(holder, nowMs + UNREACHABLE_MS);
  }
  const isIdle = want?.isIdle ?? false;
  if (isIdle && question.isSourceUrgent) return emptyClaim(weightsSha256, RETRY_LATER_MS);
  const have = swarm.holdings.get(nodeId)?.have;
  const need = have === undefined ? asked : asked.minus(have);
  if (ports.endpointsOf(nodeId) === null) return withoutPeers(need, question.chunksMax, weightsSha256);
  const unreachable = new Set(question.unreachable);
  // Who is not named to this node cannot give it anything either.
  for (const holder of swarm.holdings.keys()) if (!isNameableTo(nodeId, holder, swarm, ports)) unreachable.add(holder);
  const share = Math.max(CLAIM_SHARE_MIN, Math.ceil(need.size / Math.max(1, swarm.wants.size)));
  const chunksMax = Math.min(question.chunksMax, isIdle ? IDLE_CLAIM_MAX : share);
  const before = new Set(swarm.claims.heldBy(nodeId));
  const answer = swarm.claims.claim({ nodeId, need, chunksMax, unreachable, isIdle }, nowMs);
  swarm.countClaimed(
    nodeId,
    [...swarm.claims.heldBy(nodeId)].filter((chunk) => !before.has(chunk)),
  );
  const runs = answer.runs.map(([from, count]): [number, number] => [from, count]);
  return {
    type: "weights.claimed",
    weightsSha256,
    runs,
    ttlMs: Math.ceil(answer.ttlMs),
    retryAfterMs: answer.retryAfterMs,
  };
}

/** A node that nobody can fetch from brings nothing to others, so it keeps nothing from them: it takes what it needs. */
function withoutPeers(need: ChunkSet, chunksMax: number, weightsSha256: string): ClaimAnswer {
  const runs: [number, number][] = [];
  let left = chunksMax;
  for (const [from, count] of need.runs()) {
    if (left === 0) break;
    runs.push([from, Math.min(count, left)]);
    left -= Math.min(count, left);
  }
  return { type: "weights.claimed", weightsSha256, runs, ttlMs: ALONE_TTL_MS, retryAfterMs: RETRY_LATER_MS };
}

export function emptyClaim(weightsSha256: string, retryAfterMs: number): ClaimAnswer {
  return { type: "weights.claimed", weightsSha256, runs: [], ttlMs: 0, retryAfterMs };
}
