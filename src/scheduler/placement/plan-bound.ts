/**
 * An upper bound on what any placement can be worth, printed with every plan so that its gap is known.
 *
 * For any price y of a token per second, v * min(D, X) <= y * X + max(0, v - y) * D. With a price for each model the nodes come
 * apart: each may hold whatever models it likes best at those prices, within its memory (as a fractional knapsack, with the least
 * memory and the most speed that each could have there). Every choice of prices gives a valid bound; subgradient steps look for a
 * low one. Ignored, and so only loosening it: devices of one node are one, replicas do not share speed, hops are free.
 */
import { UNKNOWN } from "./grid-columns.ts";
import { remainingLifeHours, replicaCost } from "./objective.ts";
import type { ModelState, PlacementState, ReplicaState } from "./placement-state.ts";
import { sizeReplica } from "./slots.ts";
import { leastBytes, movedBytes, ruleAllows } from "./spots.ts";

/** Enough that the bound of the bench's grid moves by less than a percent from there on. */
const STEPS = 24;

interface Offer {
  readonly model: number;
  /** Tokens a second at most, times what one is worth there. */
  readonly worthPerSecond: number;
  readonly worth: number;
  readonly bytes: number;
  readonly cost: number;
}

/** Micro-USD per hour; 0 when nobody asks for anything. */
export function placementBound(grid: PlacementState): number {
  const asked = grid.models.filter(({ classes }) => classes.length > 0);
  if (asked.length === 0) return 0;
  const offers = offersByNode(grid, asked);
  const worthMax = new Float64Array(asked.length);
  for (const { offers: all } of offers) {
    for (const { model, worth } of all) worthMax[model] = Math.max(worthMax[model] ?? 0, worth);
  }
  // No token of a model is worth more than on its best node.
  const highest = asked.map(({ classes }, model) => (classes[0]?.value ?? 0) * (worthMax[model] ?? 0));
  const prices = Float64Array.from(highest, (value) => value / 2);
  let best = asked.reduce((sum, { demandValue }, model) => sum + demandValue * (worthMax[model] ?? 0), 0);
  for (let step = 1; step <= STEPS; step++) {
    const supply = new Float64Array(asked.length);
    let bound = 0;
    for (const node of offers) bound += knapsack(node, { prices, supply, worthMax });
    asked.forEach(({ classes }, model) => {
      const price = prices[model] ?? 0;
      let wanted = 0;
      for (const { value, demand } of classes) {
        const most = value * (worthMax[model] ?? 0);
        bound += Math.max(0, most - price) * demand.tokPerSecond;
        if (most > price) wanted += demand.tokPerSecond;
      }
      const top = highest[model] ?? 0;
      const excess = (wanted - (supply[model] ?? 0)) / Math.max(1e-9, wanted + (supply[model] ?? 0));
      prices[model] = Math.min(top, Math.max(0, price + (top * excess) / (1 + step)));
    });
    best = Math.min(best, bound);
  }
  return best;
}

interface NodeOffers {
  readonly usableBytes: number;
  readonly offers: readonly Offer[];
}

/** Adds what was taken to `supply`; answers the profit. */
function knapsack(
  node: NodeOffers,
  at: { prices: Float64Array; supply: Float64Array; worthMax: Float64Array },
): number {
  const wanted: { offer: Offer; profit: number }[] = [];
  let bytes = 0;
  for (const offer of node.offers) {
    const profit = bestTokens(offer, at.worthMax) * (at.prices[offer.model] ?? 0) - offer.cost;
    if (profit <= 0) continue;
    wanted.push({ offer, profit });
    bytes += offer.bytes;
  }
  if (bytes > node.usableBytes) wanted.sort((a, b) => b.profit / b.offer.bytes - a.profit / a.offer.bytes);
  let freeBytes = node.usableBytes;
  let sum = 0;
  for (const { offer, profit } of wanted) {
    if (freeBytes <= 0) break;
    const share = Math.min(1, freeBytes / offer.bytes);
    freeBytes -= share * offer.bytes;
    sum += share * profit;
    at.supply[offer.model] = (at.supply[offer.model] ?? 0) + share * bestTokens(offer, at.worthMax);
  }
  return sum;
}

