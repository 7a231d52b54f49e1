/**
 * Small changes of a layout that keep its chains whole more often than not. A single node that takes or gives a layer leaves a
 * hole, so most moves shift a boundary for all nodes that meet there, or carry a shift along a stretch of the model to a node that
 * can take it up.
 */
import { type Draft, heldBy } from "./draft.ts";
import type { RegionGrouping } from "./regions.ts";
import type { SearchRandom } from "./search-random.ts";

export interface MoveContext {
  readonly layerCount: number;
  /** Nodes that may hold layers. */
  readonly nodes: readonly number[];
  readonly layersMax: Int32Array;
  readonly groupings: readonly RegionGrouping[];
  readonly random: SearchRandom;
}

type Move = (draft: Draft, context: MoveContext) => void;

/** Weights: shifts of boundaries are what fine-tunes, the rest is what leaves a valley. */
const MOVES: readonly { readonly weight: number; readonly move: Move }[] = [
  { weight: 8, move: shiftBoundary },
  { weight: 8, move: shiftStretch },
  { weight: 6, move: copyInterval },
  { weight: 4, move: joinBoundaries },
  { weight: 4, move: swapIntervals },
  { weight: 2, move: splitStage },
  { weight: 2, move: mergeStages },
  { weight: 1, move: dropNode },
  { weight: 1, move: anyInterval },
];
const WEIGHT_SUM = MOVES.reduce((sum, { weight }) => sum + weight, 0);
/** Layers that a boundary moves at most at once. */
const SHIFT_MAX = 3;

/** Changes the draft in place; the outcome may be out of limits, which the caller checks. */
export function changeDraft(draft: Draft, context: MoveContext): void {
  let ticket = context.random.below(WEIGHT_SUM);
  for (const { weight, move } of MOVES) {
    ticket -= weight;
    if (ticket < 0) {
      move(draft, context);
      return;
    }
  }
}

function pick(context: MoveContext): number {
  return context.nodes[context.random.below(context.nodes.length)] ?? 0;
}

function pickHolder(draft: Draft, context: MoveContext): number | null {
  const start = context.random.below(context.nodes.length);
  for (let step = 0; step < context.nodes.length; step++) {
    const node = context.nodes[(start + step) % context.nodes.length] ?? 0;
    if (heldBy(draft, node) > 0) return node;
  }
  return null;
}

function drawShift(context: MoveContext): number {
  const size = 1 + (context.random.next() < 0.7 ? 0 : context.random.below(SHIFT_MAX));
  return context.random.next() < 0.5 ? -size : size;
}

/** Whom a shift is for: everyone, or (half of the time) only the nodes of one region of one grouping. */
function drawScope(context: MoveContext, node: number): (other: number) => boolean {
  const grouping = context.groupings[context.random.below(context.groupings.length)];
  if (grouping === undefined || grouping.count === 1 || context.random.next() < 0.3) return () => true;
  const region = grouping.regionOf[node];
  return (other) => grouping.regionOf[other] === region;
}

function shiftBoundary(draft: Draft, context: MoveContext): void {
  const node = pickHolder(draft, context);
  if (node === null) return;
  const boundary = context.random.next() < 0.5 ? (draft.first[node] ?? 0) : (draft.end[node] ?? 0);
  shift(draft, context, { low: boundary, high: boundary, by: drawShift(context), isMeant: drawScope(context, node) });
}

/** One place grows and another shrinks; all between them move along. */
function shiftStretch(draft: Draft, context: MoveContext): void {
  const one = pickHolder(draft, context);
  const other = pickHolder(draft, context);
  if (one === null || other === null) return;
  const a = draft.end[one] ?? 0;
  const b = draft.first[other] ?? 0;
  const isMeant = drawScope(context, one);
  shift(draft, context, { low: Math.min(a, b), high: Math.max(a, b), by: drawShift(context), isMeant });
}

function shift(
  draft: Draft,
  context: MoveContext,
  change: { low: number; high: number; by: number; isMeant: (node: number) => boolean },
): void {
  const last = context.layerCount;
  for (const node of context.nodes) {
    if (heldBy(draft, node) === 0 || !change.isMeant(node)) continue;
    const first = draft.first[node] ?? 0;
    const end = draft.end[node] ?? 0;
    if (first > 0 && first >= change.low && first <= change.high) draft.first[node] = first + change.by;
    if (end < last && end >= change.low && end <= change.high) draft.end[node] = end + change.by;
  }
}

/** A node becomes a replica of another one's stage. */
function copyInterval(draft: Draft, context: MoveContext): void {
  const from = pickHolder(draft, context);
  if (from === null) return;
  const to = pick(context);
  draft.first[to] = draft.first[from] ?? 0;
  draft.end[to] = draft.end[from] ?? 0;
}

/** A node takes the stretch between where one node ends and another begins. */
function joinBoundaries(draft: Draft, context: MoveContext): void {
  const before = pickHolder(draft, context);
  const after = pickHolder(draft, context);
  if (before === null || after === null) return;
  const node = pick(context);
  const first = context.random.next() < 0.1 ? 0 : (draft.end[before] ?? 0);
  const end = context.random.next() < 0.1 ? context.layerCount : (draft.first[after] ?? 0);
  if (end <= first) return;
  draft.first[node] = first;
  draft.end[node] = end;
}

function swapIntervals(draft: Draft, context: MoveContext): void {
  const a = pick(context);
  const b = pick(context);
  const [first, end] = [draft.first[a] ?? 0, draft.end[a] ?? 0];
  draft.first[a] = draft.first[b] ?? 0;
  draft.end[a] = draft.end[b] ?? 0;
  draft.first[b] = first;
  draft.end[b] = end;
}

/** Replicas of a stage part: some take its front, the others its back. */
function splitStage(draft: Draft, context: MoveContext): void {
  const node = pickHolder(draft, context);
  if (node === null) return;
  const first = draft.first[node] ?? 0;
  const end = draft.end[node] ?? 0;
  const middle = first + 1 + context.random.below(Math.max(1, end - first - 1));
  let isFront = true;
  for (const other of context.nodes) {
    if (draft.first[other] !== first || draft.end[other] !== end || heldBy(draft, other) === 0) continue;
    if (isFront) draft.end[other] = middle;
    else draft.first[other] = middle;
    isFront = !isFront;
  }
}

/** Stages on both sides of a boundary become one, for the nodes that can hold both. */
function mergeStages(draft: Draft, context: MoveContext): void {
  const node = pickHolder(draft, context);
  const next = pickHolder(draft, context);
  if (node === null || next === null || draft.end[node] !== draft.first[next]) return;
  const first = draft.first[node] ?? 0;
  const end = draft.end[next] ?? 0;
  for (const one of [node, next]) {
    if (end - first > (context.layersMax[one] ?? 0)) return;
    draft.first[one] = first;
    draft.end[one] = end;
  }
}

function dropNode(draft: Draft, context: MoveContext): void {
  const node = pick(context);
  draft.first[node] = 0;
  draft.end[node] = 0;
}

/** A node takes any run of layers that it can hold: the way out when no boundary in use is the right one. */
function anyInterval(draft: Draft, context: MoveContext): void {
  const node = pick(context);
  const held = 1 + context.random.below(context.layersMax[node] ?? 1);
  const first = context.random.below(context.layerCount - held + 1);
  draft.first[node] = first;
  draft.end[node] = first + held;
}
