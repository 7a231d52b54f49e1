/** Rights to weights, with what was kept of them over restarts (`order-book.ts` has the rules). */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import { OrderBook } from "./order-book.ts";
import { RightsStore, type RightsStorePorts } from "./rights-store.ts";

export interface NodeRightsPorts extends Pick<RightsStorePorts, "clock" | "log"> {
  /** Where rights outlast the coordinator; without it they do not. */
  readonly meta?: RightsStorePorts["meta"];
  readonly models: { byWeights(weightsSha256: Sha256Hex): object | null };
}

export class NodeRights {
  readonly #models: NodeRightsPorts["models"];
  readonly #orders = new OrderBook();
  readonly #store: RightsStore | null;
  /** Nodes in session whose kept rights are being read; null when they were. */
  readonly #reading = new Map<NodeId, Promise<void> | null>();

  constructor({ meta, models, clock, log }: NodeRightsPorts) {
    this.#models = models;
    this.#store =
      meta === undefined ? null : new RightsStore({ meta, clock, log }, (nodeId) => this.#orders.of(nodeId));
  }

  has(nodeId: NodeId, weightsSha256: Sha256Hex): boolean {
    return this.#orders.has(nodeId, weightsSha256);
  }

  give(nodeId: NodeId, weightsSha256: Sha256Hex): void {
    const isNew = !this.#orders.has(nodeId, weightsSha256);
    this.#orders.give(nodeId, weightsSha256);
    if (!isNew || this.#store === null) return;
    // What is kept is read before it is written over.
    const reading = this.read(nodeId);
    if (reading === null) this.#store.changed(nodeId);
    else void reading.then(() => this.#store?.changed(nodeId));
  }

  /** Resolves when what the node was ordered in earlier lives of the coordinator is known; null when it is already. */
  read(nodeId: NodeId): Promise<void> | null {
    const known = this.#reading.get(nodeId);
    if (known !== undefined) return known;
    if (this.#store === null) return null;
    const reading = this.#store.read(nodeId).then((kept) => {
      for (const weightsSha256 of [...kept, ...this.#orders.of(nodeId)]) {
        if (this.#models.byWeights(weightsSha256) !== null) this.#orders.give(nodeId, weightsSha256);
      }
      if (this.#reading.get(nodeId) === reading) this.#reading.set(nodeId, null);
    });
    this.#reading.set(nodeId, reading);
    return reading;
  }

  /** The node's session ended. Its rights stay, unless the operator removed it. */
  endSession(nodeId: NodeId, isRemoved: boolean): void {
    this.#reading.delete(nodeId);
    if (isRemoved) this.#orders.takeFrom(nodeId);
  }

  forgetModels(isServed: (weightsSha256: Sha256Hex) => boolean): void {
    this.#orders.forget(isServed);
  }

  stop(): void {
    this.#store?.stop();
  }
}
