/**
 * Petals' placement rule (Borzunov et al., NeurIPS'23), our own implementation of it: a machine that joins takes the run of blocks whose
 * throughput is least; now and then each asks whether moving would raise the weakest block enough, supposing that all others would move
 * after it, and moves when it would. No survival, no price. Petals serves one model per swarm: for several, ours to add, a machine
 * joins the swarm whose weakest block is shortest of its demand, and the same rule of quality lets it change swarms.
 *
 * Known differences: machines ask in the order of their numbers where Petals shuffles them; throughput is from our speed model
 * where Petals measures it.
 */

/** Move only when the weakest throughput now is less than this share of what it would be. */
export const BALANCE_QUALITY = 0.75;
const EPSILON = 1e-3;
/** Rounds in which all others move after one; Petals goes on until nobody moves, which these are enough for. */
const ROUNDS_MAX = 20;

export interface Span {
  first: number;
  readonly length: number;
  /** Tokens a second. */
  readonly throughput: number;
}

/** Sum of throughputs over each block. */
export function blockThroughputs(spans: Iterable<Span>, blocks: number): Float64Array {
  const sums = new Float64Array(blocks);
  for (const span of spans) add(sums, span, span.throughput);
  return sums;
}

/** Where a run of `length` blocks is needed most: the least sorted throughputs, block by block, then the lowest start. */
export function weakestWindow(sums: Float64Array, length: number): number {
  let best = 0;
  let bestSorted: Float64Array | null = null;
  for (let first = 0; first + length <= sums.length; first++) {
    const sorted = sums.slice(first, first + length).sort();
    if (bestSorted !== null && !isLess(sorted, bestSorted)) continue;
    best = first;
    bestSorted = sorted;
  }
  return best;
}

/** Where the machine should move; null when it should stay. `spans` by machine, in the order in which they would ask. */
export function betterStart(spans: ReadonlyMap<number, Span>, own: number, blocks: number): number | null {
  const moved = new Map([...spans].map(([machine, span]) => [machine, { ...span }]));
  const span = moved.get(own);
  // Whoever holds all blocks has nowhere to move to.
  if (span === undefined || span.length >= blocks) return null;
  const sums = blockThroughputs(moved.values(), blocks);
  const before = least(sums);
  add(sums, span, -span.throughput * (1 + EPSILON));
  // Without this machine some block is nobody's: it stays.
  if (before > EPSILON && least(sums) <= 0) return null;
  const start = weakestWindow(sums, span.length);
  if (start === span.first) return null;
  add(sums, span, span.throughput * EPSILON);
  span.first = start;
  add(sums, span, span.throughput);
  letOthersMove(moved, sums);
  return before / least(sums) < BALANCE_QUALITY - EPSILON ? start : null;
}

function letOthersMove(spans: ReadonlyMap<number, Span>, sums: Float64Array): void {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    let hasMoved = false;
    for (const span of spans.values()) {
      if (span.length >= sums.length) continue;
      add(sums, span, -span.throughput * (1 + EPSILON));
      const start = weakestWindow(sums, span.length);
      add(sums, span, span.throughput * EPSILON);
      if (start !== span.first) hasMoved = true;
      span.first = start;
      add(sums, span, span.throughput);
    }
    if (!hasMoved) return;
  }
}

function add(sums: Float64Array, span: Span, throughput: number): void {
  for (let block = span.first; block < span.first + span.length; block++) sums[block] = (sums[block] ?? 0) + throughput;
}

export function least(sums: Float64Array): number {
  return sums.reduce((min, value) => Math.min(min, value), Number.POSITIVE_INFINITY);
}

function isLess(a: Float64Array, b: Float64Array): boolean {
  for (const [at, value] of a.entries()) {
    const other = b[at] ?? 0;
    if (value !== other) return value < other;
  }
  return false;
}
