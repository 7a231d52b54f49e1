/**
 * The best chain over some nodes: which of them, in which order, how many layers each. Unlike a layout of a whole cluster (scheduler/layout), where many
 * nodes may hold the same layers and each request takes its own way, this is one path that every request takes.
 *
 * Fewest stages first: each further node is one more that can be lost and one more way for every token. A longer chain is taken only when it is worth
 * `LONGER_GAIN` times as much for each stage more. For a number of stages: of a few nodes all orders are
 * begun with; of more, from each node that could begin, the next one is the one that adds the most layers for the time that it and the way to it take. The best few are then improved by small changes (a layer from one to another, two places swapped, a
 * node for another) until none helps. Counted in looks, so that the same question has the same answer on every machine.
 *
 * Not handled: that two chains would share nodes better than one after the other does.
 */
import { nearestAllowed } from "./allowed-counts.ts";
import { type ChainSpeed, chainSpeed, type StageNode } from "./chain-score.ts";
import {
  type ChainShape,
  chainShape,
  type RoomyStage,
  type StageSizes,
  stageBytes,
  wantedShapes,
} from "./stage-bytes.ts";

export interface ChainQuestion {
  readonly sizes: StageSizes;
  /** Nodes that may take a stage; ties go to the one that comes first. */
  readonly nodes: readonly StageNode[];
  /** One way, between two of `nodes` by index. */
  readonly hopSeconds: (from: number, to: number) => number;
  readonly stagesMax: number;
  /** Longest context that is asked for. */
  readonly contextTokensNeeded: number;
  /** Numbers of layers that no stage of the model may have; absent: none. */
  readonly countsRefused?: readonly number[];
}

export interface FoundChain {
  /** In order; `node` is an index of the question's. */
  readonly stages: readonly {
    readonly node: number;
    readonly first: number;
    readonly count: number;
    readonly memoryBytes: number;
  }[];
  readonly shape: ChainShape;
  readonly speed: ChainSpeed;
}

/** Worth of a chain with one stage more, as a multiple: below it the shorter one is taken. */
const LONGER_GAIN = 1.5;
/** Chains looked at for one number of stages and one shape, beside the first ones: some milliseconds. */
const LOOKS_MAX = 2_000;
const STARTS_IMPROVED = 6;
/** Of a few nodes all orders are begun with: up to five stages of six nodes. */
const ORDERS_MAX = 800;
/** Nodes of no measurable time are all alike. */
const SECONDS_MIN = 1e-9;

/** A chain in the making: nodes in order, and the layers of each. */
interface Draft {
  readonly nodes: readonly number[];
  readonly counts: readonly number[];
}

interface Scored {
  readonly draft: Draft;
  readonly shape: ChainShape;
  readonly speed: ChainSpeed;
}

/** Null when no chain of at least two of them has room. */
export function findChain(question: ChainQuestion): FoundChain | null {
  const { sizes, stagesMax, contextTokensNeeded } = question;
  const most = Math.min(stagesMax, question.nodes.length, sizes.layerCount);
  for (const least of wantedShapes(sizes.contextTokensMax, contextTokensNeeded)) {
    const search = new ChainSearch(question, least);
    let best: Scored | null = null;
    for (let count = 2; count <= most; count++) {
      const found = search.best(count);
      if (found === null) continue;
      const more: number = best === null ? 0 : count - best.draft.nodes.length;
      if (best === null || found.speed.score > best.speed.score * LONGER_GAIN ** more) best = found;
    }
    if (best !== null) return foundChain(sizes, best);
  }
  return null;
}

/** Layers that each node has room for with a shape: at the beginning, in the midst, at the end of a chain. */
interface Rooms {
  readonly first: readonly number[];
  readonly middle: readonly number[];
  readonly last: readonly number[];
}

class ChainSearch {
  readonly #question: ChainQuestion;
  readonly #least: ChainShape;
  readonly #rooms: Rooms;
  readonly #refused: ReadonlySet<number>;
  #looks = 0;

  constructor(question: ChainQuestion, least: ChainShape) {
    this.#question = question;
    this.#least = least;
    this.#rooms = roomsOf(question, least);
    this.#refused = new Set(question.countsRefused);
  }

