/**
 * How fast a layout serves, not how much could flow through it. With all KV room in use three things decide that:
 *
 *  - room: a request keeps its KV on every node of its way until its last token, so the requests in flight are at most a maximum
 *    flow through nodes as wide as the requests that they have room for;
 *  - pass: a token's way takes the network, and on each node the time of all layers held there for the batch in which it comes.
 *    Tokens gather: what left a node together arrives at the next one together. Where ways part and join they mix into a handful of
 *    groups that go round; in a single chain they end as one group, each node idle while the others work, and a pass takes as long
 *    as the whole batch takes on every node;
 *  - prompts: on a node a prompt takes several times a token's time, and across a slow link a second or more, and whatever comes
 *    behind it travels at its speed. So they are let in together, in waves (the router does it), and while a wave passes little
 *    else does. A wave lasts as long as the narrowest place takes for its prompts: of all time, room x that place's seconds per
 *    prompt for each round of requests.
 *
 * The rate X is where room = X x time (Little's law), by bisection. Ways are chosen with the same limits in mind: no node beyond its
 * room, no link or node beyond the share of time that waves have. Constants are fitted to the serving simulator with our router
 * over nine clusters (docs/planner.md has ranking and error). It is a mean-value model: one length of requests, no start-up.
 */
import { type Curve, interpolate } from "../../domain/cluster.ts";
import type { ClusterTables } from "./cluster-tables.ts";
import { type DenseIntervals, FlowNetwork, linkSeconds } from "./flow.ts";

/** Share of a node's KV room that requests are admitted to on average: above it a long answer would have nowhere to grow. */
const KV_ROOM_SHARE = 0.8;
/** Groups in which the tokens in flight go round where ways mix. */
const GROUPS_MAX = 6;
/** Requests in flight that make one group of their own even in a single chain: a few hardly meet. */
const GROUP_ROOM = 60;
/** Share of a node's turn that a token waits for on a node that is never idle. */
const WAIT_SHARE = 0.7;
/** Of a wave: how much of the narrowest place's time stops the tokens, and how much of one prompt's whole pass. */
const WAVE_SHARE = 0.85;
const WAVE_TAIL_SHARE = 0.5;
/** A wave replaces at most half of the requests, and a wave's worth of room is half empty while the next one gathers. */
const WAVE_MAX = 0.5;
/** Slack in the share of time that waves have, when ways are chosen: tighter spreads prompts over more links. */
const PROMPT_SHARE_SLACK = 0.8;
const PROMPT_SHARE_MIN = 0.1;
const PROMPT_SHARE_MAX = 0.9;
/** A place this busy has a queue that no mean describes. */
const LOAD_MAX = 0.95;
/** Largest batch in the tables of layer times; beyond it the curve's last segment goes on. */
const BATCH_TABLE_MAX = 512;
/** Halvings of the rate at most, and the bracket's width at which it is known well enough: a tenth of what ranks layouts. */
const RATE_HALVINGS = 14;
const RATE_PRECISION = 0.0005;
/** Rounds in which residence and prompt share of the best layout settle. */
const CALIBRATION_ROUNDS = 3;
/** Rounds in which the requests in flight and their time settle under light load. */
const LIGHT_ROUNDS = 4;

export interface ServingModelOptions {
  readonly isPartialAllowed?: boolean;
  /** Extra work per pass that checking answers takes, as a share: 0.1 when one answer in ten is computed twice. */
  readonly verificationShare?: number;
}

/** How long a request stays and the share of time that waves have: what rooms and rates are set against when ways are chosen. */
export interface Calibration {
  readonly residenceSeconds: number;
  readonly promptShare: number;
}

export interface ServingEstimate {
  /** Generated tokens per second with all room in use; 0 when no request can pass. */
  readonly decodeTokensPerSecond: number;
  /** Requests that the KV rooms along the ways hold at once. */
  readonly concurrentRequests: number;
  /** Seconds of one generated token's pass between waves, of a prompt's alone, and of a mean request, at that rate. */
  readonly passSeconds: number;
  readonly promptSeconds: number;
  readonly requestSeconds: number;
  readonly hopsMean: number;
  readonly slowHopsMean: number;
}

