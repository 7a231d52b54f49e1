/**
 * Where one more replica of a model could be, and what it would be worth there. Constraints first, in an order that names the most
 * lasting one; then for each device and each of the model's files the size that fits, its speed, its gain.
 *
 * The best spot shares the fewest failure domains (owner, network, region) with the model's other replicas; among those the
 * highest score wins, then a GPU, the node with the fewest replicas, the most free memory, the smaller id.
 */
import { OBSTACLES, UNKNOWN } from "./grid-columns.ts";
import { READER_TOK_PER_SECOND, remainingLifeHours, replicaCost } from "./objective.ts";
import type { ClassState, HeldChain, ModelState, PlacementState } from "./placement-state.ts";
import { type ModelVariant, pairKey } from "./plan-question.ts";
import { CONTEXT_TOKENS_MIN, type ReplicaSize, replicaBytes, SLOTS_WANTED, sizeReplica } from "./slots.ts";
import type { LoserReason } from "./snapshot.ts";

export interface Want {
  /** It has to be somewhere (warm, waited for, lost), so it counts as one reader's demand at least. */
  readonly isForced: boolean;
  /** A warm replica that no node may hold for today's demand still goes where it can: others may ask. */
  readonly isForAnybody: boolean;
  readonly contextTokensNeeded: number;
  /** Takes no more memory than some slots need, so that other models fit beside it. */
  readonly isThrifty: boolean;
}

export interface Spot {
  readonly node: number;
  readonly device: number;
  readonly variant: ModelVariant;
  readonly size: ReplicaSize;
  readonly tokPerSecond: number;
  readonly worth: number;
  /** What it adds to the objective. */
  readonly gain: number;
  readonly score: number;
  readonly cost: number;
  readonly sharedDomains: number;
  readonly movedBytes: number;
}

/** Null when no node can take it, or, unless it is forced, when it is worth its cost nowhere. */
export function bestSpot(grid: PlacementState, state: ModelState, want: Want): Spot | null {
  let best: Spot | null = null;
  const { length } = grid.question.grid.nodes.ids;
  for (let node = 0; node < length; node++) {
    const spot = spotOn(grid, state, { node, want });
    if (typeof spot === "string" || (!want.isForced && spot.gain <= 0)) continue;
    if (best === null || isBetter(grid, spot, best)) best = spot;
  }
  return best;
}

/** The best way to have the model on this node, or the constraint that keeps it out. */
export function spotOn(
  grid: PlacementState,
  state: ModelState,
  at: { readonly node: number; readonly want: Want },
): Spot | LoserReason {
  const { node, want } = at;
  const obstacle = pairObstacle(grid, state, node) ?? ruleObstacle(grid, state, node);
  if (obstacle !== null && !(want.isForAnybody && isRule(obstacle))) return obstacle;
  const { deviceFrom } = grid.question.grid.nodes;
  const end = deviceFrom[node + 1] ?? 0;
  let best: Spot | null = null;
  let isFitting = false;
  for (let device = deviceFrom[node] ?? 0; device < end; device++) {
    const freeBytes = grid.freeBytes[device] ?? 0;
    for (const variant of state.model.variants) {
      const { contextTokensMax } = state.model;
      const file = { fileBytes: variant.fileBytes, kvBytesPerToken: variant.kvBytesPerToken, contextTokensMax };
      const size = sizeReplica(file, want.isThrifty ? Math.min(freeBytes, thriftyBytes(file, want)) : freeBytes);
      if (!size.ok) continue;
      isFitting = true;
      if (size.value.contextTokens < want.contextTokensNeeded) continue;
      const spot = weighed(grid, state, { node, device, variant, size: size.value, want });
      if (best === null || isBetter(grid, spot, best)) best = spot;
    }
  }
  return best ?? (isFitting ? "context-too-small" : "memory-too-small");
}

