/**
 * Adds replicas to a placement: first those that have to be there (warm, waited for, lost), one for each model in turn, so that no
 * model takes everything before the next has one; then, greedily, the one that is worth most, while any is worth its cost.
 *
 * The value of demand is concave in the replicas, so a gain only shrinks while others are added: greedy is the usual answer to
 * that. Only models whose best spot was just taken look again.
 */
import { UNKNOWN } from "./grid-columns.ts";
import type { ModelState, PlacementState, ReplicaState } from "./placement-state.ts";
import type { LoadOrder, PlanQuestion } from "./plan-question.ts";
import { sizeReplica } from "./slots.ts";
import { bestSpot, type Spot, type Want } from "./spots.ts";

/** A plan orders at most this many loads; the next one goes on. */
export const LOADS_PER_PLAN_MAX = 256;

export interface Placed {
  readonly state: ModelState;
  readonly spot: Spot;
  readonly why: LoadOrder["why"];
  readonly replica: ReplicaState;
}

export interface ForcedPlaces {
  readonly placed: readonly Placed[];
  /** Models that have fewer replicas than they must. */
  readonly short: readonly ModelState[];
}

export interface Missing {
  readonly state: ModelState;
  readonly count: number;
  readonly why: LoadOrder["why"];
}

/** How many replicas each model must have and has not: its warm number, and one more when somebody waits and all are full. */
export function missingNow(grid: PlacementState, only: readonly ModelState[] = grid.models): readonly Missing[] {
  return only.flatMap((state): Missing[] => {
    const { length } = state.replicas;
    const forWarm = state.model.warmReplicas - length;
    const forWaiting = wantedByWaiting(grid.question, state) - length;
    if (forWarm <= 0 && forWaiting <= 0) return [];
    return [{ state, count: Math.max(forWarm, forWaiting), why: forWarm > 0 ? "warm" : "waiting" }];
  });
}

export function placeForced(
  grid: PlacementState,
  missing: readonly Missing[],
  options: { isThrifty: boolean },
): ForcedPlaces {
  const placed: Placed[] = [];
  const short = new Set<ModelState>();
  const rounds = Math.max(0, ...missing.map(({ count }) => count));
  for (let round = 0; round < rounds; round++) {
    for (const { state, count, why } of missing) {
      if (round >= count || short.has(state) || placed.length >= LOADS_PER_PLAN_MAX) continue;
      const want = forcedWant(grid.question, state, options.isThrifty);
      const spot = bestSpot(grid, state, want) ?? bestSpot(grid, state, { ...want, isForAnybody: why === "warm" });
      if (spot === null) short.add(state);
      else placed.push(place(grid, state, { spot, why }));
    }
  }
  return { placed, short: [...short] };
}

export function forcedWant(question: PlanQuestion, { model }: ModelState, isThrifty: boolean): Want {
  const contextTokensNeeded = question.waiting.get(model.modelId)?.tokensNeeded ?? 0;
  return { isForced: true, isForAnybody: false, contextTokensNeeded, isThrifty };
}

const WORTH_IT: Want = { isForced: false, isForAnybody: false, contextTokensNeeded: 0, isThrifty: false };

export function placeForDemand(grid: PlacementState, loadsMax: number): readonly Placed[] {
  const placed: Placed[] = [];
  const asked = grid.models.filter(({ classes }) => classes.length > 0);
  const best = new Map(asked.map((state) => [state, bestSpot(grid, state, WORTH_IT)]));
  while (placed.length < loadsMax) {
    const next = highestGain(best);
    if (next === null) break;
    placed.push(place(grid, next.state, { spot: next.spot, why: "demand" }));
    for (const [state, spot] of best) {
      if (spot !== null && (state === next.state || spot.node === next.spot.node)) {
        best.set(state, bestSpot(grid, state, WORTH_IT));
      }
    }
  }
  return placed;
}

export function place(grid: PlacementState, state: ModelState, chosen: { spot: Spot; why: LoadOrder["why"] }): Placed {
  const { spot, why } = chosen;
  const { node, device, variant, size, tokPerSecond, worth } = spot;
  const replica: ReplicaState = {
    row: UNKNOWN,
    node,
    device,
    variant,
    size,
    tokPerSecond,
    worth,
    isReady: false,
    slotsLeased: 0,
    served: 0,
    servedValue: 0,
  };
  grid.occupy({ node, device, memoryBytes: size.memoryBytes });
  grid.add(state, replica);
  return { state, spot, why, replica };
}

/** The orders. What is left on a device is shared by those that were placed there thriftily; the others have taken it already. */
export function loadOrders(grid: PlacementState, placed: readonly Placed[]): readonly LoadOrder[] {
  const { nodes, devices, names } = grid.question.grid;
  const toCome = new Map<number, number>();
  for (const { spot } of placed) toCome.set(spot.device, (toCome.get(spot.device) ?? 0) + 1);
  return placed.flatMap(({ state, spot, why }): LoadOrder[] => {
    const shares = toCome.get(spot.device) ?? 1;
    const freeBytes = grid.freeBytes[spot.device] ?? 0;
    const { contextTokensMax, modelId } = state.model;
    const grown = sizeReplica({ ...spot.variant, contextTokensMax }, spot.size.memoryBytes + freeBytes / shares);
    const size = grown.ok && grown.value.memoryBytes > spot.size.memoryBytes ? grown.value : spot.size;
    grid.freeBytes[spot.device] = freeBytes - (size.memoryBytes - spot.size.memoryBytes);
    toCome.set(spot.device, shares - 1);
    const nodeId = nodes.ids[spot.node];
    const deviceId = names[devices.name[spot.device] ?? UNKNOWN];
    if (nodeId === undefined || deviceId === undefined) return [];
    const { weightsSha256 } = spot.variant;
    return [{ kind: "load", nodeId, modelId, deviceId, weightsSha256, size, why, movedBytes: spot.movedBytes }];
  });
}

function wantedByWaiting(question: PlanQuestion, state: ModelState): number {
  const waiting = question.waiting.get(state.model.modelId);
  if (waiting === undefined) return 0;
  const fitting = state.replicas.filter(({ size }) => size.contextTokens >= waiting.tokensNeeded);
  const isLoading = fitting.some(({ isReady }) => !isReady);
  const isFull = fitting.every(({ slotsLeased, size }) => slotsLeased >= size.sequencesMax);
  return isFull && !isLoading ? state.replicas.length + 1 : 0;
}

function highestGain(best: ReadonlyMap<ModelState, Spot | null>): { state: ModelState; spot: Spot } | null {
  let found: { state: ModelState; spot: Spot } | null = null;
  // Models come sorted by id, so that a tie goes to the smaller one.
  for (const [state, spot] of best) {
    if (spot !== null && (found === null || spot.gain > found.spot.gain)) found = { state, spot };
  }
  return found;
}