  /** Of just so many stages. */
  best(count: number): Scored | null {
    this.#looks = 0;
    const nodes = [...this.#question.nodes.keys()];
    const isSmall = orderCount(nodes.length, count) <= ORDERS_MAX;
    const first = isSmall ? orders(nodes, count).map((chosen) => this.#spread(chosen)) : [];
    const grown = this.#scored(isSmall ? first : nodes.map((start) => this.#grow(start, count)));
    const starts = grown.length > 0 ? grown : this.#scored([this.#roomiest(count)]);
    let best: Scored | null = null;
    for (const start of starts.slice(0, STARTS_IMPROVED)) {
      const improved = this.#improve(start);
      if (best === null || improved.speed.score > best.speed.score) best = improved;
    }
    return best;
  }

  /** Those that have room, best first. */
  #scored(drafts: readonly (Draft | null)[]): readonly Scored[] {
    return drafts
      .flatMap((draft): Scored[] => {
        const scored = draft === null ? null : this.#score(draft);
        return scored === null ? [] : [scored];
      })
      .sort((a, b) => b.speed.score - a.speed.score);
  }

  /** Nodes one after the other, then the layers spread over them by what they hold and how fast they are. */
  #grow(start: number, count: number): Draft | null {
    const { sizes, nodes, hopSeconds } = this.#question;
    const chosen = [start];
    while (chosen.length < count) {
      const last = chosen.at(-1) ?? start;
      const left = sizes.layerCount - chosen.reduce((sum, node, at) => sum + this.#room(node, at, count), 0);
      let next: { node: number; worth: number } | null = null;
      for (const node of nodes.keys()) {
        if (chosen.includes(node)) continue;
        const layers = Math.min(this.#room(node, chosen.length, count), Math.max(1, left));
        const seconds = layers * (nodes[node]?.layerSeconds ?? 0) + hopSeconds(last, node);
        const worth = layers / Math.max(SECONDS_MIN, seconds);
        if (worth > 0 && (next === null || worth > next.worth)) next = { node, worth };
      }
      if (next === null) return null;
      chosen.push(next.node);
    }
    return this.#spread(chosen);
  }

  /** Finds the room where there is any: all pairs of ends, and between them the nodes that hold most. */
  #roomiest(count: number): Draft | null {
    const { first, middle, last } = this.#rooms;
    const byRoom = [...middle.keys()].sort((a, b) => (middle[b] ?? 0) - (middle[a] ?? 0) || a - b);
    let best: { nodes: readonly number[]; layers: number } | null = null;
    for (const a of first.keys()) {
      for (const b of last.keys()) {
        if (a === b || (first[a] ?? 0) < 1 || (last[b] ?? 0) < 1) continue;
        const between = byRoom
          .filter((node) => node !== a && node !== b && (middle[node] ?? 0) >= 1)
          .slice(0, count - 2);
        if (between.length < count - 2) continue;
        const layers = (first[a] ?? 0) + (last[b] ?? 0) + between.reduce((sum, node) => sum + (middle[node] ?? 0), 0);
        if (best === null || layers > best.layers) best = { nodes: [a, ...between, b], layers };
      }
    }
    return best === null ? null : this.#spread(best.nodes);
  }

  /** Layers for each: one by one to the stage that is done soonest with one more and has room for it. */
  #spread(chosen: readonly number[]): Draft | null {
    const { sizes, nodes } = this.#question;
    const rooms = chosen.map((node, at) => this.#room(node, at, chosen.length));
    if (rooms.some((room) => room < 1)) return null;
    const counts = chosen.map(() => 1);
    for (let laid = chosen.length; laid < sizes.layerCount; laid++) {
      let next: { at: number; seconds: number } | null = null;
      for (const [at, node] of chosen.entries()) {
        const count = counts[at] ?? 0;
        const seconds = (count + 1) * (nodes[node]?.layerSeconds ?? 0);
        if (count < (rooms[at] ?? 0) && (next === null || seconds < next.seconds)) next = { at, seconds };
      }
      if (next === null) return null;
      counts[next.at] = (counts[next.at] ?? 0) + 1;
    }
    const allowed = nearestAllowed(counts, { rooms, refused: this.#refused });
    return allowed === null ? null : { nodes: chosen, counts: allowed };
  }

  #room(node: number, place: number, count: number): number {
    const { first, middle, last } = this.#rooms;
    return (place === 0 ? first : place === count - 1 ? last : middle)[node] ?? 0;
  }

  #score(draft: Draft): Scored | null {
    this.#looks += 1;
    const { sizes, nodes, hopSeconds } = this.#question;
    const stages: (RoomyStage & { readonly node: StageNode; readonly at: number })[] = [];
    let first = 0;
    for (const [place, at] of draft.nodes.entries()) {
      const node = nodes[at];
      const count = draft.counts[place] ?? 0;
      if (node === undefined || count < 1 || this.#refused.has(count)) return null;
      stages.push({ first, count, freeBytes: node.freeBytes, node, at });
      first += count;
    }
    const shape = chainShape(sizes, stages, this.#least);
    return shape === null
      ? null
      : { draft, shape, speed: chainSpeed(stages, { slots: shape.sequencesMax, hopSeconds }) };
  }

  #improve(start: Scored): Scored {
    let best = start;
    for (let isBetter = true; isBetter; ) {
      isBetter = false;
      for (const draft of this.#near(best.draft)) {
        if (this.#looks >= LOOKS_MAX) return best;
        const scored = this.#score(draft);
        if (scored === null || scored.speed.score <= best.speed.score * (1 + 1e-9)) continue;
        best = scored;
        isBetter = true;
        break;
      }
    }
    return best;
  }

  *#near({ nodes, counts }: Draft): Generator<Draft> {
    const half = (count: number) => Math.floor(count / 2);
    // Some at once get past numbers that are refused.
    const few = this.#refused.size === 0 ? [1] : [1, 3];
    for (const [from, count] of counts.entries()) {
      for (const to of counts.keys()) {
        if (from === to) continue;
        for (const moved of new Set([half(count), ...few])) {
          if (moved < 1 || moved >= count) continue;
          yield { nodes, counts: counts.map((own, at) => own + (at === to ? moved : at === from ? -moved : 0)) };
        }
      }
    }
    for (let a = 0; a < nodes.length; a++) {
      for (let b = a + 1; b < nodes.length; b++) {
        yield { nodes: swapped(nodes, a, b), counts: swapped(counts, a, b) };
        const turned = swapped(nodes, a, b);
        yield { nodes: turned, counts };
        const spread = this.#spread(turned);
        if (spread !== null) yield spread;
      }
    }
    for (const other of this.#question.nodes.keys()) {
      if (nodes.includes(other)) continue;
      for (const place of nodes.keys()) {
        const changed = nodes.map((node, at) => (at === place ? other : node));
        yield { nodes: changed, counts };
        const spread = this.#spread(changed);
        if (spread !== null) yield spread;
      }
    }
  }
}

function orderCount(nodes: number, count: number): number {
  return Array.from({ length: count }, (_, at) => nodes - at).reduce((product, left) => product * left, 1);
}

function orders(nodes: readonly number[], count: number): readonly (readonly number[])[] {
  if (count === 0) return [[]];
  return nodes.flatMap((node) =>
    orders(
      nodes.filter((other) => other !== node),
      count - 1,
    ).map((rest) => [node, ...rest]),
  );
}

function roomsOf({ sizes, nodes }: ChainQuestion, least: ChainShape): Rooms {
  const { layerCount } = sizes;
  const plain = { ...sizes, embeddingBytes: 0, outputBytes: 0 };
  const most = (freeBytes: number, bytesOf: (count: number) => number) => {
    let [low, high] = [0, layerCount - 1];
    while (low < high) {
      const count = Math.ceil((low + high) / 2);
      if (bytesOf(count) <= freeBytes) low = count;
      else high = count - 1;
    }
    return low;
  };
  return {
    first: nodes.map(({ freeBytes }) => most(freeBytes, (count) => stageBytes(sizes, { first: 0, count }, least))),
    middle: nodes.map(({ freeBytes }) => most(freeBytes, (count) => stageBytes(plain, { first: 0, count }, least))),
    last: nodes.map(({ freeBytes }) =>
      most(freeBytes, (count) => stageBytes(sizes, { first: layerCount - count, count }, least)),
    ),
  };
}

function swapped(list: readonly number[], a: number, b: number): readonly number[] {
  return list.map((item, at) => (at === a ? (list[b] ?? item) : at === b ? (list[a] ?? item) : item));
}

function foundChain(sizes: StageSizes, { draft, shape, speed }: Scored): FoundChain {
  let first = 0;
  const stages = draft.nodes.map((node, place) => {
    const count = draft.counts[place] ?? 0;
    const stage = { node, first, count, memoryBytes: stageBytes(sizes, { first, count }, shape) };
    first += count;
    return stage;
  });
  return { stages, shape, speed };
}