export function isBetter(grid: PlacementState, spot: Spot, than: Spot): boolean {
  if (spot.sharedDomains !== than.sharedDomains) return spot.sharedDomains < than.sharedDomains;
  if (spot.score !== than.score) return spot.score > than.score;
  const { devices } = grid.question.grid;
  const gpu = (devices.isGpu[spot.device] ?? 0) - (devices.isGpu[than.device] ?? 0);
  if (gpu !== 0) return gpu > 0;
  const crowd = (grid.onNode[spot.node] ?? 0) - (grid.onNode[than.node] ?? 0);
  if (crowd !== 0) return crowd < 0;
  const room = (grid.freeBytes[spot.device] ?? 0) - (grid.freeBytes[than.device] ?? 0);
  if (room !== 0) return room > 0;
  return spot.node !== than.node ? spot.node < than.node : spot.device < than.device;
}

/** Bytes of the smallest replica that the model is worth loading as. */
export function leastBytes(
  variant: ModelVariant,
  contextTokensMax: number,
  shape = { contextTokens: CONTEXT_TOKENS_MIN, sequencesMax: 1 },
): number {
  const contextTokens = Math.min(shape.contextTokens, contextTokensMax);
  return replicaBytes({ ...variant, contextTokensMax }, { contextTokens, sequencesMax: shape.sequencesMax });
}

export function movedBytes(grid: PlacementState, variant: ModelVariant, node: number): number {
  const { nodes, cached, names } = grid.question.grid;
  const end = nodes.cachedFrom[node + 1] ?? 0;
  for (let row = nodes.cachedFrom[node] ?? 0; row < end; row++) {
    if (names[cached[row] ?? UNKNOWN] === variant.weightsSha256) return 0;
  }
  return variant.fileBytes;
}

/** Running cost of a replica of this file on a node, or on the nodes of a chain, with the bytes that have to go there first. */
export function standingCost(
  grid: PlacementState,
  state: ModelState,
  on: { node: number; variant: ModelVariant; movedBytes: number; chain?: HeldChain | undefined },
): number {
  const { question } = grid;
  const { nodes } = question.grid;
  const neededBytes = leastBytes(on.variant, state.model.contextTokensMax);
  const parts = on.chain?.stages.map(({ node, count }) => ({ node, share: count / state.model.layerCount }));
  return (parts ?? [{ node: on.node, share: 1 }]).reduce(
    (sum, { node, share }) =>
      sum +
      replicaCost(
        {
          movedBytes: on.movedBytes * share,
          neededBytes: neededBytes * share,
          usableBytes: nodeUsableBytes(grid, node),
          priceMicroUsdPerHour: nodes.priceMicroUsdPerHour[node] ?? 0,
          gramsCo2PerHour: nodes.gramsCo2PerHour[node] ?? 0,
          lifeHours: remainingLifeHours(nodes.stayChance[node] ?? 1, question.horizonMs),
        },
        question.weights,
      ),
    0,
  );
}

/** What the node's state, the model's presence and failed loads say; no rule of a class. */
function pairObstacle(grid: PlacementState, state: ModelState, node: number): LoserReason | null {
  const { question } = grid;
  const { nodes } = question.grid;
  const obstacle = OBSTACLES[nodes.obstacle[node] ?? 0] ?? null;
  if (obstacle !== null) return obstacle;
  if (state.taken.has(node)) return "replica-here-already";
  const nodeId = nodes.ids[node];
  if (nodeId === undefined || question.notBeforeMs.size === 0) return null;
  const blockedUntilMs = question.notBeforeMs.get(pairKey(nodeId, state.model.modelId)) ?? 0;
  return blockedUntilMs > question.nowMs ? "load-failed-recently" : null;
}

/** Whether some of the model's demand may be served there. */
export function ruleAllows(grid: PlacementState, state: ModelState, node: number): boolean {
  return ruleObstacle(grid, state, node) === null;
}

