/** Nodes without machines, each with one ready replica of a model that fits it: they take every message, and answer none. */
import type { ServedModel } from "../../src/coordinator/dispatch/served-models.ts";
import type { NodeView, Roster, RosterHandlers } from "../../src/coordinator/roster.ts";
import { assert } from "../../src/domain/assert.ts";
import type { NodeId } from "../../src/domain/ids.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { NodeFact } from "../../src/scheduler/placement/snapshot.ts";
import type { CoordinatorMessage } from "../../src/wire/agent-link.ts";
import { viewOf } from "./obedient-roster.ts";

export class ServingRoster implements Roster {
  version = 1;
  readonly #views: NodeView[];
  readonly #places: ReadonlyMap<NodeId, number>;
  readonly #handlers: RosterHandlers[] = [];

  constructor(drawn: { nodes: readonly NodeFact[]; models: readonly ServedModel[]; clock: Clock }) {
    const { nodes, models, clock } = drawn;
    this.#views = nodes.map((node, at) =>
      serving(viewOf({ ...node, state: "online", isYielding: false }, clock), { at, models }),
    );
    this.#places = new Map(nodes.map(({ nodeId }, at) => [nodeId, at]));
  }

  nodes(): readonly NodeView[] {
    return this.#views;
  }

  node(nodeId: NodeId): NodeView | null {
    return this.#views[this.#places.get(nodeId) ?? -1] ?? null;
  }

  send(_nodeId: NodeId, message: CoordinatorMessage): boolean {
    // As the real one: the frame is written at once.
    JSON.stringify(message);
    return true;
  }

  reportBreach(): void {
    assert(false, "nobody breaks the protocol here");
  }

  subscribe(handlers: RosterHandlers): void {
    this.#handlers.push(handlers);
  }

  allOnline(): void {
    for (const { nodeId } of this.#views) for (const handlers of this.#handlers) handlers.onOnline(nodeId);
  }

  /** A node falls silent, or is heard again. */
  changeOne(at: number): void {
    const view = this.#views[at];
    if (view === undefined) return;
    const isOnline = view.state === "online";
    this.#views[at] = { ...view, state: isOnline ? "suspect" : "online" };
    this.version += 1;
    for (const handlers of this.#handlers) {
      if (isOnline) handlers.onSuspect(view.nodeId);
      else handlers.onOnline(view.nodeId);
    }
  }
}

function serving(view: NodeView, { at, models }: { at: number; models: readonly ServedModel[] }): NodeView {
  const [device] = view.capabilities.devices;
  const model = models[at % models.length];
  if (device === undefined || model === undefined) return view;
  const report = {
    replicaId: `rep_${String(at).padStart(26, "0")}`,
    state: "ready" as const,
    progress: 1,
    slots: 16,
    slotsBusy: 0,
    queued: 0,
    contextTokens: 2_048,
    numericClass: "bench",
    memoryBytes: 0,
    weightsSha256: model.manifest.weightsSha256,
    deviceId: device.deviceId,
    failure: null,
  };
  return { ...view, replicas: [report] };
}