/** One cluster's model, kept between layouts. `prepare` a layout, then ask about it. */
export class ServingModel {
  readonly network: FlowNetwork;
  readonly #tables: ClusterTables;
  readonly #isPartialAllowed: boolean;
  readonly #workFactor: number;
  readonly #promptTokens: number;
  readonly #outputTokens: number;
  /** Seconds per layer of a decode batch of 0 to BATCH_TABLE_MAX, one row per node (equal machines share a row). */
  readonly #decodeSeconds: readonly Float64Array[];
  /** Seconds per layer of a mean prompt. */
  readonly #promptSeconds: Float64Array;
  /** How long a request stays and the share of time that waves have, on the cluster's best layout so far. */
  #residenceSeconds = 300;
  #promptShare = 0.4;
  /** Of the layout prepared: limits of nodes, who is on any way, with which share of all requests, and what holds for all. */
  readonly #rateMax: Float64Array;
  readonly #held: Int32Array;
  readonly #share: Float64Array;
  readonly #turnSeconds: Float64Array;
  readonly #batch: Float64Array;
  #used: number[] = [];
  #room = 0;
  #groups = 1;
  #hops = 0;
  #slowHops = 0;
  #linkPassSeconds = 0;
  #promptPassSeconds = 0;
  #narrowestSeconds = 0;