/** Null when some class of the model's demand may be served there; else why the dearest may not. */
function ruleObstacle(grid: PlacementState, state: ModelState, node: number): LoserReason | null {
  if (state.classes.length === 0 || state.classes.some((asked) => grid.serves(asked, node))) return null;
  const [dearest] = state.classes;
  return dearest === undefined ? null : classObstacle(grid, dearest, node);
}

function classObstacle(grid: PlacementState, asked: ClassState, node: number): LoserReason {
  const { nodes } = grid.question.grid;
  if (asked.region !== UNKNOWN && asked.region !== nodes.region[node]) return "region-not-allowed";
  return (nodes.trust[node] ?? 0) < asked.trustMin ? "trust-too-low" : "price-too-high";
}

function isRule(obstacle: LoserReason): boolean {
  return obstacle === "region-not-allowed" || obstacle === "trust-too-low" || obstacle === "price-too-high";
}

function thriftyBytes(
  file: { fileBytes: number; kvBytesPerToken: number; contextTokensMax: number },
  want: Want,
): number {
  const contextTokens = Math.min(file.contextTokensMax, Math.max(CONTEXT_TOKENS_MIN, want.contextTokensNeeded));
  return replicaBytes(file, { contextTokens, sequencesMax: SLOTS_WANTED });
}

function weighed(
  grid: PlacementState,
  state: ModelState,
  on: { node: number; device: number; variant: ModelVariant; size: ReplicaSize; want: Want },
): Spot {
  const { node, device, variant, size, want } = on;
  const others = grid.onDevice[device] ?? 0;
  const speed = grid.tokPerSecond(state, { node, device, variant, slots: size.sequencesMax, others });
  const bytes = movedBytes(grid, variant, node);
  const cost = standingCost(grid, state, { node, variant, movedBytes: bytes });
  const gain = addedValue(grid, state, { node, contextTokens: size.contextTokens, ...speed }) - cost;
  const score = want.isForced ? gain + READER_TOK_PER_SECOND * state.value * speed.worth : gain;
  return {
    node,
    device,
    variant,
    size,
    ...speed,
    gain,
    score,
    cost,
    sharedDomains: sharedDomains(grid, state, node),
    movedBytes: bytes,
  };
}

/** What a replica there would serve of the demand that is left, and what it takes from the chance to lose all; cost not counted. */
export function addedValue(
  grid: PlacementState,
  state: ModelState,
  on: { readonly node: number; readonly contextTokens: number; readonly tokPerSecond: number; readonly worth: number },
): number {
  const { weights, grid: columns } = grid.question;
  const stayChance = columns.nodes.stayChance[on.node] ?? 1;
  let value = weights.lossFactor * state.demandValue * state.goneChance * stayChance;
  let left = on.tokPerSecond;
  for (const asked of state.classes) {
    if (left <= 0) break;
    if (!grid.serves(asked, on.node) || on.contextTokens < asked.demand.contextTokensNeeded) continue;
    const served = Math.min(left, asked.unserved);
    value += served * asked.value * on.worth;
    left -= served;
  }
  return value;
}

function sharedDomains(grid: PlacementState, { domains }: ModelState, node: number): number {
  const { owner, network, region } = grid.question.grid.nodes;
  const shares = (known: ReadonlySet<number>, name: number | undefined) =>
    name !== undefined && name !== UNKNOWN && known.has(name) ? 1 : 0;
  return (
    shares(domains.owners, owner[node]) +
    shares(domains.networks, network[node]) +
    shares(domains.regions, region[node])
  );
}

function nodeUsableBytes(grid: PlacementState, node: number): number {
  const { nodes, devices } = grid.question.grid;
  let sum = 0;
  const end = nodes.deviceFrom[node + 1] ?? 0;
  for (let device = nodes.deviceFrom[node] ?? 0; device < end; device++) sum += devices.usableBytes[device] ?? 0;
  return sum;
}
