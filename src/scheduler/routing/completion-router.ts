/**
 * Our router. A request takes the way on which it is expected to be answered first: the time of its prompt's pass plus that of the
 * expected number of decode steps, over the layout's graph, with what is known now. Known are the router's own bookings (which
 * prompts are on which links and nodes and until when, how many sequences each node has, what KV room they are expected to fill)
 * and the measured time of decode steps. Prompts on a slow link hold up every step that uses it, so a busy link costs each step
 * the share of its time that prompts take, times half a prompt; that spreads requests over parallel links and nodes.
 *
 * Nobody is let in without KV room for the expected answer on every node of the way. Online a request without room waits its turn;
 * offline requests are let in by waves (wave-gate.ts). Nobody knows the true length of an answer, this router neither.
 *
 * What it leaves out: prices, regions and trust are the planner's and the matcher's; loads that are not its own.
 */
import { assert } from "../../domain/assert.ts";
import { interpolate } from "../../domain/cluster.ts";
import type { GraphEdge } from "./graph-parts.ts";
import { KvRoom } from "./kv-room.ts";
import { type LayoutGraph, layersAt } from "./layout-graph.ts";
import type { PullMoment, RouteRequest, Router, RouterSettings, Way } from "./router.ts";
import { WaveGate, waveShare } from "./wave-gate.ts";
import { type HopPrice, WaySearch } from "./way-search.ts";

/** Answers vary: the rest is for those that grow longer than expected. Above it the simulator sees evictions (bench `serving`). */
const KV_HIGH_WATER = 0.95;
/** Seconds over which the share of a link's or node's time that prompts take is averaged: a few prompts' passes. */
const LOAD_WINDOW_S = 20;
/** Mean rest of a prompt that is met under way, in prompts: half, and more because long ones are met more often. */
const PROMPT_REST_SHARE = 0.6;
/** A step comes upon a node in mid-pass and waits for half of it when the node is never idle. */
const PASS_REST_SHARE = 0.5;
/** Rounds in which batch and time of a pass settle. */
const PASS_ROUNDS = 3;
/** A profile knows no batch below this. */
const BATCH_MIN = 2;
/** Weight of the newest step in the mean. */
const STEP_WEIGHT = 1 / 200;
/**
 * A wave ends before the room is full when its prompts take longer than this: over slow links they would for half an hour, during
 * which hardly a token is generated. The room fills over several waves then.
 */
const WAVE_S_MAX = 180;
/** Where one prompt alone takes nearly as long: in prompts' passes. */
const WAVE_PROMPTS_MIN = 2;
/** Waiting requests that offline keeps ready: at least, and so many seconds of what could flow, so that nothing waits for them. */
const OFFLINE_BACKLOG_MIN = 4;
const OFFLINE_BACKLOG_S = 0.2;

export class CompletionRouter implements Router {
  readonly name = "ours";
  readonly style = "whole";
  readonly isDroppingOffline = false;
  readonly #graph: LayoutGraph;
  readonly #room: KvRoom;
  readonly #search: WaySearch;
  readonly #gate: WaveGate | null;
  readonly #links: PromptLoad;
  readonly #nodes: PromptLoad;
  /** Requests whose way leads through the node. */
  readonly #sequences: Float64Array;
  #inFlight = 0;
  /** One prompt's pass and one step without load: seconds. */
  readonly #idlePromptS: number;
  readonly #backlog: number;
  #stepS: number;

  constructor({ graph, mode }: RouterSettings) {
    const { promptTokensMean, outputTokensMean } = graph.cluster.model;
    this.#graph = graph;
    this.#room = new KvRoom(graph, { outputTokensExpected: outputTokensMean, highWaterShare: KV_HIGH_WATER });
    this.#search = new WaySearch(graph);
    this.#gate = mode === "offline" ? new WaveGate() : null;
    this.#links = new PromptLoad(graph.edges.length);
    this.#nodes = new PromptLoad(graph.sink + 1);
    this.#sequences = new Float64Array(graph.sink + 1);
    this.#search.find((edge) => price(this.#idleSeconds(edge, 1)));
    this.#stepS = this.#search.seconds;
    this.#search.find((edge) => price(this.#idleSeconds(edge, promptTokensMean)));
    this.#idlePromptS = this.#search.seconds;
    const requestsPerSecond = graph.flow.tokensPerSecond / (promptTokensMean + outputTokensMean);
    this.#backlog = Math.max(OFFLINE_BACKLOG_MIN, Math.ceil(requestsPerSecond * OFFLINE_BACKLOG_S));
  }

