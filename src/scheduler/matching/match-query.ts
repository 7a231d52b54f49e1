/** A request in the index's own numbers, made once for each decision, and the hard rules over them. */

import type { MatchIndex } from "./match-index.ts";
import { type MatchConstraints, type MatchRequest, OBSTACLES } from "./match-request.ts";
import { nodeParts, riskScore, SCORE_WEIGHTS, type ScoreParts } from "./score.ts";

const [NOT_READY, FAILED_BEFORE, REGION, TRUST, PRICE, FAR, SLOW, GPU_CLASS, OWNER, NETWORK, CONTEXT, MEMORY, FULL] = [
  OBSTACLES.indexOf("replica-not-ready"),
  OBSTACLES.indexOf("node-failed-before"),
  OBSTACLES.indexOf("region-not-allowed"),
  OBSTACLES.indexOf("trust-too-low"),
  OBSTACLES.indexOf("price-too-high"),
  OBSTACLES.indexOf("too-far"),
  OBSTACLES.indexOf("too-slow"),
  OBSTACLES.indexOf("gpu-class-not-allowed"),
  OBSTACLES.indexOf("owner-excluded"),
  OBSTACLES.indexOf("network-excluded"),
  OBSTACLES.indexOf("context-too-small"),
  OBSTACLES.indexOf("memory-too-small"),
  OBSTACLES.indexOf("slots-full"),
] as const;

const ANY = Number.POSITIVE_INFINITY;
/** No rule is broken. */
export const NO_OBSTACLE = -1;

export interface MatchQuery {
  readonly request: MatchRequest;
  /** By region code + 1, 1 where it is allowed; null: all are. */
  readonly isAllowed: Uint8Array | null;
  /** By region code + 1; null: equally far. */
  readonly distancesMs: Float64Array | null;
  /** Dense ids of excluded nodes; null when none is. */
  readonly excluded: ReadonlySet<number> | null;
  readonly owners: ReadonlySet<number> | null;
  readonly networks: ReadonlySet<number> | null;
  readonly gpuClasses: ReadonlySet<number> | null;
  readonly hintReplica: number;
}

export function queryOf(index: MatchIndex, request: MatchRequest): MatchQuery {
  const { nodes, replicas } = index;
  const { constraints, callerRegion, hint } = request;
  return {
    request,
    isAllowed: allowed(index, constraints),
    distancesMs: callerRegion === null ? null : index.distancesFrom(nodes.regions.find(callerRegion)),
    excluded: noneOr(request.excludedNodeIds, (id) => nodes.find(id)),
    owners: noneOr(constraints.excludedOwners, (name) => nodes.owners.find(name)),
    networks: noneOr(constraints.excludedNetworks, (name) => nodes.networks.find(name)),
    gpuClasses: codes(constraints.gpuClasses, (name) => nodes.gpuClasses.find(name)),
    hintReplica: hint === null ? -1 : replicas.find(hint.replicaId),
  };
}

/** By region code + 1; null: everywhere. The first place stands for nodes of unknown region. */
function allowed(index: MatchIndex, constraints: MatchRequest["constraints"]): Uint8Array | null {
  const { regions, excludedRegions = [] } = constraints;
  if (regions === null && excludedRegions.length === 0) return null;
  const isAllowed = new Uint8Array(index.nodes.regions.size + 1);
  if (regions === null) isAllowed.fill(1, 1);
  else mark(index, isAllowed, { names: regions, as: 1 });
  mark(index, isAllowed, { names: excludedRegions, as: 0 });
  return isAllowed;
}

function mark(index: MatchIndex, isAllowed: Uint8Array, by: { names: readonly string[]; as: 0 | 1 }): void {
  for (const name of by.names) {
    const code = index.nodes.regions.find(name);
    if (code >= 0) isAllowed[code + 1] = by.as;
  }
}

function noneOr<Name>(names: ReadonlySet<Name>, find: (name: Name) => number): ReadonlySet<number> | null {
  return names.size === 0 ? null : codes(names, find);
}

function codes<Name>(names: Iterable<Name> | null, find: (name: Name) => number): ReadonlySet<number> | null {
  if (names === null) return null;
  const found = new Set<number>();
  for (const name of names) found.add(find(name));
  return found;
}

/** The first rule that this node breaks, as a place in `OBSTACLES`; `NO_OBSTACLE` when it takes the work. */
export function nodeObstacle(index: MatchIndex, query: MatchQuery, node: number): number {
  const { nodes } = index;
  const state = nodes.state(node);
  if (state !== 0) return state - 1;
  if (query.excluded?.has(node) === true) return FAILED_BEFORE;
  if (query.isAllowed !== null && query.isAllowed[nodes.region(node) + 1] !== 1) return REGION;
  return ruleObstacle(index, query, node);
}

