/**
 * A node is gone: close the hole at once and move as little as can be. In this order, stopping at the first that serves again:
 *
 *  1. the survivors alone, when every stage that lost a holder has another one;
 *  2. idle nodes take what was lost;
 *  3. nodes at the edges of the hole stretch into it, as far as they have room, with idle nodes between;
 *  4. a replica of some other stage moves into the hole;
 *  5. all nodes of a chain over the hole shift a little (shift-chain.ts), which loads more than the hole.
 *
 * Survivors keep exactly their intervals but in 3 (they keep what they hold and load more), 4 (one leaves a stage that keeps
 * others) and 5. Up to 4 a hole costs its own layers, once, whichever way; a plan made at leisure decides whether to balance again.
 */
import type { Cluster, LayerInterval, Layout } from "../../domain/cluster.ts";
import { type MovedLayers, movedLayers } from "./accept-plan.ts";
import { clusterTables } from "./cluster-tables.ts";
import { copyDraft, type Draft, heldBy, layoutOf } from "./draft.ts";
import { contextTokensOf, eligibleNodes } from "./eligible-nodes.ts";
import { denseIntervals } from "./flow.ts";
import { LayoutScore } from "./layout-score.ts";
import { DEFAULT_GOALS, DEFAULT_RULES, type PlanGoals, type PlanRules } from "./plan-goals.ts";
import { shiftChain } from "./shift-chain.ts";

export interface RepairRequest {
  readonly layout: Layout;
  readonly lostNodes: readonly string[];
  /** With or without the lost nodes. */
  readonly cluster: Cluster;
  readonly goals?: Partial<PlanGoals>;
  readonly rules?: Partial<PlanRules>;
}

export interface RepairedLayout {
  readonly layout: Layout;
  /** False: no way through all layers is left or could be made; a new plan is needed. */
  readonly isServing: boolean;
  readonly how: "survivors" | "idle-nodes" | "stretched" | "moved-replica" | "shifted-chain" | "none";
  readonly moved: readonly MovedLayers[];
  readonly movedBytes: number;
  readonly score: number;
}

/** Layouts scored for one repair at most: 24 nodes take 20 ms of CPU with it (bench `layout`). */
const EVALUATIONS_MAX = 400;
/** Nodes chained into one hole; a hole that needs more is a case for a new plan. */
const CHAIN_MAX = 6;

export function repairLayout(request: RepairRequest): RepairedLayout {
  const goals = { ...DEFAULT_GOALS, ...request.goals };
  const rules = { ...DEFAULT_RULES, ...request.rules };
  const lost = new Set(request.lostNodes);
  const left = {
    ...request.cluster,
    nodes: request.cluster.nodes.filter(({ id }) => !lost.has(id)),
    links: request.cluster.links.filter(({ from, to }) => !lost.has(from) && !lost.has(to)),
  };
  const { cluster } = eligibleNodes(left, rules);
  const tables = clusterTables(cluster, contextTokensOf(cluster, rules));
  const score = new LayoutScore(tables, goals, rules);
  const survivors = { ...denseIntervals(tables, request.layout) };
  const gone = [...request.layout].flatMap(([id, interval]) => (tables.indexById.has(id) ? [] : [interval]));
  const repair = new Repair(score, survivors, gone);
  const found = repair.run();
  // Survivors that the rules refuse now are lost as well: the layout names only nodes of the plan's cluster.
  const layout = layoutOf(tables, found.draft);
  const moved = movedLayers(request.layout, layout);
  return {
    layout,
    isServing: found.score > Number.NEGATIVE_INFINITY,
    how: found.how,
    moved,
    movedBytes: moved.reduce((sum, { layers }) => sum + layers, 0) * cluster.model.layerBytes,
    score: found.score,
  };
}

interface Closed {
  readonly draft: Draft;
  readonly score: number;
  readonly how: RepairedLayout["how"];
}

/** A node's new interval. */
interface Edit extends LayerInterval {
  readonly node: number;
}

class Repair {
  readonly #score: LayoutScore;
  readonly #survivors: Draft;
  readonly #lost: readonly LayerInterval[];

  constructor(score: LayoutScore, survivors: Draft, lost: readonly LayerInterval[]) {
    this.#score = score;
    this.#survivors = survivors;
    this.#lost = lost;
  }