  route(request: RouteRequest, nowS: number): Way | null {
    if (this.#gate?.isOpen === false) return null;
    const way = this.#search.find((edge, reachedS) => this.#price(request, edge, nowS, nowS + reachedS));
    if (way === null || this.#isWaveLong()) {
      // With nobody in flight nobody ends, and the gate would never open.
      if (this.#inFlight > 0) this.#gate?.shut(this.#waveSize());
      return null;
    }
    this.#book(request, way, nowS);
    return way;
  }

  nextEdge(): number {
    assert(false, "our router plans whole ways");
  }

  pull(moment: PullMoment): number {
    if (moment === "start") return this.#backlog;
    return moment === "sent" || moment === "refused" ? 1 : 0;
  }

  stepDone(_request: RouteRequest, _way: Way, seconds: number): void {
    this.#stepS += STEP_WEIGHT * (seconds - this.#stepS);
  }

  released(request: RouteRequest, way: Way): void {
    this.#room.remove(request, way);
    for (const index of way) this.#countSequence(index, -1);
    this.#inFlight -= 1;
    this.#gate?.ended(this.#inFlight);
  }

  /** Whether the prompt for which a way was just found would be answered too late for this wave. */
  #isWaveLong(): boolean {
    if (this.#gate === null || this.#inFlight === 0) return false;
    return this.#search.seconds > Math.max(WAVE_S_MAX, WAVE_PROMPTS_MIN * this.#idlePromptS);
  }

  #waveSize(): number {
    const { outputTokensMean } = this.#graph.cluster.model;
    return this.#inFlight * waveShare({ promptS: this.#idlePromptS, stepS: this.#stepS, outputTokensMean });
  }

  #price(request: RouteRequest, edge: GraphEdge, nowS: number, atS: number): HopPrice | null {
    if (!this.#room.fits(request, edge.to)) return null;
    const sendS = sendSeconds(edge, request.promptTokens);
    const promptS = this.#promptSeconds(edge, request.promptTokens);
    const sentS = Math.max(atS, this.#links.freeS(edge.index)) + sendS + edge.latencyS;
    const seconds = Math.max(sentS, this.#nodes.freeS(edge.to)) + promptS - atS;
    const held = this.#links.share(edge.index, nowS) * sendS + this.#nodes.share(edge.to, nowS) * promptS;
    const stepS = edge.latencyS + sendSeconds(edge, 1) + PROMPT_REST_SHARE * held + this.#passSeconds(edge);
    return { cost: seconds + this.#graph.cluster.model.outputTokensMean * stepS, seconds };
  }

  #book(request: RouteRequest, way: Way, nowS: number): void {
    this.#room.add(request, way);
    this.#inFlight += 1;
    let atS = nowS;
    for (const index of way) {
      const edge = this.#graph.edges[index];
      assert(edge !== undefined, `an edge of the way is in the graph: ${index}`);
      const sentS = this.#links.add(index, sendSeconds(edge, request.promptTokens), nowS, atS);
      atS = this.#nodes.add(edge.to, this.#promptSeconds(edge, request.promptTokens), nowS, sentS + edge.latencyS);
      this.#countSequence(index, 1);
    }
  }

  #countSequence(index: number, change: 1 | -1): void {
    const to = this.#graph.edges[index]?.to ?? this.#graph.sink;
    this.#sequences[to] = (this.#sequences[to] ?? 0) + change;
  }

  #promptSeconds(edge: GraphEdge, tokens: number): number {
    const curve = this.#graph.nodes[edge.to]?.machine.promptSecondsPerLayer;
    return curve === undefined ? 0 : layersAt(this.#graph, edge) * interpolate(curve, tokens);
  }

  /** A pass of these tokens over the edge and the node at its end, nobody else there. */
  #idleSeconds(edge: GraphEdge, tokens: number): number {
    const curve = this.#graph.nodes[edge.to]?.machine.decodeSecondsPerLayer;
    const stepS = curve === undefined ? 0 : layersAt(this.#graph, edge) * interpolate(curve, BATCH_MIN);
    return (
      edge.latencyS + sendSeconds(edge, tokens) + Math.max(stepS, tokens > 1 ? this.#promptSeconds(edge, tokens) : 0)
    );
  }

  /** A step's stay at the node: its own pass, with those that come while a pass runs, and the rest of the one before. */
  #passSeconds(edge: GraphEdge): number {
    const curve = this.#graph.nodes[edge.to]?.machine.decodeSecondsPerLayer;
    if (curve === undefined) return 0;
    const layers = layersAt(this.#graph, edge);
    const stepsPerSecond = ((this.#sequences[edge.to] ?? 0) + 1) / this.#stepS;
    let passS = layers * interpolate(curve, BATCH_MIN);
    for (let round = 0; round < PASS_ROUNDS; round++) {
      passS = layers * interpolate(curve, Math.max(BATCH_MIN, stepsPerSecond * passS));
    }
    return passS * (1 + PASS_REST_SHARE * Math.min(1, stepsPerSecond * passS));
  }
}

/** When prompts will have passed each link or node, and the share of recent time that they took. */
class PromptLoad {
  readonly #freeS: Float64Array;
  readonly #shares: Float64Array;
  readonly #sharesAtS: Float64Array;

  constructor(count: number) {
    this.#freeS = new Float64Array(count);
    this.#shares = new Float64Array(count);
    this.#sharesAtS = new Float64Array(count);
  }

  freeS(at: number): number {
    return this.#freeS[at] ?? 0;
  }

  share(at: number, nowS: number): number {
    return (this.#shares[at] ?? 0) * Math.exp(((this.#sharesAtS[at] ?? 0) - nowS) / LOAD_WINDOW_S);
  }

  /** Books `seconds` from `fromS` on at the earliest; returns when they are over. */
  add(at: number, seconds: number, nowS: number, fromS: number): number {
    this.#shares[at] = this.share(at, nowS) + seconds / LOAD_WINDOW_S;
    this.#sharesAtS[at] = nowS;
    const doneS = Math.max(fromS, this.freeS(at)) + seconds;
    this.#freeS[at] = doneS;
    return doneS;
  }
}

function sendSeconds(edge: GraphEdge, tokens: number): number {
  return (edge.bytesPerToken * tokens) / edge.bytesPerSecond;
}

function price(seconds: number): HopPrice {
  return { cost: seconds, seconds };
}
