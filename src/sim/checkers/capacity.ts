/**
 * Law 3: what is planned on a device, and what runs on it, never exceeds its usable memory; no replica has more leases than
 * slots, and a node that drains gets nothing new. Memory is counted by the least that it can be, weights and KV cache of all slots, so that a planner which is
 * more careful than this is right as well.
 *
 * Machines of the simulator have one device each. A replica counts from the order to load it until the order to unload it, its own word that it failed or is gone, or the
 * death of its process. A lease counts until an end, failure or cancellation of it passed the wire, or its link closed.
 */
import type { CoordinatorMessage, ReplicaLoad, ReplicaReport } from "../../wire/agent-link.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { Checker, EngineChange, Observation, Report } from "../observation.ts";

export interface CapacityOptions {
  readonly report: Report;
  readonly usableBytes: (node: string) => number;
  /** As the model's file says, whatever the planner believes. */
  readonly sizeOf: (modelId: string) => {
    readonly fileBytes: number;
    readonly kvBytesPerToken: number;
    readonly layerCount: number;
  };
}

interface NodeBooks {
  /** Bytes of each replica. */
  readonly planned: Map<string, number>;
  /** Of each replica that was ever ordered: the coordinator may not know yet that its process died. */
  readonly slots: Map<string, number>;
  /** Replicas that the node has mentioned. */
  readonly seen: Set<string>;
  readonly engines: Map<number, { readonly bytes: number }>;
  /** Of each stage's chain, the newest. */
  readonly epochs: Map<string, number>;
  /** Lease by id, with its replica. */
  readonly leases: Map<string, string>;
  isDraining: boolean;
}

export class CapacityChecker implements Checker {
  readonly name = "capacity";
  readonly #options: CapacityOptions;
  readonly #nodes = new Map<string, NodeBooks>();

  constructor(options: CapacityOptions) {
    this.#options = options;
  }

  observe(observation: Observation): void {
    switch (observation.kind) {
      case "order":
        this.#ordered(observation.node, observation.message);
        break;
      case "message": {
        const { message, node } = observation;
        const books = this.#books(node);
        if (message.type === "attempt.end" || message.type === "attempt.failed") this.#ended(books, message.leaseId);
        if (message.type === "heartbeat") this.#listed(node, message.replicas);
        if (message.type === "hello") this.#returned(node, message.replicas);
        if (message.type === "replica.state") this.#reported(node, [message.replica]);
        break;
      }
      case "link-closed":
        if (observation.at === "coordinator") this.#closed(observation.peer);
        break;
      case "host":
        if (observation.change === "killed" || observation.change === "lost-power") this.#died(observation.host);
        break;
      case "engine":
        this.#engine(observation.node, observation.engine, observation.change);
        break;
    }
  }

  /** A lease on a chain is at its first and its last stage: the last one's word ends it at both. */
  #ended(books: NodeBooks, leaseId: string): void {
    if (!books.leases.delete(leaseId)) return;
    for (const { leases } of this.#nodes.values()) leases.delete(leaseId);
  }

