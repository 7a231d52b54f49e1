/** Turns an agent's replica reports into events: one when something changed, none when nothing did. */
import type { ReplicaReport } from "../../wire/agent-link.ts";
import type { AgentEvent } from "./agent-events.ts";

/** Progress is told in steps of this size, so that a log stays readable. */
const PROGRESS_STEP = 0.1;

export class ReplicaWatch {
  readonly #onEvent: (event: AgentEvent) => void;
  #last = new Map<string, string>();

  constructor(onEvent: (event: AgentEvent) => void) {
    this.#onEvent = onEvent;
  }

  look(replicas: readonly ReplicaReport[]): void {
    const next = new Map<string, string>();
    for (const replica of replicas) {
      const mark = markOf(replica);
      next.set(replica.replicaId, mark);
      const event = this.#last.get(replica.replicaId) === mark ? null : eventOf(replica);
      if (event !== null) this.#onEvent(event);
    }
    for (const replicaId of this.#last.keys()) {
      if (!next.has(replicaId)) this.#onEvent({ event: "unloaded", replicaId });
    }
    this.#last = next;
  }
}

function markOf({ state, progress }: ReplicaReport): string {
  return state === "loading" ? `loading ${Math.floor(progress / PROGRESS_STEP)}` : state;
}

function eventOf(replica: ReplicaReport): AgentEvent | null {
  const { replicaId, progress, slots, contextTokens, failure } = replica;
  switch (replica.state) {
    case "loading":
      return { event: "loading", replicaId, progress };
    case "ready":
      return { event: "serving", replicaId, slots, contextTokens };
    case "failed":
      return {
        event: "replica-failed",
        replicaId,
        cause: failure === null ? "no cause given" : `${failure.code}: ${failure.message}`,
      };
    case "draining":
    case "gone":
      return null;
  }
}