  run(): Closed {
    const holes = this.#holes();
    const base: Closed = { draft: this.#survivors, score: this.#look(this.#survivors), how: "survivors" };
    const withIdle = this.#refill(base);
    if (withIdle.score > Number.NEGATIVE_INFINITY) return withIdle;
    // Nothing serves: close every hole by one way, the gentlest that can.
    let draft = copyDraft(this.#survivors);
    let how: RepairedLayout["how"] = "idle-nodes";
    for (const [at, hole] of holes.entries()) {
      const closed = this.#close(draft, hole, at === holes.length - 1);
      if (closed === null) return { draft: this.#survivors, score: Number.NEGATIVE_INFINITY, how: "none" };
      draft = closed.draft;
      if (RANK.indexOf(closed.how) > RANK.indexOf(how)) how = closed.how;
    }
    const score = this.#look(draft);
    return { draft, score, how: score > Number.NEGATIVE_INFINITY ? how : "none" };
  }

  #look(draft: Draft): number {
    return this.#score.score(draft);
  }

  /** What is to be closed: runs of layers that nobody holds; when all are held and still nothing serves, the lost intervals. */
  #holes(): LayerInterval[] {
    const { tables } = this.#score;
    const isHeld = new Uint8Array(tables.layerCount);
    for (let node = 0; node < tables.nodeCount; node++) {
      isHeld.fill(1, this.#survivors.first[node] ?? 0, this.#survivors.end[node] ?? 0);
    }
    const holes: LayerInterval[] = [];
    for (let layer = 0; layer < tables.layerCount; layer++) {
      if (isHeld[layer] === 1) continue;
      const last = holes.at(-1);
      if (last !== undefined && last.end === layer) holes[holes.length - 1] = { first: last.first, end: layer + 1 };
      else holes.push({ first: layer, end: layer + 1 });
    }
    if (holes.length > 0) return holes;
    return distinct(this.#lost);
  }

  /** Idle nodes take lost intervals, each time the one that raises the score most, while it rises. */
  #refill(base: Closed): Closed {
    let best = base;
    let open = distinct(this.#lost);
    while (open.length > 0 && this.#score.evaluations < EVALUATIONS_MAX) {
      let found: { closed: Closed; at: LayerInterval } | null = null;
      for (const interval of open) {
        for (const node of this.#idle(best.draft)) {
          if (this.#score.evaluations >= EVALUATIONS_MAX) break;
          const edited = this.#edited(best.draft, [{ node, ...interval }]);
          if (edited === null) continue;
          const score = this.#look(edited);
          if (score > (found?.closed.score ?? best.score)) {
            found = { closed: { draft: edited, score, how: "idle-nodes" }, at: interval };
          }
        }
      }
      if (found === null) break;
      best = found.closed;
      const taken = found.at;
      open = open.filter((interval) => interval !== taken);
    }
    return best;
  }

  /** One hole closed; null when nothing can. The last hole's ways are told apart by score, others by rank alone. */
  #close(draft: Draft, hole: LayerInterval, isLast: boolean): Closed | null {
    let best: Closed | null = null;
    for (const { how, edits } of this.#waysToClose(draft, hole)) {
      if (best !== null && how !== best.how && best.score > Number.NEGATIVE_INFINITY) break;
      if (this.#score.evaluations >= EVALUATIONS_MAX && best !== null) break;
      const edited = this.#edited(draft, edits);
      if (edited === null) continue;
      if (!isLast) return { draft: edited, score: 0, how };
      const score = this.#look(edited);
      if (best === null || score > best.score) best = { draft: edited, score, how };
    }
    if (best !== null && best.score > Number.NEGATIVE_INFINITY) return best;
    const shifted = shiftChain(this.#score.tables, draft, hole);
    return shifted === null ? best : { draft: shifted, score: 0, how: "shifted-chain" };
  }

  /** Ways in order of rank. */
  *#waysToClose(draft: Draft, hole: LayerInterval): Generator<{ how: Closed["how"]; edits: readonly Edit[] }> {
    const length = hole.end - hole.first;
    const idle = this.#idle(draft);
    for (let count = 1; count <= CHAIN_MAX; count++) {
      const edits = this.#chain(idle.slice(0, count), hole);
      if (edits !== null) yield { how: "idle-nodes", edits };
    }
    const before = this.#neighbours(draft, "before", hole.first);
    const after = this.#neighbours(draft, "after", hole.end);
    for (let middle = 0; middle <= length; middle++) {
      for (let stretch = length - middle; stretch >= 0; stretch--) {
        const inner = { first: hole.first + stretch, end: hole.first + stretch + middle };
        for (const edits of this.#stretches(draft, { before, after, inner, hole })) {
          const between = middle === 0 ? [] : this.#chain(idle, inner);
          if (between !== null) yield { how: "stretched", edits: [...edits, ...between] };
        }
      }
    }
    const spare = this.#replicas(draft);
    for (const node of spare) {
      const edits = this.#chain([node, ...idle], hole);
      if (edits !== null) yield { how: "moved-replica", edits };
    }
    for (const [at, node] of spare.entries()) {
      const edits = this.#chain([node, ...spare.slice(at + 1), ...idle], hole);
      if (edits !== null) yield { how: "moved-replica", edits };
    }
    for (const node of spare) {
      for (const edits of this.#withStretch(draft, { before, after, hole, movers: [node] })) {
        yield { how: "moved-replica", edits };
      }
    }
  }

  /** The nodes, in order, over the interval, each as full as it may be; null when they do not reach its end. */
  #chain(nodes: readonly number[], interval: LayerInterval): Edit[] | null {
    const { layersMax } = this.#score.tables;
    const edits: Edit[] = [];
    let at = interval.first;
    for (const node of nodes) {
      if (at === interval.end || edits.length >= CHAIN_MAX) break;
      const end = Math.min(interval.end, at + (layersMax[node] ?? 0));
      if (end > at) edits.push({ node, first: at, end });
      at = end;
    }
    return at === interval.end ? edits : null;
  }

  /** Nodes that hold nothing, those that can hold most first. */
  #idle(draft: Draft): number[] {
    const { tables } = this.#score;
    const idle = tables.nodes.flatMap((_, node) =>
      heldBy(draft, node) === 0 && (tables.layersMax[node] ?? 0) > 0 ? [node] : [],
    );
    return idle.sort((a, b) => (tables.layersMax[b] ?? 0) - (tables.layersMax[a] ?? 0) || a - b);
  }

  #neighbours(draft: Draft, side: "before" | "after", layer: number): number[] {
    const edge = side === "before" ? draft.end : draft.first;
    return this.#score.tables.nodes.flatMap((_, node) =>
      heldBy(draft, node) > 0 && edge[node] === layer ? [node] : [],
    );
  }

