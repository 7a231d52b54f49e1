/**
 * The cluster under load: events are arrivals at a vertex, ends of passes, and requests coming in. Links send one request at a time,
 * first come, first served, at the link's rate, and deliver it a latency later. All that happens at one time is applied before any
 * node starts a batch, so the order of equal events changes nothing.
 *
 * Laws that hold after every event: a node's KV never exceeds its room; every request is waiting, in flight, ended or dropped.
 */
import { assert } from "../../domain/assert.ts";
import type { LayoutGraph } from "../../scheduler/routing/layout-graph.ts";
import type { LiveState, PullMoment, Router } from "../../scheduler/routing/router.ts";
import type { Arrival, RequestLengths } from "./arrivals.ts";
import { EventQueue } from "./event-queue.ts";
import { type Job, newJob } from "./job.ts";
import { StageNode } from "./stage-node.ts";
import { Samples } from "./tally.ts";
import { noCounts, type WorldCounts, WorldMeters } from "./world-meters.ts";

const PASS_ENDS = 0;
const JOB_ARRIVES = 1;
const JOB_COMES = 2;

export interface WorldSettings {
  readonly graph: LayoutGraph;
  readonly router: Router;
  /** Seconds; the run ends with the window. */
  readonly window: { readonly startS: number; readonly endS: number };
  readonly arrivals: readonly Arrival[];
  /** Offline: requests are drawn when the router asks for them. */
  readonly offline: { readonly draw: () => RequestLengths; readonly gapS: number } | null;
}

export class ServingWorld implements LiveState {
  readonly counts: WorldCounts = noCounts();
  readonly promptLatencies = new Samples();
  readonly decodeLatencies = new Samples();
  readonly meters: WorldMeters;
  readonly nodes: readonly StageNode[];
  readonly #settings: WorldSettings;
  readonly #graph: LayoutGraph;
  readonly #router: Router;
  readonly #events = new EventQueue();
  readonly #jobs: Job[] = [];
  readonly #inFlight = new Set<Job>();
  /** At the coordinator, without a way; first come, first served. */
  #waiting: Job[] = [];
  #evicted: Job[] = [];
  readonly #linkFreeS: Float64Array;
  readonly #dirty: number[] = [];
  readonly #isDirty: Uint8Array;
  #nowS = 0;

  constructor(settings: WorldSettings) {
    const { graph } = settings;
    this.#settings = settings;
    this.#graph = graph;
    this.#router = settings.router;
    this.meters = new WorldMeters(settings.window, { nodes: graph.nodes.length, edges: graph.edges.length });
    this.#linkFreeS = new Float64Array(graph.edges.length);
    this.#isDirty = new Uint8Array(graph.nodes.length);
    this.nodes = graph.nodes.map((node, vertex) => {
      const entries = (graph.inEdges[vertex] ?? []).map((index) => graph.edges[index]?.firstLayer ?? node.first);
      return new StageNode(vertex, node, entries, graph.cluster.model.activationBytes);
    });
    for (const arrival of settings.arrivals) this.#come(arrival, arrival.atS);
    if (settings.offline !== null) this.#pull("start");
  }