/** Facts of a node lie far apart in memory: none is read for a rule that nobody set. */
function ruleObstacle(index: MatchIndex, query: MatchQuery, node: number): number {
  const { nodes } = index;
  const rules: MatchConstraints = query.request.constraints;
  if (rules.trustMin > 0 && nodes.trust(node) < rules.trustMin) return TRUST;
  const { priceMicroUsdPerHourMax, rttMsMax, decodeTokPerSecondMin } = rules;
  if (priceMicroUsdPerHourMax < ANY && nodes.priceMicroUsdPerHour(node) > priceMicroUsdPerHourMax) return PRICE;
  if (rttMsMax < ANY && nodes.rttMs(node) > rttMsMax) return FAR;
  if (decodeTokPerSecondMin > 0 && nodes.decodeTokPerSecond(node) < decodeTokPerSecondMin) return SLOW;
  if (query.gpuClasses !== null && !query.gpuClasses.has(nodes.gpuClass(node))) return GPU_CLASS;
  if (query.owners?.has(nodes.owner(node)) === true) return OWNER;
  if (query.networks?.has(nodes.network(node)) === true) return NETWORK;
  return NO_OBSTACLE;
}

/**
 * Of an entry that stands in an order of an allowed region: it takes work, is ready and has a free slot already, so only what this
 * request asks is looked at.
 */
export function listedObstacle(index: MatchIndex, query: MatchQuery, replica: number): number {
  const { replicas } = index;
  if (replicas.contextTokens(replica) < query.request.tokensNeeded) return CONTEXT;
  const node = replicas.node(replica);
  if (query.excluded?.has(node) === true) return FAILED_BEFORE;
  return ruleObstacle(index, query, node);
}

/** Whatever its state is. */
export function replicaObstacle(index: MatchIndex, query: MatchQuery, replica: number): number {
  const { replicas } = index;
  const node = replicas.node(replica);
  const state = index.nodes.state(node);
  if (state !== 0) return state - 1;
  if (replicas.isReady(replica) !== 1) return NOT_READY;
  if (replicas.contextTokens(replica) < query.request.tokensNeeded) return CONTEXT;
  if (replicas.slotsLeased(replica) >= replicas.slots(replica)) return FULL;
  return nodeObstacle(index, query, node);
}

/** `neededBytes`: free on one device. A node that holds the model already is passed over by the caller. */
export function loadObstacle(
  index: MatchIndex,
  query: MatchQuery,
  load: { node: number; neededBytes: number },
): number {
  const obstacle = nodeObstacle(index, query, load.node);
  if (obstacle !== NO_OBSTACLE) return obstacle;
  return index.nodes.vramFreeBytes(load.node) < load.neededBytes ? MEMORY : NO_OBSTACLE;
}

export const REGION_OBSTACLE = REGION;
/** A load is looked for where the model is not; a node that holds it is counted so. */
export const HELD_OBSTACLE = NOT_READY;

// -------------------------------------------------------------- scores

export function replicaScore(index: MatchIndex, query: MatchQuery, replica: number): number {
  return scoreAt(index, query, replica, distanceMs(index, query, index.replicas.node(replica)));
}

/** For who knows how far it is to the replica's region. */
export function scoreAt(index: MatchIndex, query: MatchQuery, replica: number, distanceMs: number): number {
  const { replicas, nodes } = index;
  const node = replicas.node(replica);
  const prefix = replica === query.hintReplica ? prefixScore(query) : 0;
  return (
    nodes.staticMs(node) +
    replicas.warmthMs(replica) +
    riskScore(nodes.hazardPerMs(node), query.request.remainingMs) -
    distanceMs -
    SCORE_WEIGHTS.loadMs * loadShare(index, replica) +
    prefix
  );
}

function distanceMs(index: MatchIndex, query: MatchQuery, node: number): number {
  return query.distancesMs?.[index.nodes.region(node) + 1] ?? 0;
}

/** 0 to 1. */
export function loadShare(index: MatchIndex, replica: number): number {
  return index.replicas.slotsLeased(replica) / Math.max(1, index.replicas.slots(replica));
}

function prefixScore(query: MatchQuery): number {
  return SCORE_WEIGHTS.prefixMs * (query.request.hint?.promptShare ?? 0);
}

/** The score again, part by part. */
export function replicaParts(index: MatchIndex, query: MatchQuery, replica: number): ScoreParts {
  const { replicas } = index;
  return {
    ...partsOfNode(index, query, replicas.node(replica)),
    warmth: replicas.warmthMs(replica),
    prefix: replica === query.hintReplica ? prefixScore(query) : 0,
    load: 0 - SCORE_WEIGHTS.loadMs * loadShare(index, replica),
  };
}

/** Of a node that would have to load the model: nothing is warm, and load is the share of its memory that is taken. */
export function loadScore(index: MatchIndex, query: MatchQuery, node: number): number {
  const { nodes } = index;
  const usable = nodes.vramUsableBytes(node);
  const taken = usable === 0 ? 0 : 1 - nodes.vramFreeBytes(node) / usable;
  return (
    nodes.staticMs(node) +
    riskScore(nodes.hazardPerMs(node), query.request.remainingMs) -
    distanceMs(index, query, node) -
    SCORE_WEIGHTS.loadMs * taken
  );
}

function partsOfNode(
  index: MatchIndex,
  query: MatchQuery,
  node: number,
): Omit<ScoreParts, "warmth" | "prefix" | "load"> {
  const { nodes } = index;
  const own = nodeParts(nodes.qualities(node));
  return {
    ...own,
    rtt: own.rtt - distanceMs(index, query, node),
    risk: riskScore(nodes.hazardPerMs(node), query.request.remainingMs),
  };
}