  /** A drain is told again on the next link, when it still holds. */
  #closed(node: string): void {
    const books = this.#books(node);
    books.leases.clear();
    books.isDraining = false;
  }

  #ordered(node: string, message: CoordinatorMessage): void {
    const books = this.#books(node);
    if (message.type === "node.drain") books.isDraining = message.isDraining;
    if (books.isDraining && (message.type === "replica.load" || message.type === "attempt.start")) {
      this.#break(`${node} drains and got a new ${message.type}`);
    }
    if (message.type === "replica.load") this.#planned(node, message);
    if (message.type === "replica.unload") books.planned.delete(message.replicaId);
    if (message.type === "attempt.cancel") books.leases.delete(message.leaseId);
    if (message.type === "chain.set") this.#chained(books, message);
    if (message.type !== "attempt.start") return;
    books.leases.set(message.leaseId, message.replicaId);
    const slots = books.slots.get(message.replicaId);
    if (slots === undefined) {
      this.#break(`${message.leaseId} is for ${message.replicaId}, which was never planned on ${node}`);
      return;
    }
    const leased = [...books.leases.values()].filter((replica) => replica === message.replicaId).length;
    if (leased > slots) this.#break(`${message.replicaId} on ${node} has ${leased} leases and ${slots} slots`);
  }

  /** With a new epoch of a chain all that ran on it is over. */
  #chained({ leases, epochs }: NodeBooks, { replicaId, chainEpoch }: ChainSet): void {
    if (chainEpoch <= (epochs.get(replicaId) ?? -1)) return;
    epochs.set(replicaId, chainEpoch);
    for (const [leaseId, replica] of [...leases]) if (replica === replicaId) leases.delete(leaseId);
  }

  #planned(node: string, order: ReplicaLoad): void {
    const { planned, slots } = this.#books(node);
    const { fileBytes, kvBytesPerToken, layerCount } = this.#options.sizeOf(order.modelId);
    const whole = fileBytes + kvBytesPerToken * order.contextTokens * order.sequencesMax;
    const bytes = order.stage === undefined ? whole : Math.floor((whole * order.stage.count) / layerCount);
    planned.set(order.replicaId, bytes);
    slots.set(order.replicaId, order.sequencesMax);
    let total = 0;
    for (const planBytes of planned.values()) total += planBytes;
    const usable = this.#options.usableBytes(node);
    if (total > usable) this.#break(`${total} bytes are planned on ${node}, ${usable} are usable`);
  }

  /** A heartbeat lists everything that runs: what was listed before and is not any more is gone. */
  #listed(node: string, replicas: readonly ReplicaReport[]): void {
    const { planned, seen } = this.#books(node);
    const running = new Set(replicas.map(({ replicaId }) => replicaId));
    for (const replicaId of planned.keys()) {
      if (seen.has(replicaId) && !running.has(replicaId)) planned.delete(replicaId);
    }
    this.#reported(node, replicas);
  }

  #reported(node: string, replicas: readonly ReplicaReport[]): void {
    const { planned, seen } = this.#books(node);
    for (const { replicaId, state } of replicas) {
      seen.add(replicaId);
      if (state === "failed" || state === "gone") planned.delete(replicaId);
    }
  }

  /** On a new link a node says what it runs; orders that were on their way on the old one never reached it. */
  #returned(node: string, replicas: readonly ReplicaReport[]): void {
    const { planned } = this.#books(node);
    const running = new Set(replicas.map(({ replicaId }) => replicaId));
    for (const replicaId of planned.keys()) if (!running.has(replicaId)) planned.delete(replicaId);
    this.#reported(node, replicas);
  }

  #died(node: string): void {
    if (node === "coordinator") {
      for (const name of this.#nodes.keys()) this.#closed(name);
      return;
    }
    const books = this.#books(node);
    books.planned.clear();
    books.engines.clear();
    books.leases.clear();
  }

  #engine(node: string, engine: number, change: EngineChange): void {
    const { engines } = this.#books(node);
    if (change.to === "gone") engines.delete(engine);
    if (change.to !== "loading") return;
    engines.set(engine, { bytes: change.memoryBytes });
    let total = 0;
    for (const { bytes } of engines.values()) total += bytes;
    const usable = this.#options.usableBytes(node);
    if (total > usable) this.#break(`engines on ${node} take ${total} bytes, ${usable} are usable`);
  }

  #books(node: string): NodeBooks {
    let books = this.#nodes.get(node);
    if (books === undefined) {
      books = {
        planned: new Map(),
        slots: new Map(),
        seen: new Set(),
        engines: new Map(),
        leases: new Map(),
        epochs: new Map(),
        isDraining: false,
      };
      this.#nodes.set(node, books);
    }
    return books;
  }

  #break(what: string): void {
    this.#options.report({ law: 3, what });
  }
}