  run(): void {
    const { endS } = this.#settings.window;
    const events = this.#events;
    while (events.nextTimeS <= endS && events.pop()) {
      this.#nowS = events.timeS;
      this.#apply(events.kind, events.subject, events.epoch);
      if (events.nextTimeS > this.#nowS) this.#startNodes();
    }
    this.#nowS = endS;
    for (const node of this.nodes) this.meters.countKv(node, endS);
    this.meters.countInFlight(this.#inFlight.size, endS);
    this.counts.waitingAtEnd = this.#waiting.length + this.#evicted.length;
    this.counts.inFlightAtEnd = this.#inFlight.size;
  }

  queueLength(vertex: number): number {
    return this.nodes[vertex]?.waiting ?? 0;
  }

  kvUsedShare(vertex: number): number {
    const node = this.nodes[vertex];
    return node === undefined ? 0 : node.kvUsed / node.profile.kvTokenLayers;
  }

  linkBacklogS(edge: number): number {
    return Math.max(0, (this.#linkFreeS[edge] ?? 0) - this.#nowS);
  }

  #apply(kind: number, subject: number, epoch: number): void {
    if (kind === PASS_ENDS) {
      const node = this.nodes[subject];
      assert(node !== undefined, `a pass ends at a node of the graph: ${subject}`);
      for (const job of node.finish()) this.#leave(job, node);
      this.#touch(subject);
      return;
    }
    const job = this.#jobs[subject];
    assert(job !== undefined, `an event names a request that came: ${subject}`);
    if (kind === JOB_COMES) this.#admit(job);
    else if (job.epoch === epoch) this.#arrive(job);
  }

  #come(lengths: RequestLengths, atS: number): void {
    const job = newJob(this.#jobs.length, atS, lengths);
    this.#jobs.push(job);
    this.#events.push(atS, JOB_COMES, job.id, 0);
  }

  #pull(moment: PullMoment): void {
    const { offline } = this.#settings;
    if (offline === null) return;
    const count = this.#router.pull(moment, this.#nowS);
    for (let at = 0; at < count; at++) {
      this.#come(offline.draw(), this.#nowS + offline.gapS * (moment === "start" ? at : at + 1));
    }
  }

  #admit(job: Job): void {
    this.counts.came += 1;
    this.#waiting.push(job);
    this.#sendWaiting();
  }

  /** Gives ways to those who wait, in order, until one has none. */
  #sendWaiting(): void {
    while (this.#waiting.length > 0) {
      const [job] = this.#waiting;
      if (job === undefined) return;
      if (this.#router.style === "whole") {
        const way = this.#router.route(job, this.#nowS, this);
        if (way === null) {
          // Without room although nothing is in flight it would wait for ever.
          const isDropped = this.#router.isDroppingOffline && this.#settings.offline !== null;
          if (!isDropped && this.#inFlight.size > 0) return;
          this.#waiting.shift();
          this.counts.dropped += 1;
          this.#pull("refused");
          continue;
        }
        job.way = [...way];
      } else {
        job.way = [this.#router.nextEdge(job, this.#graph.source, this.#nowS, this)];
      }
      this.#waiting.shift();
      this.meters.countInFlight(this.#inFlight.size, this.#nowS);
      this.#inFlight.add(job);
      this.#issue(job);
      if (job.epoch === 0) this.#pull("sent");
    }
  }

  #issue(job: Job): void {
    job.hop = 0;
    this.#send(job);
  }

  #send(job: Job): void {
    const index = job.way[job.hop];
    const edge = index === undefined ? undefined : this.#graph.edges[index];
    assert(edge !== undefined, `request ${job.id} has an edge to go on`);
    const startS = Math.max(this.#nowS, this.#linkFreeS[edge.index] ?? 0);
    const sendS = (edge.bytesPerToken * job.passTokens) / edge.bytesPerSecond;
    const freeS = startS + sendS;
    this.#linkFreeS[edge.index] = freeS;
    this.meters.countLink(edge.index, startS, freeS);
    job.sentS = startS;
    this.#events.push(freeS + edge.latencyS, JOB_ARRIVES, job.id, job.epoch);
  }

  #arrive(job: Job): void {
    const edge = this.#graph.edges[job.way[job.hop] ?? -1];
    assert(edge !== undefined, `request ${job.id} arrives over an edge of its way`);
    const node = this.nodes[edge.to];
    if (node === undefined) {
      this.#answer(job);
      return;
    }
    node.enter(job, edge.firstLayer);
    this.#touch(edge.to);
  }

  /** The node is through with the request's pass. */
  #leave(job: Job, node: StageNode): void {
    this.#router.hopDone?.(job.way[job.hop] ?? -1, this.#nowS - job.sentS);
    job.hop += 1;
    if (job.hop === job.way.length) job.way.push(this.#router.nextEdge(job, node.vertex, this.#nowS, this));
    this.#send(job);
  }

  /** A pass is back at the coordinator. */
  #answer(job: Job): void {
    const isMeasured = this.#nowS >= this.#settings.window.startS;
    job.contextTokens += job.passTokens;
    if (job.phase === "prompt") {
      const isFirst = job.produced === 0;
      if (isMeasured && isFirst) {
        this.promptLatencies.add(this.#nowS - job.arrivedS);
        this.counts.promptsDone += 1;
        this.counts.promptTokens += job.promptTokens;
      }
      job.phase = "decode";
      job.passTokens = 1;
      if (isFirst) job.issuedS = this.#nowS;
      this.#router.promptDone?.(job, job.way, this.#nowS);
      this.#pull("prompt-done");
    } else {
      job.produced += 1;
      this.#router.stepDone?.(job, job.way, this.#nowS - job.issuedS);
      this.counts.decodeTokensInAll += 1;
      if (isMeasured) {
        this.counts.decodeTokens += 1;
        this.decodeLatencies.add(this.#nowS - job.issuedS);
      }
      job.issuedS = this.#nowS;
    }
    if (job.produced === job.outputTokens) {
      this.#end(job);
      return;
    }
    this.#router.stepSent?.(job, job.way);
    this.#issue(job);
  }

  #end(job: Job): void {
    this.counts.ended += 1;
    this.#release(job);
    this.#pull("ended");
    this.#readmit();
  }

  /** Something is free again: evicted requests come before those that never ran. */
  #readmit(): void {
    this.#waiting.unshift(...this.#evicted);
    this.#evicted = [];
    this.#sendWaiting();
  }

