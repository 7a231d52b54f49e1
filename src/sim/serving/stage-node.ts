/**
 * One node's work: it goes round its layers, and what waits before a layer when it comes there makes the batch. A batch takes as
 * many prompts and decode steps as the machine's bounds allow, first come, first served; a layer takes the profiled time of its
 * prompt tokens plus that of its decode steps. Copying what came in costs time at the first layer.
 *
 * Requests enter at the node's first layer or, in layouts with overlapping intervals, at a later one. Between two entries nobody
 * joins and nobody leaves, so such a run of layers (a segment) is simulated as one pass: exactly what layer after layer gives.
 *
 * KV room is taken as a pass starts. A prompt without room waits. A decode step without room is told to the caller, who evicts.
 */
import type { Curve } from "../../domain/cluster.ts";
import { interpolate } from "../../domain/cluster.ts";
import type { GraphNode } from "../../scheduler/routing/graph-parts.ts";
import type { Job } from "./job.ts";

/** Gathering the inputs of a batch and moving them to the GPU, bytes per second; from Helix's published simulator. */
const GATHER_BYTES_PER_SECOND = 4e9;
const UPLOAD_BYTES_PER_SECOND = 5e9;
/** A profile's table for decoding starts at 2 sequences; one alone takes as long as two. */
const LONE_DECODE_FACTOR = 2;

export interface Segment {
  readonly first: number;
  readonly layers: number;
  readonly queue: Job[];
}

export type StartResult = "started" | "idle" | "starved";

export class StageNode {
  readonly vertex: number;
  readonly profile: GraphNode;
  readonly segments: readonly Segment[];
  isBusy = false;
  batch: Job[] = [];
  batchEpochs: number[] = [];
  durationS = 0;
  kvUsed = 0;
  kvPeak = 0;
  promptTokensDone = 0;
  decodeStepsDone = 0;
  passesDone = 0;
  #current = 0;
  #arrivedTokens = 0;
  readonly #copySecondsPerToken: number;
  readonly #promptS: Float64Array;
  readonly #decodeS: Float64Array;

  constructor(vertex: number, profile: GraphNode, entryLayers: readonly number[], activationBytes: number) {
    this.vertex = vertex;
    this.profile = profile;
    const entries = [...new Set([profile.first, ...entryLayers])].sort((a, b) => a - b);
    this.segments = entries.map((first, at) => ({
      first,
      layers: (entries[at + 1] ?? profile.end) - first,
      queue: [],
    }));
    this.#copySecondsPerToken = activationBytes / GATHER_BYTES_PER_SECOND + activationBytes / UPLOAD_BYTES_PER_SECOND;
    this.#promptS = tabulate(profile.machine.promptSecondsPerLayer, profile.limits.promptTokensMax);
    this.#decodeS = tabulate(profile.machine.decodeSecondsPerLayer, profile.limits.decodeTokensMax);
    const lone = this.#decodeS[1];
    if (lone !== undefined) this.#decodeS[1] = lone * LONE_DECODE_FACTOR;
  }

  enter(job: Job, firstLayer: number): void {
    const segment = this.segments.find((each) => each.first === firstLayer) ?? this.segments[0];
    segment?.queue.push(job);
    this.#arrivedTokens += job.passTokens;
  }

  /** Takes a batch when the node is idle and something waits. "starved": only decode steps wait, and none has KV room. */
  start(): StartResult {
    if (this.isBusy) return "idle";
    let isStarved = false;
    const from = this.#current;
    for (let offset = 0; offset < this.segments.length; offset++) {
      const at = (from + offset) % this.segments.length;
      const segment = this.segments[at];
      if (segment === undefined || segment.queue.length === 0) continue;
      this.#current = at;
      const isDecodeWaiting = this.#take(segment);
      if (this.batch.length > 0) {
        this.isBusy = true;
        return "started";
      }
      isStarved ||= isDecodeWaiting;
    }
    return isStarved ? "starved" : "idle";
  }

