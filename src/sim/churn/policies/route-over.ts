/**
 * The cheapest way through a model's ready stages: a path over layers, each stage taken to its own end (Petals: stay on a server to its
 * end). A stage may be entered behind its first layer where stages overlap. Costs are the caller's; ties go to the lower stage number.
 * Not handled: where the cheapest way to a stage is at the limit of hops, a dearer and shorter one to it is not looked for.
 */
import type { Hop, Stage } from "../grid/grid-parts.ts";

export interface RouteCosts {
  /** Of going on from one stage to the next, or into the first. Infinity forbids it. */
  readonly hop: (before: Stage | null, hop: Hop) => number;
  /** Of ending at this stage. */
  readonly last: (stage: Stage) => number;
  /** Longest path that is considered. */
  readonly hopsMax: number;
}

interface Label {
  readonly hop: Hop;
  readonly before: Label | null;
  readonly cost: number;
  readonly hops: number;
}

/** `stages` are of one model; null when no path leads from the first layer to the last. */
export function routeOver(stages: readonly Stage[], layerCount: number, costs: RouteCosts): readonly Hop[] | null {
  // Stages by where they end: every path reaches a lower end first, so one pass in this order settles all.
  const byEnd = [...stages].sort((a, b) => a.end - b.end || a.number - b.number);
  const labels: Label[] = [];
  let best: Label | null = null;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const stage of byEnd) {
    const label = bestInto(stage, labels, costs);
    if (label === null) continue;
    labels.push(label);
    if (stage.end < layerCount) continue;
    const cost = label.cost + costs.last(stage);
    if (cost < bestCost) {
      best = label;
      bestCost = cost;
    }
  }
  return best === null ? null : pathTo(best);
}

function bestInto(stage: Stage, labels: readonly Label[], costs: RouteCosts): Label | null {
  let best: Label | null = null;
  if (stage.first === 0) {
    const hop = { stage, first: 0 };
    const cost = costs.hop(null, hop);
    if (cost < Number.POSITIVE_INFINITY) best = { hop, before: null, cost, hops: 1 };
  }
  for (const before of labels) {
    const from = before.hop.stage.end;
    if (from < stage.first || from >= stage.end || before.hops >= costs.hopsMax) continue;
    const hop = { stage, first: from };
    const cost = before.cost + costs.hop(before.hop.stage, hop);
    if (cost < (best?.cost ?? Number.POSITIVE_INFINITY)) best = { hop, before, cost, hops: before.hops + 1 };
  }
  return best;
}

function pathTo(last: Label): readonly Hop[] {
  const path: Hop[] = [];
  for (let label: Label | null = last; label !== null; label = label.before) path.unshift(label.hop);
  return path;
}