  /** Frees what the request holds along its way. */
  #release(job: Job): void {
    for (const [at, held] of job.kvHeld.entries()) {
      const vertex = this.#graph.edges[job.way[at] ?? -1]?.to ?? -1;
      const node = this.nodes[vertex];
      if (node === undefined || held === undefined) continue;
      this.meters.countKv(node, this.#nowS);
      node.freeKv(held);
      this.#touch(vertex);
    }
    job.kvHeld = [];
    this.meters.countInFlight(this.#inFlight.size, this.#nowS);
    this.#inFlight.delete(job);
    this.#router.released?.(job, job.way, this.#nowS);
  }

  #startNodes(): void {
    this.#dirty.sort((a, b) => a - b);
    for (let vertex = this.#dirty.shift(); vertex !== undefined; vertex = this.#dirty.shift()) {
      this.#isDirty[vertex] = 0;
      const node = this.nodes[vertex];
      assert(node !== undefined, `a node to start is in the graph: ${vertex}`);
      this.meters.countKv(node, this.#nowS);
      const result = node.start();
      assert(node.kvUsed <= node.profile.kvTokenLayers, `the KV of ${node.profile.id} stays within its room`);
      if (result === "started") {
        const endS = this.#nowS + node.durationS;
        this.meters.countNode(vertex, this.#nowS, endS);
        this.#events.push(endS, PASS_ENDS, vertex, 0);
      } else if (result === "starved" || node.waiting > 0) {
        this.#makeRoom(node, result === "starved");
      }
    }
  }

  /**
   * Decode steps wait and none has room: the newest request that holds KV here begins again later, as an engine preempts. A request
   * that does not fit the node when nobody else is there is dropped.
   */
  #makeRoom(node: StageNode, isStarved: boolean): void {
    if (node.isBusy) return;
    let newest: Job | null = null;
    let holders = 0;
    for (const job of this.#inFlight) {
      const at = job.way.findIndex((index) => this.#graph.edges[index]?.to === node.vertex);
      if ((job.kvHeld[at] ?? 0) === 0) continue;
      holders += 1;
      if (newest === null || job.id > newest.id) newest = job;
    }
    const first = node.firstWaiting();
    if (newest !== null && isStarved) this.#evict(newest, holders === 1);
    else if (newest === null && first !== null) this.#evict(first, true);
    else return;
    this.#touch(node.vertex);
  }

  #evict(job: Job, isHopeless: boolean): void {
    job.epoch += 1;
    for (const node of this.nodes) node.forget(job);
    this.#release(job);
    if (isHopeless) {
      this.counts.dropped += 1;
      this.#readmit();
      return;
    }
    this.counts.evictions += 1;
    job.phase = "prompt";
    job.passTokens = job.promptTokens + job.produced;
    job.contextTokens = 0;
    job.way = [];
    // Sent again at once it would take the room that it was to make: it waits until something ended.
    this.#evicted.push(job);
  }

  #touch(vertex: number): void {
    if (this.#isDirty[vertex] === 1) return;
    this.#isDirty[vertex] = 1;
    this.#dirty.push(vertex);
  }
}
