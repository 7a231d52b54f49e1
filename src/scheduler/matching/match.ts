/**
 * One decision: which replica takes this request; or, when none can, which node could load the model.
 *
 * Walk the posting lists of the allowed regions best bound first. An entry that breaks a hard rule is counted and passed over; one that
 * holds is scored and kept. Stop when no later entry can come within `TIE_BAND_MS` of the best (then the best is the exhaustive
 * optimum), or when `PROBES_MAX` entries were scored (then almost always). Among the kept ones within the band two are drawn by the
 * request's seed, and the one with the smaller live load wins: power of two choices, so that equal replicas share a burst.
 *
 * Full tie-break: smaller load share, higher score, smaller id. Equal facts and an equal seed give an equal answer, in whatever order
 * the facts arrived.
 */

import { horizonOf } from "./filing.ts";
import type { MatchIndex } from "./match-index.ts";
import { VRAM_BUCKETS, vramBucket } from "./match-index.ts";
import {
  HELD_OBSTACLE,
  listedObstacle,
  loadObstacle,
  loadScore,
  type MatchQuery,
  NO_OBSTACLE,
  queryOf,
  REGION_OBSTACLE,
  replicaObstacle,
  replicaScore,
  scoreAt,
} from "./match-query.ts";
import { type MatchRequest, mixed, OBSTACLES } from "./match-request.ts";
import type { Ranking, Shelf } from "./posting-list.ts";
import { TIE_BAND_MS } from "./score.ts";
import { Walk } from "./walk.ts";

/** Entries that are scored in one decision: bench matching scores 2.6 on average and misses no optimum. */
export const PROBES_MAX = 64;

/** What one decision saw; made once and used for every decision. Valid until the next one. */
export class MatchScratch {
  /** Scored entries in the order in which they were met. */
  readonly candidates = new Int32Array(PROBES_MAX + 1);
  readonly scores = new Float64Array(PROBES_MAX + 1);
  readonly near = new Int32Array(PROBES_MAX + 1);
  /** By place in `OBSTACLES`. */
  readonly turnedAway = new Int32Array(OBSTACLES.length);
  readonly walk = new Walk();
  scored = 0;
  looked = 0;
  /** -Infinity while nothing is scored. */
  bestMs = Number.NEGATIVE_INFINITY;
  query: MatchQuery | null = null;

  begin(query: MatchQuery): void {
    this.turnedAway.fill(0);
    this.scored = 0;
    this.looked = 0;
    this.bestMs = Number.NEGATIVE_INFINITY;
    this.query = query;
    this.walk.begin(query.request.seed, horizonOf(query.request.remainingMs));
  }

  keep(entry: number, scoreMs: number): void {
    this.candidates[this.scored] = entry;
    this.scores[this.scored] = scoreMs;
    this.scored += 1;
    if (scoreMs > this.bestMs) this.bestMs = scoreMs;
  }

  turnAway(obstacle: number, count = 1): void {
    this.turnedAway[obstacle] = (this.turnedAway[obstacle] ?? 0) + count;
  }
}

/** A dense replica id, or -1 when no replica of the model can take the request. */
export function matchReplica(index: MatchIndex, request: MatchRequest, scratch: MatchScratch): number {
  const query = queryOf(index, request);
  scratch.begin(query);
  addLists(index, scratch, index.replicaShelf(request.modelId));
  const hint = hintOf(index, query);
  // The replica that knows the prompt's head may stand anywhere in its list: looked at first, it is never missed.
  if (hint !== -1 && replicaObstacle(index, query, hint) === NO_OBSTACLE) {
    scratch.keep(hint, replicaScore(index, query, hint));
  }
  const { walk } = scratch;
  while (scratch.scored < PROBES_MAX && mayWin(walk.headMs(), scratch)) {
    const replica = walk.next();
    if (replica === hint && scratch.scored > 0 && scratch.candidates[0] === hint) continue;
    scratch.looked += 1;
    const obstacle = listedObstacle(index, query, replica);
    if (obstacle === NO_OBSTACLE) scratch.keep(replica, scoreAt(index, query, replica, walk.distanceMs));
    else scratch.turnAway(obstacle);
  }
  return chosen(scratch, index.replicaRanking);
}

/** A dense node id, or -1: where the model could be loaded beside what is there. `neededBytes` free on one device. */
export function matchLoad(
  index: MatchIndex,
  load: { readonly request: MatchRequest; readonly neededBytes: number },
  scratch: MatchScratch,
): number {
  const { request, neededBytes } = load;
  const query = queryOf(index, request);
  scratch.begin(query);
  for (let bucket = vramBucket(neededBytes); bucket < VRAM_BUCKETS; bucket++) {
    addLists(index, scratch, index.nodeShelf(bucket), bucket);
  }
  const model = index.replicas.models.find(request.modelId);
  const { walk } = scratch;
  while (scratch.scored < PROBES_MAX && mayWin(walk.headMs(), scratch)) {
    const node = walk.next();
    scratch.looked += 1;
    const obstacle = holds(index, node, model) ? HELD_OBSTACLE : loadObstacle(index, query, { node, neededBytes });
    if (obstacle === NO_OBSTACLE) scratch.keep(node, loadScore(index, query, node));
    else scratch.turnAway(obstacle);
  }
  return chosen(scratch, index.nodeRanking);
}

/** An entry with this bound may be within the tie band of the best; the walk's end is not. */
function mayWin(boundMs: number, scratch: MatchScratch): boolean {
  return boundMs > Number.NEGATIVE_INFINITY && boundMs >= scratch.bestMs - TIE_BAND_MS;
}

export function holds(index: MatchIndex, node: number, model: number): boolean {
  const { replicas } = index;
  for (let at = replicas.firstOnNode(node); at !== -1; at = replicas.nextOnNode(at)) {
    if (replicas.model(at) === model) return true;
  }
  return false;
}

/** The hinted replica when it is one of this model in the index. */
function hintOf(index: MatchIndex, query: MatchQuery): number {
  const { hintReplica, request } = query;
  const model = index.replicas.models.find(request.modelId);
  return hintReplica !== -1 && index.replicas.model(hintReplica) === model ? hintReplica : -1;
}

/** The lists of allowed regions; entries of others are counted as turned away. */
function addLists(index: MatchIndex, scratch: MatchScratch, shelf: Shelf, rank = 0): void {
  const { query, walk } = scratch;
  if (query === null) return;
  const { isAllowed, distancesMs } = query;
  const leftOut = walk.addShelf(shelf, { isAllowed, distancesMs, ranks: index.nodes.regionRanks(), rank });
  scratch.turnAway(REGION_OBSTACLE, leftOut);
}

/** Power of two choices among the candidates near the best. */
function chosen(scratch: MatchScratch, of: Ranking): number {
  const { candidates, scores, near, scored } = scratch;
  let nearCount = 0;
  for (let at = 0; at < scored; at++) {
    if ((scores[at] ?? 0) >= scratch.bestMs - TIE_BAND_MS) near[nearCount++] = at;
  }
  if (nearCount === 0) return -1;
  const seed = mixed(scratch.query?.request.seed ?? 0);
  const first = seed % nearCount;
  const second = nearCount === 1 ? first : (first + 1 + (mixed(seed) % (nearCount - 1))) % nearCount;
  const [one, other] = [near[first] ?? 0, near[second] ?? 0];
  const [entry, rival] = [candidates[one] ?? 0, candidates[other] ?? 0];
  const order =
    of.load(entry) - of.load(rival) || (scores[other] ?? 0) - (scores[one] ?? 0) || of.compare(entry, rival);
  return order <= 0 ? entry : rival;
}
