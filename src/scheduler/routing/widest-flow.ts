/**
 * A maximum flow of a layout, the one that fills wide ways first: again and again the way from source to sink with the most room
 * left is filled. A maximum flow is not unique, and a router that follows one sends requests where it runs: a way that is filled to
 * the brim next to one with a rest is what the published runs of Helix show (docs/serving-simulator.md), and what this gives.
 */
import type { GraphEdge, GraphNode } from "./graph-parts.ts";

/** Every round fills an edge or a node, or takes flow back; far beyond what a layout of hundreds of nodes needs. */
const ROUNDS_MAX = 20_000;
/** Tokens per second below which room counts as none. */
const ROOM_MIN = 1e-6;

type Ends = Pick<GraphEdge, "from" | "to" | "bytesPerSecond" | "bytesPerToken">;

/** Tokens per second by edge. */
export function widestFlow(nodes: readonly GraphNode[], edges: readonly Ends[]): Float64Array {
  const network = new Network(nodes, edges);
  for (let round = 0; round < ROUNDS_MAX && network.fillWidest(); round++);
  return Float64Array.from(edges, (_, index) => network.flowOf(index));
}

/** Vertex v of the layout is two points, in `2v` and out `2v + 1`; arcs come in pairs, forth and back. */
class Network {
  readonly #source: number;
  readonly #sink: number;
  readonly #to: number[] = [];
  readonly #room: number[] = [];
  readonly #arcs: number[][];
  readonly #edgeArcs: number[] = [];
  readonly #width: Float64Array;
  readonly #cameBy: Int32Array;
  readonly #isDone: Uint8Array;

  constructor(nodes: readonly GraphNode[], edges: readonly Ends[]) {
    const points = 2 * (nodes.length + 2);
    this.#source = 2 * nodes.length + 1;
    this.#sink = 2 * (nodes.length + 1);
    this.#arcs = Array.from({ length: points }, () => []);
    this.#width = new Float64Array(points);
    this.#cameBy = new Int32Array(points);
    this.#isDone = new Uint8Array(points);
    for (const [vertex, node] of nodes.entries()) {
      const rates = node.machine.tokensPerSecondByLayers;
      const held = node.end - node.first;
      this.#addArc(2 * vertex, 2 * vertex + 1, rates[Math.min(held, rates.length - 1)] ?? 0);
    }
    for (const edge of edges) {
      this.#edgeArcs.push(this.#to.length);
      this.#addArc(2 * edge.from + 1, 2 * edge.to, edge.bytesPerSecond / edge.bytesPerToken);
    }
  }

  flowOf(edge: number): number {
    return this.#room[(this.#edgeArcs[edge] ?? 0) + 1] ?? 0;
  }

  /** Fills the widest way; false when none is left. */
  fillWidest(): boolean {
    this.#findWidest();
    const width = this.#width[this.#sink] ?? 0;
    if (width <= ROOM_MIN) return false;
    let point = this.#sink;
    while (point !== this.#source) {
      const arc = this.#cameBy[point] ?? 0;
      this.#room[arc] = (this.#room[arc] ?? 0) - width;
      this.#room[arc ^ 1] = (this.#room[arc ^ 1] ?? 0) + width;
      point = this.#to[arc ^ 1] ?? this.#source;
    }
    return true;
  }

  #findWidest(): void {
    this.#width.fill(0);
    this.#isDone.fill(0);
    this.#width[this.#source] = Number.POSITIVE_INFINITY;
    for (let point = this.#widestOpen(); point !== -1 && point !== this.#sink; point = this.#widestOpen()) {
      this.#isDone[point] = 1;
      const width = this.#width[point] ?? 0;
      for (const arc of this.#arcs[point] ?? []) {
        const to = this.#to[arc] ?? 0;
        const through = Math.min(width, this.#room[arc] ?? 0);
        if (through > ROOM_MIN && through > (this.#width[to] ?? 0) && this.#isDone[to] === 0) {
          this.#width[to] = through;
          this.#cameBy[to] = arc;
        }
      }
    }
  }

  #widestOpen(): number {
    let widest = -1;
    for (let point = 0; point < this.#width.length; point++) {
      if (this.#isDone[point] === 1 || (this.#width[point] ?? 0) <= 0) continue;
      if (widest === -1 || (this.#width[point] ?? 0) > (this.#width[widest] ?? 0)) widest = point;
    }
    return widest;
  }

  #addArc(from: number, to: number, room: number): void {
    this.#arcs[from]?.push(this.#to.length);
    this.#to.push(to);
    this.#room.push(room);
    this.#arcs[to]?.push(this.#to.length);
    this.#to.push(from);
    this.#room.push(0);
  }
}
