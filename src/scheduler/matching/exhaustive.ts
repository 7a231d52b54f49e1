/**
 * The reference: looks at every replica of the index and takes the highest score, ties to the smaller id. For tests and the bench; the
 * matcher's own answer is within `TIE_BAND_MS` of it.
 */
import type { MatchIndex } from "./match-index.ts";
import { NO_OBSTACLE, queryOf, replicaObstacle, replicaScore } from "./match-query.ts";
import { type MatchRequest, OBSTACLES, type ObstacleCounts, obstacleCounts } from "./match-request.ts";

export interface ExhaustiveMatch {
  /** -1 when no replica can take the request. */
  readonly replica: number;
  /** -Infinity when none can. */
  readonly scoreMs: number;
  readonly feasible: number;
  readonly turnedAway: ObstacleCounts;
}

export function matchExhaustively(index: MatchIndex, request: MatchRequest): ExhaustiveMatch {
  const query = queryOf(index, request);
  const { ids } = index.replicas;
  const model = index.replicas.models.find(request.modelId);
  const counts = new Int32Array(OBSTACLES.length);
  let best = -1;
  let bestMs = Number.NEGATIVE_INFINITY;
  let feasible = 0;
  for (let replica = 0; replica < ids.capacity; replica++) {
    if (!ids.isUsed(replica) || index.replicas.model(replica) !== model) continue;
    const obstacle = replicaObstacle(index, query, replica);
    if (obstacle !== NO_OBSTACLE) {
      counts[obstacle] = (counts[obstacle] ?? 0) + 1;
      continue;
    }
    feasible += 1;
    const scoreMs = replicaScore(index, query, replica);
    if (scoreMs < bestMs || (scoreMs === bestMs && ids.key(best) < ids.key(replica))) continue;
    best = replica;
    bestMs = scoreMs;
  }
  return { replica: best, scoreMs: bestMs, feasible, turnedAway: obstacleCounts(counts) };
}