  /** Ends the pass. Returns those that are through with the node; the others wait before the next segment. */
  finish(): readonly Job[] {
    const done: Job[] = [];
    const isLast = this.#current === this.segments.length - 1;
    const next = this.segments[this.#current + 1];
    for (const [at, job] of this.batch.entries()) {
      if (job.epoch !== this.batchEpochs[at]) continue;
      if (isLast || next === undefined) done.push(job);
      else next.queue.push(job);
    }
    this.isBusy = false;
    this.passesDone += 1;
    this.batch = [];
    this.batchEpochs = [];
    this.#turnTo((this.#current + 1) % this.segments.length);
    return done;
  }

  /** Takes an evicted job out of the queues. */
  forget(job: Job): void {
    for (const { queue } of this.segments) {
      const at = queue.indexOf(job);
      if (at >= 0) queue.splice(at, 1);
    }
  }

  freeKv(tokenLayers: number): void {
    this.kvUsed -= tokenLayers;
  }

  firstWaiting(): Job | null {
    return this.segments.find(({ queue }) => queue.length > 0)?.queue[0] ?? null;
  }

  get waiting(): number {
    return this.segments.reduce((sum, { queue }) => sum + queue.length, 0);
  }

  /** The first segment from `from` on, round the layers, before which somebody waits; stays where it is when nobody does. */
  #turnTo(from: number): void {
    const count = this.segments.length;
    for (let offset = 0; offset < count; offset++) {
      const at = (from + offset) % count;
      if ((this.segments[at]?.queue.length ?? 0) > 0) {
        this.#current = at;
        return;
      }
    }
  }

  /** Fills `batch`; true when decode steps waited and none of them had KV room. */
  #take(segment: Segment): boolean {
    const { limits, kvTokenLayers } = this.profile;
    let prompts = 0;
    let promptTokens = 0;
    let steps = 0;
    let context = 0;
    let isDecodeWaiting = false;
    let kept = 0;
    const { queue } = segment;
    for (const job of queue) {
      const wanted = job.passTokens * segment.layers;
      const hasRoom = this.kvUsed + wanted <= kvTokenLayers;
      let isTaken: boolean;
      if (job.phase === "prompt") {
        // A restarted request may be longer than the bound: it goes alone.
        isTaken =
          hasRoom &&
          prompts < limits.promptRequestsMax &&
          (promptTokens + job.passTokens <= limits.promptTokensMax || prompts === 0);
        if (isTaken) {
          prompts += 1;
          promptTokens += job.passTokens;
        }
      } else {
        isDecodeWaiting = true;
        isTaken =
          hasRoom && steps < limits.decodeTokensMax && context + job.contextTokens <= limits.decodeContextTokensMax;
        if (isTaken) {
          steps += 1;
          context += job.contextTokens;
        }
      }
      if (!isTaken) {
        queue[kept] = job;
        kept += 1;
        continue;
      }
      this.batch.push(job);
      this.batchEpochs.push(job.epoch);
      this.kvUsed += wanted;
      job.kvHeld[job.hop] = (job.kvHeld[job.hop] ?? 0) + wanted;
    }
    queue.length = kept;
    if (this.kvUsed > this.kvPeak) this.kvPeak = this.kvUsed;
    this.#countPass(segment, promptTokens, steps);
    return isDecodeWaiting;
  }

  #countPass(segment: Segment, promptTokens: number, steps: number): void {
    if (this.batch.length === 0) return;
    this.durationS =
      segment.layers *
      (secondsAt(this.#promptS, this.profile.machine.promptSecondsPerLayer, promptTokens) +
        (this.#decodeS[steps] ?? 0));
    if (segment.first === this.profile.first) {
      this.durationS += this.#arrivedTokens * this.#copySecondsPerToken;
      this.#arrivedTokens = 0;
    }
    if (segment.first + segment.layers === this.profile.end) {
      this.promptTokensDone += promptTokens;
      this.decodeStepsDone += steps;
    }
  }
}

function tabulate(curve: Curve, most: number): Float64Array {
  return Float64Array.from({ length: most + 1 }, (_, at) => (at === 0 ? 0 : interpolate(curve, at)));
}

function secondsAt(table: Float64Array, curve: Curve, at: number): number {
  return table[at] ?? interpolate(curve, at);
}
