/**
 * Requests on their way: they arrive, wait for a way, take it, get on, lose it with a machine and go on elsewhere, and end once. What a
 * machine took with it is computed again on the next way: prompt and tokens so far.
 */
import { assert } from "../../../domain/assert.ts";
import { decideFailover } from "../../../scheduler/attempts/failover.ts";
import type { Fate, Fates } from "../scenario/fates.ts";
import type { RequestDraw, Scenario } from "../scenario/scenario.ts";
import { TIER_BOUNDS } from "../scenario/tier-bounds.ts";
import { cancel, type EventQueue } from "./event-queue.ts";
import { type GridNode, type Hop, hopLayers, type Running, type Stage } from "./grid-parts.ts";
import { bookPrefill, bucketOf, generatedBy, pathTokenMs } from "./request-progress.ts";
import { WaitingRoom } from "./waiting-room.ts";

/** Waiting requests that may be refused in a row before the rest is left for later. */
const OFFERS_REFUSED_MAX = 3;

export interface FlowOptions {
  readonly scenario: Scenario;
  readonly queue: EventQueue;
  readonly fates: Fates;
  readonly replaysLostStagesOnly: boolean;
  readonly route: (running: Running) => readonly Hop[] | null;
  /** A request left a stage. */
  readonly onReleased: (stage: Stage) => void;
  readonly hasReadyChain: (model: number) => boolean;
}

/** Why requests lost their way, and from when on they may have another. */
export interface Trouble {
  readonly kind: "node-gone" | "node-yielded";
  readonly noticedAtMs: number;
}

export class RequestFlow {
  readonly #options: FlowOptions;
  readonly #rooms: readonly WaitingRoom[];

  constructor(options: FlowOptions) {
    this.#options = options;
    this.#rooms = options.scenario.models.map(() => new WaitingRoom());
  }

  /** By model. */
  waiting(): readonly number[] {
    return this.#rooms.map(({ size }) => size);
  }

  arrive(draw: RequestDraw, number: number): void {
    const running = runningOf(draw, number);
    if (this.#start(running)) {
      this.#setPatience(running);
      return;
    }
    running.wasCold = !this.#options.hasReadyChain(draw.model);
    const room = this.#room(running);
    if (room.isFull) {
      this.#end(running, "refused");
      return;
    }
    room.add(running);
    this.#setPatience(running);
  }