  constructor(tables: ClusterTables, options: ServingModelOptions = {}) {
    const { model } = tables.cluster;
    this.#tables = tables;
    this.#isPartialAllowed = options.isPartialAllowed === true;
    this.#workFactor = 1 + (options.verificationShare ?? 0);
    this.network = new FlowNetwork(tables);
    this.#promptTokens = model.promptTokensMean;
    this.#outputTokens = model.outputTokensMean;
    const rows = new Map<Curve, Float64Array>();
    this.#decodeSeconds = tables.nodes.map(({ machine }) => {
      const row = rows.get(machine.decodeSecondsPerLayer) ?? curveRow(machine.decodeSecondsPerLayer);
      rows.set(machine.decodeSecondsPerLayer, row);
      return row;
    });
    this.#promptSeconds = Float64Array.from(tables.nodes, ({ machine }) =>
      Math.max(Number.MIN_VALUE, interpolate(machine.promptSecondsPerLayer, model.promptTokensMean)),
    );
    this.#rateMax = new Float64Array(tables.nodeCount);
    this.#held = new Int32Array(tables.nodeCount);
    this.#share = new Float64Array(tables.nodeCount);
    this.#turnSeconds = new Float64Array(tables.nodeCount);
    this.#batch = new Float64Array(tables.nodeCount);
  }

  get calibration(): Calibration {
    return { residenceSeconds: this.#residenceSeconds, promptShare: this.#promptShare };
  }

  /** The one of another model of this cluster, so that both give the same scores. */
  set calibration({ residenceSeconds, promptShare }: Calibration) {
    this.#residenceSeconds = residenceSeconds;
    this.#promptShare = promptShare;
  }

  /** The calibration of a layout with passes as long and a residence so many times as long: the rest of it goes to prompts. */
  stretched(base: Calibration, times: number): Calibration {
    const decodeShare = (1 - base.promptShare / PROMPT_SHARE_SLACK) / times;
    return { residenceSeconds: base.residenceSeconds * times, promptShare: promptShareOf(decodeShare) };
  }

  /** Takes residence and prompt share from the layout: rooms and rates meet in them. Scores from before are no longer comparable. */
  calibrate(intervals: DenseIntervals): void {
    for (let round = 0; round < CALIBRATION_ROUNDS; round++) {
      const { requestSeconds, passSeconds } = this.estimate(intervals);
      if (requestSeconds === Number.POSITIVE_INFINITY) return;
      this.#residenceSeconds = requestSeconds;
      this.#promptShare = promptShareOf((this.#outputTokens * passSeconds) / requestSeconds);
    }
  }

  /** Finds the layout's ways; answers their room in requests, 0 when nothing can pass. */
  prepare(intervals: DenseIntervals): number {
    this.#room = this.#findWays(intervals);
    if (this.#room <= 0) return 0;
    this.#groups = Math.min(GROUPS_MAX, this.#groups + GROUP_ROOM / this.#room);
    this.#fillBatches(this.#room);
    return this.#room;
  }

  /** Nodes on the mean way through the layout last prepared. */
  get hopsMean(): number {
    return this.#hops;
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
    let above = Math.max(low, (this.#room * this.#outputTokens) / this.requestSecondsAt(0));
    for (let turn = 0; turn < RATE_HALVINGS && above - served > RATE_PRECISION * above; turn++) {
      const rate = (served + above) / 2;
      if (this.serves(rate)) served = rate;
      else above = rate;
    }
    return served;
  }

  /** Seconds of a mean request, its part of the waves included, while all room is in use and so many tokens are generated. */
  requestSecondsAt(decodeTokensPerSecond: number): number {
    const pass = this.#passSecondsAt(decodeTokensPerSecond);
    const decode = this.#outputTokens * pass;
    // The wave that wastes least: a longer one leaves more room empty before it, a shorter one comes more often.
    const wave = Math.min(WAVE_MAX, Math.sqrt((2 * this.#promptPassSeconds) / decode));
    const stopped =
      WAVE_SHARE * this.#room * this.#narrowestSeconds + (WAVE_TAIL_SHARE * this.#promptPassSeconds) / wave;
    return (decode / (1 - wave / 2) + stopped) * this.#workFactor;
  }

  /**
   * Seconds of a mean request when requests come one by one and room is no matter: what the objective `latency` asks. A token
   * behind a prompt is held up for the rest of the prompt's pass, as far as their ways are the same. Infinity when the layout
   * cannot keep up.
   */
  lightRequestSeconds(decodeTokensPerSecond: number): number {
    const requestRate = decodeTokensPerSecond / this.#outputTokens;
    if (this.#room <= 0 || requestRate * this.#narrowestSeconds >= LOAD_MAX) return Number.POSITIVE_INFINITY;
    let sameWay = 0;
    for (const node of this.#used) sameWay += (this.#share[node] ?? 0) ** 2;
    const heldUp = ((requestRate * this.#promptPassSeconds ** 2) / 2) * (sameWay / this.#hops);
    let seconds = 0;
    let inFlight = 1;
    for (let round = 0; round < LIGHT_ROUNDS; round++) {
      this.#fillBatches(inFlight);
      const pass = this.#passSecondsAt(decodeTokensPerSecond) + heldUp;
      seconds = (this.#promptPassSeconds + this.#outputTokens * pass) * this.#workFactor;
      inFlight = Math.min(this.#room, requestRate * seconds);
    }
    this.#fillBatches(this.#room);
    return requestRate * seconds > this.#room ? Number.POSITIVE_INFINITY : seconds;
  }

  estimate(intervals: DenseIntervals): ServingEstimate {
    if (this.prepare(intervals) <= 0) return NOTHING_SERVED;
    const rate = this.rateInFullRoom();
    return {
      decodeTokensPerSecond: rate,
      concurrentRequests: this.#room,
      passSeconds: this.#passSecondsAt(rate),
      promptSeconds: this.#promptPassSeconds,
      requestSeconds: this.requestSecondsAt(rate),
      hopsMean: this.#hops,
      slowHopsMean: this.#slowHops,
    };
  }

  /** A token's pass between waves. */
  #passSecondsAt(decodeTokensPerSecond: number): number {
    let pass = this.#linkPassSeconds;
    for (const node of this.#used) {
      const share = this.#share[node] ?? 0;
      const turn = this.#turnSeconds[node] ?? 0;
      const busy = Math.min(1, (share * decodeTokensPerSecond * turn) / (this.#batch[node] ?? 1));
      pass += share * turn * (1 + WAIT_SHARE * busy);
    }
    return pass;
  }

  /** Batches and turns of all nodes while so many requests are in flight. */
  #fillBatches(inFlight: number): void {
    for (const node of this.#used) {
      const batch = Math.max(1, ((this.#share[node] ?? 0) * inFlight) / this.#groups);
      this.#batch[node] = batch;
      this.#turnSeconds[node] = (this.#held[node] ?? 0) * layerSeconds(this.#decodeSeconds[node] ?? NO_ROW, batch);
    }
  }

  #findWays(intervals: DenseIntervals): number {
    const tables = this.#tables;
    const requestTokens = this.#promptTokens + this.#outputTokens;
    for (let node = 0; node < tables.nodeCount; node++) {
      const held = (intervals.end[node] ?? 0) - (intervals.first[node] ?? 0);
      this.#held[node] = held;
      if (held <= 0 || held >= tables.stride) continue;
      const kv = tables.kvTokenLayers[node * tables.stride + held] ?? 0;
      const byRoom = (kv * KV_ROOM_SHARE) / held / this.#residenceSeconds;
      const byPrompts = (this.#promptShare * requestTokens) / (held * (this.#promptSeconds[node] ?? 1));
      this.#rateMax[node] = Math.min(byRoom, byPrompts);
    }
    const flow = this.network.solve(intervals, {
      slowLinkShare: Math.min(1, (this.#promptShare * requestTokens) / this.#promptTokens),
      isPartialAllowed: this.#isPartialAllowed,
      nodeRateMax: this.#rateMax,
    });
    if (flow <= 0) return 0;
    this.#readNodes(flow);
    this.#readLinks(flow);
    return (flow * this.#residenceSeconds) / requestTokens;
  }

  #readNodes(flow: number): void {
    this.#used = [];
    this.#hops = 0;
    this.#promptPassSeconds = 0;
    this.#narrowestSeconds = 0;
    let mixing = 0;
    for (let node = 0; node < this.#tables.nodeCount; node++) {
      const share = this.network.nodeFlow(node) / flow;
      if (share <= 0) continue;
      this.#share[node] = share;
      this.#used.push(node);
      this.#hops += share;
      mixing += share * (1 - share);
      const prompt = share * (this.#held[node] ?? 0) * (this.#promptSeconds[node] ?? 0);
      this.#promptPassSeconds += prompt;
      this.#narrowestSeconds = Math.max(this.#narrowestSeconds, prompt);
    }
    this.#groups = mixing;
  }

  /** Also turns the nodes' mixing into groups, which slow links part as well. */
  #readLinks(flow: number): void {
    const tables = this.#tables;
    this.#slowHops = 0;
    this.#linkPassSeconds = 0;
    this.network.forEachFlow((from, to, rate) => {
      const share = rate / flow;
      const seconds = linkSeconds(tables, from, to);
      this.#linkPassSeconds += share * seconds;
      this.#promptPassSeconds += share * seconds;
      if (from === -1 || to === tables.nodeCount) return;
      const link = from * tables.nodeCount + to;
      const prompt = share * (tables.linkSecondsPerToken[link] ?? 0) * this.#promptTokens;
      this.#promptPassSeconds += prompt;
      this.#narrowestSeconds = Math.max(this.#narrowestSeconds, prompt);
      this.#slowHops += share * (tables.linkIsSlow[link] ?? 0);
    });
    this.#groups = 1 + (GROUPS_MAX - 1) * (1 - Math.exp(-this.#groups - this.#slowHops));
  }
}

const NO_ROW = new Float64Array(BATCH_TABLE_MAX + 1);

const NOTHING_SERVED: ServingEstimate = {
  decodeTokensPerSecond: 0,
  concurrentRequests: 0,
  passSeconds: Number.POSITIVE_INFINITY,
  promptSeconds: Number.POSITIVE_INFINITY,
  requestSeconds: Number.POSITIVE_INFINITY,
  hopsMean: 0,
  slowHopsMean: 0,
};

function promptShareOf(decodeShare: number): number {
  return Math.min(PROMPT_SHARE_MAX, Math.max(PROMPT_SHARE_MIN, PROMPT_SHARE_SLACK * (1 - decodeShare)));
}

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