  /** One node of each side reaches to the inner interval; a side that has nothing to do stays as it is. */
  *#stretches(
    draft: Draft,
    way: { before: readonly number[]; after: readonly number[]; inner: LayerInterval; hole: LayerInterval },
  ): Generator<Edit[]> {
    const { inner, hole } = way;
    const fronts = inner.first === hole.first ? [null] : way.before;
    const backs = inner.end === hole.end ? [null] : way.after;
    for (const front of fronts) {
      for (const back of backs) {
        if (front !== null && front === back) continue;
        const edits: Edit[] = [];
        if (front !== null) edits.push({ node: front, first: draft.first[front] ?? 0, end: inner.first });
        if (back !== null) edits.push({ node: back, first: inner.end, end: draft.end[back] ?? 0 });
        if (edits.length > 0) yield edits;
      }
    }
  }

  /** Movers in the middle, stretched neighbours around them. */
  *#withStretch(
    draft: Draft,
    way: { before: readonly number[]; after: readonly number[]; hole: LayerInterval; movers: readonly number[] },
  ): Generator<Edit[]> {
    const [mover = -1] = way.movers;
    const middle = Math.min(this.#score.tables.layersMax[mover] ?? 0, way.hole.end - way.hole.first);
    for (let first = way.hole.first; first + middle <= way.hole.end; first++) {
      const inner = { first, end: first + middle };
      const sides = {
        ...way,
        inner,
        before: way.before.filter((node) => node !== mover),
        after: way.after.filter((node) => node !== mover),
      };
      for (const edits of this.#stretches(draft, sides)) yield [...edits, { node: mover, ...inner }];
    }
  }

  /** Nodes all of whose layers others hold too, fewest layers first: the least is lost when they go. */
  #replicas(draft: Draft): number[] {
    const { tables } = this.#score;
    const holders = new Int32Array(tables.layerCount);
    for (let node = 0; node < tables.nodeCount; node++) {
      for (let layer = draft.first[node] ?? 0; layer < (draft.end[node] ?? 0); layer++) {
        holders[layer] = (holders[layer] ?? 0) + 1;
      }
    }
    const spare = tables.nodes.flatMap((_, node) => {
      const own = holders.subarray(draft.first[node] ?? 0, draft.end[node] ?? 0);
      return own.length > 0 && own.every((count) => count > 1) ? [node] : [];
    });
    return spare.sort((a, b) => heldBy(draft, a) - heldBy(draft, b) || a - b);
  }

  /** Null when a node would hold more than it may. */
  #edited(draft: Draft, edits: readonly Edit[]): Draft | null {
    const edited = copyDraft(draft);
    for (const { node, first, end } of edits) {
      if (end - first > (this.#score.tables.layersMax[node] ?? 0) || end <= first) return null;
      edited.first[node] = first;
      edited.end[node] = end;
    }
    return edited;
  }
}

/** Gentlest first. */
const RANK: readonly RepairedLayout["how"][] = [
  "survivors",
  "idle-nodes",
  "stretched",
  "moved-replica",
  "shifted-chain",
  "none",
];

function distinct(intervals: readonly LayerInterval[]): LayerInterval[] {
  const byKey = new Map(intervals.map((interval) => [`${interval.first}-${interval.end}`, interval]));
  return [...byKey.values()].sort((a, b) => a.first - b.first || a.end - b.end);
}
