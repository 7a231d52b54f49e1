/**
 * Dinic's maximum flow (Dinic 1970) on typed arrays: breadth-first levels, then blocking flows by depth-first search that never
 * looks at an exhausted edge twice. One object is built for the largest graph and reset between runs, so a run allocates nothing.
 */
import { assert } from "../../domain/assert.ts";

/** Below this a capacity counts as used up: far under any rate that matters, far over the rounding of sums of doubles. */
const FLOW_EPSILON = 1e-9;
const NONE = -1;

export class MaxFlow {
  readonly #head: Int32Array;
  readonly #level: Int32Array;
  readonly #arc: Int32Array;
  readonly #queue: Int32Array;
  #next: Int32Array;
  #to: Int32Array;
  #left: Float64Array;
  #capacity: Float64Array;
  #edgeCount = 0;
  #sink = 0;

  constructor(vertexCount: number, edgeCount: number) {
    this.#head = new Int32Array(vertexCount);
    this.#level = new Int32Array(vertexCount);
    this.#arc = new Int32Array(vertexCount);
    this.#queue = new Int32Array(vertexCount);
    this.#next = new Int32Array(2 * edgeCount);
    this.#to = new Int32Array(2 * edgeCount);
    this.#left = new Float64Array(2 * edgeCount);
    this.#capacity = new Float64Array(2 * edgeCount);
    this.#head.fill(NONE);
  }

  clear(): void {
    this.#head.fill(NONE);
    this.#edgeCount = 0;
  }

  /** Answers the edge's number, for `flowOf`. */
  addEdge(from: number, to: number, capacity: number): number {
    const edge = this.#edgeCount;
    if (edge + 2 > this.#next.length) this.#grow();
    this.#next[edge] = this.#head[from] ?? NONE;
    this.#to[edge] = to;
    this.#left[edge] = capacity;
    this.#capacity[edge] = capacity;
    this.#head[from] = edge;
    this.#next[edge + 1] = this.#head[to] ?? NONE;
    this.#to[edge + 1] = from;
    this.#left[edge + 1] = 0;
    this.#capacity[edge + 1] = 0;
    this.#head[to] = edge + 1;
    this.#edgeCount = edge + 2;
    return edge;
  }

  /** The maximum flow from source to sink over the edges added since `clear`. */
  run(source: number, sink: number): number {
    assert(source !== sink, "a flow has two ends");
    this.#sink = sink;
    let total = 0;
    while (this.#findLevels(source)) {
      this.#arc.set(this.#head);
      for (;;) {
        const pushed = this.#push(source, Number.POSITIVE_INFINITY);
        if (pushed <= FLOW_EPSILON) break;
        total += pushed;
      }
    }
    return total;
  }

  flowOf(edge: number): number {
    const flow = (this.#capacity[edge] ?? 0) - (this.#left[edge] ?? 0);
    return flow > FLOW_EPSILON ? flow : 0;
  }

  /** After `run`: whether the vertex is on the source's side of a minimum cut. */
  isOnSourceSide(vertex: number): boolean {
    return (this.#level[vertex] ?? NONE) !== NONE;
  }

  #findLevels(source: number): boolean {
    const level = this.#level;
    level.fill(NONE);
    level[source] = 0;
    this.#queue[0] = source;
    let tail = 1;
    for (let at = 0; at < tail; at++) {
      const vertex = this.#queue[at] ?? 0;
      const deeper = (level[vertex] ?? 0) + 1;
      for (let edge = this.#head[vertex] ?? NONE; edge !== NONE; edge = this.#next[edge] ?? NONE) {
        const to = this.#to[edge] ?? 0;
        if (level[to] !== NONE || (this.#left[edge] ?? 0) <= FLOW_EPSILON) continue;
        level[to] = deeper;
        this.#queue[tail++] = to;
      }
    }
    return level[this.#sink] !== NONE;
  }

  /** Pushes as much as `limit` down from the vertex through all its live arcs; at most as deep as there are vertices. */
  #push(vertex: number, limit: number): number {
    if (vertex === this.#sink) return limit;
    const deeper = (this.#level[vertex] ?? 0) + 1;
    let sent = 0;
    for (let edge = this.#arc[vertex] ?? NONE; edge !== NONE; edge = this.#next[edge] ?? NONE) {
      this.#arc[vertex] = edge;
      const to = this.#to[edge] ?? 0;
      const left = this.#left[edge] ?? 0;
      if (left <= FLOW_EPSILON || this.#level[to] !== deeper) continue;
      const pushed = this.#push(to, Math.min(limit - sent, left));
      if (pushed <= 0) continue;
      this.#left[edge] = left - pushed;
      this.#left[edge ^ 1] = (this.#left[edge ^ 1] ?? 0) + pushed;
      sent += pushed;
      if (limit - sent <= FLOW_EPSILON) return sent;
    }
    this.#arc[vertex] = NONE;
    return sent;
  }

  #grow(): void {
    const size = Math.max(16, 2 * this.#next.length);
    const next = new Int32Array(size);
    next.set(this.#next);
    this.#next = next;
    const to = new Int32Array(size);
    to.set(this.#to);
    this.#to = to;
    const left = new Float64Array(size);
    left.set(this.#left);
    this.#left = left;
    const capacity = new Float64Array(size);
    capacity.set(this.#capacity);
    this.#capacity = capacity;
  }
}
