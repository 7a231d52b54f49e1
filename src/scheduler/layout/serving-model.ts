/**
 * How fast a layout serves, not how much could flow through it. Three things decide that, and each answers the next:
 *
 *  - room: a request keeps its KV on every node of its way until its last token, so the requests in flight are at most the
 *    maximum flow through nodes as wide as the requests they have room for;
 *  - pass: a token's way takes the network, and on each node the turn of every layer held there. A node works on one layer's
 *    batch at a time and goes round its layers, so the more groups of requests are on different layers of it, the longer each
 *    step takes: with k layers all busy a pass costs k times k layer times, not k;
 *  - load: prompts take layer turns and long stretches of slow links from the tokens, and their rate follows from the answer.
 *
 * The model finds the rate X at which room = X x time (Little's law), by bisection. It is a mean-value model: no spread of
 * lengths beyond the constants below, no start-up. Bench `planner` compares its ranking with the serving simulator's.
 */
import { type Curve, interpolate } from "../../domain/cluster.ts";
import type { ClusterTables } from "./cluster-tables.ts";
import { type DenseIntervals, FlowNetwork, linkSeconds } from "./flow.ts";

/** Share of a node's KV room that requests are admitted to: above it a long answer would have nowhere to grow. */
export const KV_ROOM_SHARE = 0.8;
/** Share of profiled compute and of slow links that is counted on (reference scheduling notes, section 7.1). */
export const COMPUTE_SHARE = 0.9;
export const SLOW_LINK_SHARE = 0.6;
/** Mean square over squared mean of prompt lengths, measured on the Azure conversation trace (bench `planner`). */
const PROMPT_SPREAD = 1.3;
/** A station at this load has a queue that no mean describes; the search is kept below it. */
const LOAD_MAX = 0.97;
/** Sequences in a full batch: past it a layer's time grows as fast as the batch on the profiled machines. */
const FULL_BATCH = 64;
/** Largest batch in the tables of layer times; beyond it the curve's last segment goes on. */
const BATCH_TABLE_MAX = 512;
/** Halvings of the rate at most, and the bracket's width at which it is known well enough: a tenth of what ranks layouts. */
const RATE_HALVINGS = 14;
const RATE_PRECISION = 0.0005;
/** Turns of the fixed point for a node's cycle; it shrinks towards its answer and four turns are within 1 %. */
const CYCLE_TURNS = 4;
/**
 * Tokens that left a node in one batch come to the next one together, unless the link takes long over each. Share of a group that
 * stays together over a link without delay, and the link time per token that halves it. Fitted to the serving simulator.
 */
const GATHERING = 0.5;
const GATHERING_SECONDS = 0.0002;
/** Keeps a node that nothing reaches out of a division by zero. */
const RATE_MIN = 1e-6;

export interface ServingEstimate {
  /** Generated tokens per second with all room in use; 0 when no request can pass. */
  readonly decodeTokensPerSecond: number;
  /** Requests that the KV rooms along the ways hold at once. */
  readonly concurrentRequests: number;
  /** Seconds of one generated token's pass, of a prompt's, and of a mean request, at that rate. */
  readonly passSeconds: number;
  readonly promptSeconds: number;
  readonly requestSeconds: number;
  readonly hopsMean: number;
  readonly slowHopsMean: number;
}

export interface ServingModelOptions {
  readonly isPartialAllowed?: boolean;
  /** Extra work per pass that checking answers takes, as a share: 0.1 when one answer in ten is computed twice. */
  readonly verificationShare?: number;
}

/** One cluster's model, kept between layouts: `estimate` allocates only its answer. */
export class ServingModel {
  readonly network: FlowNetwork;
  readonly #tables: ClusterTables;
  readonly #promptTokens: number;
  readonly #outputTokens: number;
  /** Seconds per layer of a decode batch of 0 to BATCH_TABLE_MAX, one row per node (equal machines share a row). */
  readonly #decodeSeconds: readonly Float64Array[];
  readonly #promptSeconds: Float64Array;
  /** Prompts that the machine takes into one batch. */
  readonly #promptsMax: Float64Array;
  /** Tokens per second with one layer held and full batches. */
  readonly #fullBatchRate: Float64Array;
  /** Tokens per second that room and full batches allow the node in the layout being estimated. */
  readonly #rateMax: Float64Array;
  /** Ways of the layout being estimated: shares of all requests by node and by edge. */
  readonly #nodeShare: Float64Array;
  readonly #held: Int32Array;
  #usedNodes: number[] = [];
  #edgeShare: number[] = [];
  #edgeLatency: number[] = [];
  #edgeTokenSeconds: number[] = [];
  #passSeconds = 0;
  #promptWaySeconds = 0;