  #setPatience(running: Running): void {
    running.giveUp = this.#options.queue.at(running.draw.atMs + TIER_BOUNDS[running.draw.tier].patienceMs, () => {
      const hasBegun = running.firstTokenAtMs !== null || running.path.length > 0 || running.troubles > 0;
      const wasOnItsWay = running.path.length > 0;
      this.#room(running).remove(running);
      this.#release(running);
      this.#end(running, hasBegun ? "failed" : "refused");
      if (wasOnItsWay) this.offer(running.draw.model);
    });
  }

  /** Something became free or ready: whoever waits for this model may try. */
  offer(model: number): void {
    const { nowMs } = this.#options.queue;
    this.#rooms[model]?.offer(nowMs, OFFERS_REFUSED_MAX, (running) => this.#start(running));
  }

  /** False when there is no way now. */
  #start(running: Running): boolean {
    const path = this.#options.route(running);
    if (path === null) return false;
    const { nowMs } = this.#options.queue;
    this.#checkPath(running, path);
    const kept = this.#options.replaysLostStagesOnly ? running.keptHops.map(({ stage }) => stage) : [];
    running.path = path;
    running.state = "prefilling";
    const need = kvNeed(running.draw);
    for (const { stage } of path) {
      stage.sequences.add(running);
      stage.kvTokens += need;
      stage.lastUsedAtMs = nowMs;
    }
    const atMs = bookPrefill(this.#options.scenario, running, {
      tokens: running.draw.promptTokens + running.generated,
      keptStages: new Set(kept),
      nowMs,
      holdUp: (node, ms) => this.#holdUp(node, running, ms),
    });
    for (const { stage } of path) this.#reload(stage);
    running.next = this.#options.queue.at(atMs, () => this.#firstToken(running));
    return true;
  }

  #checkPath(running: Running, path: readonly Hop[]): void {
    let at = 0;
    for (const hop of path) {
      const { stage, first } = hop;
      assert(stage.model === running.draw.model, "a path is of the model that was asked for");
      assert(stage.state === "ready" && !stage.isClosed && stage.node.isUp, "a path goes through what is ready");
      assert(first === at && first >= stage.first, "a path's stages follow on from each other");
      assert(stage.kvTokens + kvNeed(running.draw) <= stage.kvTokensMax, "a path has room for keys and values");
      at = stage.end;
    }
    assert(at === this.#options.scenario.models[running.draw.model]?.layerCount, "a path ends at the last layer");
  }

  /** Everybody who decodes on the machine waits for a part of the prompt. */
  #holdUp(node: GridNode, but: Running, ms: number): void {
    for (const stage of node.stages) {
      for (const one of stage.sequences) {
        if (one === but || one.state !== "decoding") continue;
        one.progressAtMs += ms;
        this.#scheduleFinish(one);
      }
    }
  }

  #firstToken(running: Running): void {
    const { nowMs } = this.#options.queue;
    running.firstTokenAtMs ??= nowMs;
    running.generated = Math.min(running.draw.outputTokens, running.generated + 1);
    running.state = "decoding";
    running.progressAtMs = nowMs;
    running.tokenMs = pathTokenMs(this.#options.scenario, running.path);
    this.#scheduleFinish(running);
  }

  #scheduleFinish(running: Running): void {
    cancel(running.next);
    const left = running.draw.outputTokens - running.generated;
    running.next = this.#options.queue.at(running.progressAtMs + left * running.tokenMs, () => this.#finish(running));
  }

  #finish(running: Running): void {
    running.generated = running.draw.outputTokens;
    const { path } = running;
    this.#release(running);
    running.path = path;
    this.#end(running, "answered");
    this.offer(running.draw.model);
  }

  #end(running: Running, fate: Fate): void {
    cancel(running.giveUp);
    cancel(running.next);
    this.#options.fates.end(running, fate, this.#options.queue.nowMs);
  }

  /** Gives back what it holds. */
  #release(running: Running): void {
    cancel(running.next);
    running.next = null;
    const { path } = running;
    running.path = [];
    const need = kvNeed(running.draw);
    for (const { stage } of path) {
      if (!stage.sequences.delete(running)) continue;
      stage.kvTokens -= need;
      if (stage.state !== "ready") continue;
      this.#reload(stage);
      this.#options.onReleased(stage);
    }
  }

  /** After a sequence came or went: where the step's size changed, everybody on the machine goes on at another speed. */
  #reload(stage: Stage): void {
    const bucket = bucketOf(stage.sequences.size);
    if (bucket === stage.bucket) return;
    const { node } = stage;
    node.busyStages += Number(bucket > 0) - Number(stage.bucket > 0);
    stage.bucket = bucket;
    for (const { sequences } of node.stages) for (const one of sequences) this.#changeSpeed(one);
  }

  #changeSpeed(one: Running): void {
    if (one.state !== "decoding") return;
    const { nowMs } = this.#options.queue;
    const tokenMs = pathTokenMs(this.#options.scenario, one.path);
    if (tokenMs === one.tokenMs) return;
    if (nowMs > one.progressAtMs) {
      const made = Math.min((nowMs - one.progressAtMs) / one.tokenMs, one.draw.outputTokens - one.generated);
      one.generated += made;
      one.progressAtMs = nowMs;
    }
    one.tokenMs = tokenMs;
    this.#scheduleFinish(one);
  }

  /** Takes requests off their paths, counts what has to be computed again, and lets them wait for another. */
  loseWay(running: readonly Running[], how: { isLost: (hop: Hop) => boolean; trouble: Trouble }): void {
    const { nowMs } = this.#options.queue;
    for (const one of running) {
      const layers = one.path.reduce((sum, hop) => sum + hopLayers(hop), 0);
      const lostLayers = one.path.reduce((sum, hop) => sum + (how.isLost(hop) ? hopLayers(hop) : 0), 0);
      const wasDecoding = one.state === "decoding";
      one.generated = Math.floor(generatedBy(one, nowMs));
      const share = this.#options.replaysLostStagesOnly ? lostLayers / layers : 1;
      if (wasDecoding) this.#options.fates.lost(share * (one.draw.promptTokens + one.generated));
      one.keptHops = one.path.filter((hop) => !how.isLost(hop));
      this.#release(one);
    }
    for (const one of running) this.#move(one, how.trouble);
  }

  #move(one: Running, trouble: Trouble): void {
    if (one.state === "ended") return;
    one.troubles += 1;
    one.state = "waiting";
    const decision = decideFailover(
      { kind: trouble.kind, detail: "churn" },
      { troubles: one.troubles, engineDeaths: 0, requestFaults: 0, retries: 0, chainChanges: 0 },
    );
    if (decision.kind === "give-up") {
      this.#end(one, "failed");
      return;
    }
    one.readyAtMs = trouble.noticedAtMs;
    this.#room(one).add(one);
    this.#options.queue.at(one.readyAtMs, () => this.offer(one.draw.model));
  }

  #room(running: Running): WaitingRoom {
    const room = this.#rooms[running.draw.model];
    assert(room !== undefined, "a request asks for a model of the grid");
    return room;
  }
}

/** Room for its prompt and the longest answer that it may get. */
export function kvNeed(draw: RequestDraw): number {
  return draw.promptTokens + draw.outputTokens;
}

function runningOf(draw: RequestDraw, number: number): Running {
  return {
    number,
    draw,
    state: "waiting",
    path: [],
    keptHops: [],
    generated: 0,
    firstTokenAtMs: null,
    progressAtMs: 0,
    tokenMs: 0,
    troubles: 0,
    readyAtMs: 0,
    next: null,
    giveUp: null,
    wasCold: false,
    endedAtMs: null,
  };
}
