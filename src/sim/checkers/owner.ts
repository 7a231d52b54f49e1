/**
 * Law 4: from the owner's signal to the memory being free at most `ownerYieldMsMax` pass, and nothing is loaded or run
 * again before the owner is away. A frozen machine does nothing, so its frozen time does not count.
 */
import type { Checker, EngineChange, Observation, Report } from "../observation.ts";

interface NodeState {
  readonly engines: Set<number>;
  /** Time at which the memory has to be free; null while the owner is away. */
  freeByMs: number | null;
  frozenSinceMs: number | null;
  isTold: boolean;
}

export class OwnerChecker implements Checker {
  readonly name = "owner";
  readonly #report: Report;
  readonly #ownerYieldMsMax: number;
  readonly #nodes = new Map<string, NodeState>();

  constructor(options: { report: Report; ownerYieldMsMax: number }) {
    this.#report = options.report;
    this.#ownerYieldMsMax = options.ownerYieldMsMax;
  }

  observe(observation: Observation, nowMs: number): void {
    switch (observation.kind) {
      case "owner": {
        const state = this.#node(observation.node);
        state.freeByMs = observation.isPresent ? nowMs + this.#ownerYieldMsMax : null;
        state.isTold = false;
        break;
      }
      case "engine":
        this.#engine(observation.node, observation.engine, observation.change);
        break;
      case "host": {
        const state = this.#node(observation.host);
        if (observation.change === "frozen") state.frozenSinceMs ??= nowMs;
        if (observation.change === "thawed") this.#thaw(state, nowMs);
        if (observation.change === "killed" || observation.change === "lost-power") {
          this.#thaw(state, nowMs);
          state.engines.clear();
        }
        break;
      }
    }
  }

  afterEvent(nowMs: number): void {
    for (const [node, state] of this.#nodes) {
      if (state.freeByMs === null || state.isTold || state.frozenSinceMs !== null) continue;
      if (nowMs <= state.freeByMs || state.engines.size === 0) continue;
      state.isTold = true;
      this.#break(
        `${state.engines.size} engines still run on ${node} ${this.#ownerYieldMsMax} ms after its owner came back`,
      );
    }
  }

  #engine(node: string, engine: number, change: EngineChange): void {
    const state = this.#node(node);
    switch (change.to) {
      case "loading":
        state.engines.add(engine);
        if (state.freeByMs !== null) this.#break(`engine ${engine} is loaded on ${node} while its owner is there`);
        break;
      case "gone":
        state.engines.delete(engine);
        break;
      case "busier":
        if (state.freeByMs !== null) this.#break(`engine ${engine} starts work on ${node} while its owner is there`);
        break;
      case "ready":
      case "idler":
        break;
    }
  }

  #thaw(state: NodeState, nowMs: number): void {
    if (state.frozenSinceMs === null) return;
    if (state.freeByMs !== null)
      state.freeByMs += nowMs - Math.max(state.frozenSinceMs, state.freeByMs - this.#ownerYieldMsMax);
    state.frozenSinceMs = null;
  }

  #node(name: string): NodeState {
    let state = this.#nodes.get(name);
    if (state === undefined) {
      state = { engines: new Set(), freeByMs: null, frozenSinceMs: null, isTold: false };
      this.#nodes.set(name, state);
    }
    return state;
  }

  #break(what: string): void {
    this.#report({ law: 4, what });
  }
}