  readonly #options: ServingModelOptions;
  #room = 0;

  constructor(tables: ClusterTables, options: ServingModelOptions = {}) {
    this.#options = options;
    const { model } = tables.cluster;
    this.#tables = tables;
    this.network = new FlowNetwork(tables);
    this.#promptTokens = model.promptTokensMean;
    this.#outputTokens = model.outputTokensMean;
    const rows = new Map<string, Float64Array>();
    this.#decodeSeconds = tables.nodes.map(({ machine }) => {
      const row = rows.get(machine.name) ?? curveRow(machine.decodeSecondsPerLayer);
      rows.set(machine.name, row);
      return row;
    });
    this.#promptSeconds = Float64Array.from(tables.nodes, ({ machine }) =>
      Math.max(0, interpolate(machine.promptSecondsPerLayer, model.promptTokensMean)),
    );
    this.#promptsMax = Float64Array.from(tables.nodes, ({ machine }) =>
      Math.max(1, ...machine.limitsByLayers.map(({ promptRequestsMax }) => promptRequestsMax)),
    );
    this.#rateMax = new Float64Array(tables.nodeCount);
    const requestTokens = model.promptTokensMean + model.outputTokensMean;
    this.#fullBatchRate = Float64Array.from(tables.nodes, ({ machine }, node) => {
      const decode = (model.outputTokensMean * interpolate(machine.decodeSecondsPerLayer, FULL_BATCH)) / FULL_BATCH;
      return (COMPUTE_SHARE * requestTokens) / ((this.#promptSeconds[node] ?? 0) + decode);
    });
    this.#gathering = new Float64Array(tables.nodeCount);
    this.#follows = new Float64Array(tables.nodeCount);
    this.#inHead = new Int32Array(tables.nodeCount);
    this.#nodeShare = new Float64Array(tables.nodeCount);
    this.#held = new Int32Array(tables.nodeCount);
  }

  /** Finds the ways with most room; answers the room in requests, 0 when nothing can pass. The methods below are about these ways. */
  prepare(intervals: DenseIntervals): number {
    this.#room = this.#fillWays(intervals);
    return this.#room;
  }

  /** Whether the layout serves so many generated tokens per second within its room. */
  serves(decodeTokensPerSecond: number): boolean {
    if (this.#room <= 0) return false;
    const inFlight = (decodeTokensPerSecond / this.#outputTokens) * this.requestSecondsAt(decodeTokensPerSecond);
    return inFlight <= this.#room;
  }

  /** The rate at which the room is full, found between `low` (which it serves) and what empty queues would allow. */
  rateInFullRoom(low = 0): number {
    if (this.#room <= 0) return 0;
    let served = low;
    let above = Math.max(low, this.#rateCeiling());
    for (let turn = 0; turn < RATE_HALVINGS && above - served > RATE_PRECISION * above; turn++) {
      const rate = (served + above) / 2;
      if (this.serves(rate)) served = rate;
      else above = rate;
    }
    return served;
  }

  estimate(intervals: DenseIntervals): ServingEstimate {
    if (this.prepare(intervals) <= 0) return NOTHING_SERVED;
    const rate = this.rateInFullRoom();
    const requestSeconds = this.requestSecondsAt(rate);
    return {
      decodeTokensPerSecond: rate,
      concurrentRequests: this.#room,
      passSeconds: this.#passSeconds,
      promptSeconds: this.#promptWaySeconds,
      requestSeconds,
      hopsMean: this.#hopsMean(),
      slowHopsMean: this.#slowHops,
    };
  }

  /** Seconds of a mean request through the last estimated layout while `decodeTokensPerSecond` are generated; Infinity past its capacity. */
  requestSecondsAt(decodeTokensPerSecond: number): number {
    const requestRate = decodeTokensPerSecond / this.#outputTokens;
    let pass = 0;
    let prompt = 0;
    // Along the ways, so that what follows a prompt out of one node is known before the next.
    for (const node of this.#order) {
      const share = this.#nodeShare[node] ?? 0;
      let follows = 0;
      for (let edge = this.#inHead[node] ?? -1; edge !== -1; edge = this.#inNext[edge] ?? -1) {
        const seconds = this.#edgeSeconds(edge, decodeTokensPerSecond, requestRate);
        if (seconds === Number.POSITIVE_INFINITY) return seconds;
        const edgeShare = this.#edgeShare[edge] ?? 0;
        pass += edgeShare * seconds;
        prompt += edgeShare * this.#promptSecondsHere;
        follows += (edgeShare / share) * this.#followsHere;
      }
      const seconds = this.#nodeSeconds(node, {
        passRate: share * decodeTokensPerSecond,
        promptRate: share * requestRate,
        follows,
      });
      if (seconds === Number.POSITIVE_INFINITY) return seconds;
      pass += share * seconds;
      prompt += share * this.#promptSecondsHere;
    }
    pass += this.#lastSeconds;
    prompt += this.#lastSeconds;
    this.#passSeconds = pass;
    this.#promptWaySeconds = prompt;
    return (prompt + this.#outputTokens * pass) * (1 + (this.#options.verificationShare ?? 0));
  }

  /** A token's seconds on the link; a prompt's and the chance to follow one are left in `#promptSecondsHere` and `#followsHere`. */
  #edgeSeconds(edge: number, decodeTokensPerSecond: number, requestRate: number): number {
    const share = this.#edgeShare[edge] ?? 0;
    const from = this.#edgeFrom[edge] ?? -1;
    const latency = this.#edgeLatency[edge] ?? 0;
    const token = this.#edgeTokenSeconds[edge] ?? 0;
    const prompt = token * this.#promptTokens;
    const promptLoad = share * requestRate * prompt;
    const load = promptLoad + share * decodeTokensPerSecond * token;
    if (load >= LOAD_MAX) return Number.POSITIVE_INFINITY;
    // The prompt that a token followed out of the node goes over this link with the chance that any request does.
    const stays = from === -1 ? 0 : (this.#follows[from] ?? 0) * (share / (this.#nodeShare[from] ?? 1));
    const wait =
      (promptLoad * prompt * PROMPT_SPREAD + share * decodeTokensPerSecond * token * token) / (2 * (1 - load));
    this.#promptSecondsHere = latency + prompt + wait;
    this.#followsHere = stays + (1 - stays) * Math.min(1, promptLoad / (1 - load));
    return latency + token + stays * prompt + (1 - stays) * wait;
  }

  /** 0 to GATHERING for each node: how much the tokens that come over its inward links come in the groups in which they left. */
  readonly #gathering: Float64Array;
  /** Chance that a token leaves the node right behind a prompt. */
  readonly #follows: Float64Array;
  #order: number[] = [];
  readonly #inHead: Int32Array;
  #inNext: number[] = [];
  #edgeFrom: number[] = [];
  #lastSeconds = 0;
  #promptSecondsHere = 0;
  #followsHere = 0;
  #slowHops = 0;

  /** A token's seconds on the node; a prompt's are left in `#promptSecondsHere`. `follows`: the chance to come right behind one. */
  #nodeSeconds(node: number, load: { passRate: number; promptRate: number; follows: number }): number {
    const { passRate, promptRate, follows } = load;
    const held = this.#held[node] ?? 0;
    const row = this.#decodeSeconds[node];
    if (row === undefined) return Number.POSITIVE_INFINITY;
    const prompt = this.#promptSeconds[node] ?? 0;
    const promptLoad = held * promptRate * prompt;
    if (promptLoad >= LOAD_MAX) return Number.POSITIVE_INFINITY;
    const gathering = this.#gathering[node] ?? 0;
    let turnSeconds = held * layerSeconds(row, 1);
    let cycle = turnSeconds;
    let batch = 1;
    for (let turn = 0; turn < CYCLE_TURNS; turn++) {
      const arrivals = Math.max(RATE_MIN, passRate / (1 + gathering * (batch - 1)) + promptRate);
      // When nobody came during a turn the node waits for the next group.
      cycle = turnSeconds + Math.exp(-arrivals * turnSeconds) / arrivals;
      batch = Math.max(1, passRate * cycle);
      turnSeconds = held * (layerSeconds(row, batch) + promptRate * cycle * prompt);
    }
    if (batch > BATCH_TABLE_MAX || promptRate * cycle >= LOAD_MAX * (this.#promptsMax[node] ?? 1))
      return Number.POSITIVE_INFINITY;
    const busy = turnSeconds / Math.max(turnSeconds, cycle);
    const prompts = promptRate * cycle * (held * prompt) ** 2 * PROMPT_SPREAD;
    const wait = busy * ((turnSeconds * turnSeconds + prompts) / (2 * turnSeconds));
    const queued = (promptRate * cycle) / (this.#promptsMax[node] ?? 1);
    this.#promptSecondsHere =
      wait + turnSeconds + held * prompt + ((queued / (1 - queued)) * (turnSeconds + held * prompt)) / 2;
    this.#follows[node] = follows + (1 - follows) * Math.min(1, promptLoad);
    return turnSeconds + follows * held * prompt + (1 - follows) * wait;
  }

  /** Solves for the ways with most room; answers the room in requests. */
  #fillWays(intervals: DenseIntervals): number {
    const tables = this.#tables;
    const requestTokens = this.#promptTokens + this.#outputTokens;
    for (let node = 0; node < tables.nodeCount; node++) {
      const held = (intervals.end[node] ?? 0) - (intervals.first[node] ?? 0);
      this.#held[node] = held;
      const kv = held > 0 && held < tables.stride ? (tables.kvTokenLayers[node * tables.stride + held] ?? 0) : 0;
      // In tokens per second of requests that stay RESIDENCE_SECONDS, the flow's unit.
      const room = held > 0 ? (kv * KV_ROOM_SHARE) / held / this.residenceSeconds : 0;
      this.#rateMax[node] = held > 0 ? Math.min(room, (this.#fullBatchRate[node] ?? 0) / held) : 0;
    }
    const flow = this.network.solve(intervals, {
      slowLinkShare: SLOW_LINK_SHARE,
      isPartialAllowed: this.#options.isPartialAllowed === true,
      nodeRateMax: this.#rateMax,
    });
    if (flow <= 0) return 0;
    this.#usedNodes = [];
    for (let node = 0; node < tables.nodeCount; node++) {
      const share = this.network.nodeFlow(node) / flow;
      this.#nodeShare[node] = share;
      if (share > 0) this.#usedNodes.push(node);
    }
    this.#order = this.#usedNodes.sort((a, b) => (intervals.end[a] ?? 0) - (intervals.end[b] ?? 0) || a - b);
    this.#fillEdges(flow);
    return (flow * this.residenceSeconds) / requestTokens;
  }

  /** Seconds that a request is taken to stay when rooms are set against rates; `plan` sets it from its first constructions. */
  residenceSeconds = 300;

  #fillEdges(flow: number): void {
    const tables = this.#tables;
    this.#edgeShare = [];
    this.#edgeLatency = [];
    this.#edgeTokenSeconds = [];
    this.#edgeFrom = [];
    this.#inNext = [];
    this.#inHead.fill(-1);
    this.#slowHops = 0;
    this.#lastSeconds = 0;
    this.#gathering.fill(0);
    this.network.forEachFlow((from, to, rate) => {
      const share = rate / flow;
      if (to === tables.nodeCount) {
        this.#lastSeconds += share * linkSeconds(tables, from, to);
        return;
      }
      const edge = this.#edgeShare.push(share) - 1;
      this.#edgeFrom.push(from);
      this.#inNext.push(this.#inHead[to] ?? -1);
      this.#inHead[to] = edge;
      if (from === -1) {
        this.#edgeLatency.push(tables.sourceLatencySeconds[to] ?? 0);
        this.#edgeTokenSeconds.push(1 / (tables.sourceTokensPerSecond[to] ?? 1));
        return;
      }
      const link = from * tables.nodeCount + to;
      this.#edgeLatency.push(tables.linkLatencySeconds[link] ?? 0);
      this.#edgeTokenSeconds.push(tables.linkSecondsPerToken[link] ?? 0);
      const kept = GATHERING / (1 + (tables.linkSecondsPerToken[link] ?? 0) / GATHERING_SECONDS);
      this.#gathering[to] = (this.#gathering[to] ?? 0) + (share / (this.#nodeShare[to] ?? 1)) * kept;
      this.#slowHops += share * (tables.linkIsSlow[link] ?? 0);
    });
  }

  #hopsMean(): number {
    let sum = 0;
    for (const node of this.#usedNodes) sum += this.#nodeShare[node] ?? 0;
    return sum;
  }

  /** A rate that all the room could not reach even with empty queues. */
  #rateCeiling(): number {
    return (this.#room * this.#outputTokens) / this.requestSecondsAt(RATE_MIN);
  }
}

const NOTHING_SERVED: ServingEstimate = {
  decodeTokensPerSecond: 0,
  concurrentRequests: 0,
  passSeconds: Number.POSITIVE_INFINITY,
  promptSeconds: Number.POSITIVE_INFINITY,
  requestSeconds: Number.POSITIVE_INFINITY,
  hopsMean: 0,
  slowHopsMean: 0,
};

function curveRow(curve: Curve): Float64Array {
  // Profiles have a point at 0 with time 0; the curve below the next point is a batch of one or two, never nearly free.
  return Float64Array.from({ length: BATCH_TABLE_MAX + 1 }, (_, batch) =>
    interpolate(curve, Math.max(batch, curve.x[1] ?? 1)),
  );
}

function layerSeconds(row: Float64Array, batch: number): number {
  const low = Math.min(BATCH_TABLE_MAX - 1, Math.max(1, Math.floor(batch)));
  const at = row[low] ?? 0;
  return at + ((row[low + 1] ?? 0) - at) * Math.max(0, batch - low);
}
