/**
 * Turns what the roster tells into lives of nodes: up when a node takes work, left when its owner comes back or it is gone, unseen when
 * the operator drained it or this coordinator was away. A node that was up when the last coordinator stopped and is back within
 * `RETURN_MS` of this one's start has been up all along, as far as anybody can tell.
 */
import type { NodeId } from "../../domain/ids.ts";
import type { SurvivalModel, SurvivalNode, Transition } from "../../scheduler/forecast/survival-model.ts";
import type { NodeView, Roster } from "../roster.ts";

/** Agents come back within 10 s of a coordinator's start; slow ones have a minute. */
export const RETURN_MS = 60_000;
/** After a longer absence of the coordinator nobody knows what a node did meanwhile. */
export const ABSENCE_MS_MAX = 600_000;

export interface NodeWatchPorts {
  readonly roster: Pick<Roster, "node" | "subscribe">;
  readonly model: SurvivalModel;
  nowMs(): number;
}

export class NodeWatch {
  readonly #ports: NodeWatchPorts;
  /** Nodes that were up in the last life and have not come back yet, with when they were last counted. */
  readonly #awaited = new Map<string, SurvivalNode>();
  #isStopped = false;

  constructor(ports: NodeWatchPorts) {
    this.#ports = ports;
    ports.roster.subscribe({
      onOnline: (nodeId) => this.#tell(nodeId, "up"),
      onSuspect: () => undefined,
      onWithdrawn: (nodeId, why) => this.#tell(nodeId, why === "yield" ? "left" : "unseen"),
      onGone: (nodeId) => this.#tell(nodeId, "left"),
      onWork: () => undefined,
      onReplicas: () => undefined,
    });
  }

  /** Takes over the last life's nodes. Call once, before the registry accepts links. */
  resume(nodes: readonly SurvivalNode[], absentMs: number, savedAtMs: number): void {
    for (const node of nodes) {
      if (this.#ports.model.upSinceMs(node.nodeId) === null) continue;
      if (absentMs > ABSENCE_MS_MAX) this.#ports.model.observe(node, "unseen", savedAtMs);
      else this.#awaited.set(node.nodeId, node);
    }
  }

  /** Who did not come back in time was last seen when the state was saved. */
  giveUpWaiting(savedAtMs: number): void {
    for (const node of this.#awaited.values()) this.#ports.model.observe(node, "unseen", savedAtMs);
    this.#awaited.clear();
  }

  /** From here on links close because this coordinator stops, which says nothing of the nodes. */
  stop(): void {
    this.#isStopped = true;
  }

  #tell(nodeId: NodeId, transition: Transition): void {
    if (this.#isStopped) return;
    this.#awaited.delete(nodeId);
    const view = this.#ports.roster.node(nodeId);
    const node = view === null ? { nodeId, cohort: "", utcOffsetMinutes: 0 } : survivalNode(view);
    this.#ports.model.observe(node, transition, this.#ports.nowMs());
  }
}

/** Its largest device, and where its operator says it is: there its owner sleeps and works at the same hours as others. */
export function survivalNode({ nodeId, capabilities, region }: NodeView): SurvivalNode {
  const gpus = capabilities.devices.filter(({ kind }) => kind === "gpu").sort((a, b) => b.memoryBytes - a.memoryBytes);
  const [largest] = gpus;
  // Hours count from UTC: nodes tell no time zone, so a region's nodes share the shift that its factors learn.
  return { nodeId, cohort: `${region ?? ""} ${largest?.name ?? "cpu"}`.slice(0, 256), utcOffsetMinutes: 0 };
}