/** Tokens of the best node that the offer's tokens are worth. */
function bestTokens({ model, worthPerSecond }: Offer, worthMax: Float64Array): number {
  return worthPerSecond / (worthMax[model] ?? 1);
}

function offersByNode(grid: PlacementState, asked: readonly ModelState[]): readonly NodeOffers[] {
  const { nodes, devices } = grid.question.grid;
  const held = asked.map(
    ({ replicas }) => new Map(replicas.flatMap((one) => (one.row === UNKNOWN ? [] : [[one.node, one] as const]))),
  );
  return nodes.ids.flatMap((_, node): NodeOffers[] => {
    if (nodes.obstacle[node] !== 0) return [];
    let usableBytes = 0;
    const end = nodes.deviceFrom[node + 1] ?? 0;
    for (let device = nodes.deviceFrom[node] ?? 0; device < end; device++)
      usableBytes += devices.usableBytes[device] ?? 0;
    const offers = asked.flatMap((state, model) => {
      if (!ruleAllows(grid, state, node)) return [];
      return offerOn(grid, state, { node, model, usableBytes, held: held[model]?.get(node) ?? null }) ?? [];
    });
    // An owner may lend less than is taken already: what runs there counts although it would not be placed anew.
    const heldBytes = offers.reduce((sum, { model, bytes }) => sum + (held[model]?.has(node) === true ? bytes : 0), 0);
    return offers.length === 0 ? [] : [{ usableBytes: Math.max(usableBytes, heldBytes), offers }];
  });
}

/** The best of each property over the node's devices and the model's files; null when none fits. */
function offerOn(
  grid: PlacementState,
  state: ModelState,
  on: { node: number; model: number; usableBytes: number; held: ReplicaState | null },
): Offer | null {
  const { question } = grid;
  const { nodes, devices } = question.grid;
  const { contextTokensMax } = state.model;
  const { node, model, usableBytes, held } = on;
  let worthPerSecond = held === null ? 0 : held.tokPerSecond * held.worth;
  let worth = held?.worth ?? 0;
  let bytes = held === null ? Number.POSITIVE_INFINITY : leastBytes(held.variant, contextTokensMax);
  let moved = held === null ? Number.POSITIVE_INFINITY : 0;
  const end = nodes.deviceFrom[node + 1] ?? 0;
  for (let device = nodes.deviceFrom[node] ?? 0; device < end; device++) {
    for (const variant of state.model.variants) {
      const size = sizeReplica({ ...variant, contextTokensMax }, devices.usableBytes[device] ?? 0);
      if (!size.ok) continue;
      const slots = size.value.sequencesMax;
      const speed = grid.tokPerSecond(state, { node, device, variant, slots, others: 0 });
      worth = Math.max(worth, speed.worth);
      worthPerSecond = Math.max(worthPerSecond, speed.tokPerSecond * speed.worth);
      bytes = Math.min(bytes, leastBytes(variant, contextTokensMax));
      moved = Math.min(moved, movedBytes(grid, variant, node));
    }
  }
  if (worthPerSecond === 0) return null;
  const replica = {
    movedBytes: moved,
    neededBytes: bytes,
    usableBytes,
    priceMicroUsdPerHour: nodes.priceMicroUsdPerHour[node] ?? 0,
    gramsCo2PerHour: nodes.gramsCo2PerHour[node] ?? 0,
    lifeHours: remainingLifeHours(nodes.stayChance[node] ?? 1, question.horizonMs),
  };
  return { model, worthPerSecond, worth, bytes, cost: replicaCost(replica, question.weights) };
}
