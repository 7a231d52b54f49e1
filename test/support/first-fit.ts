/** The first nodes with room, by number: what a matcher of the lease desk must be, and no more. */
import type { LeaseAsk } from "../../src/coordinator/leases/lease-desk.ts";
import type { SlotMatcher } from "../../src/coordinator/leases/slot-matcher.ts";
import type { LeasePart } from "../../src/domain/durable-lease.ts";
import type { NodeId } from "../../src/domain/ids.ts";
import { offers } from "./store-contract-leases.ts";

export interface GangAsk extends LeaseAsk {
  /** Slots on so many nodes, one each. */
  readonly nodes: number;
}

export class FirstFit implements SlotMatcher<GangAsk> {
  readonly #free = new Map<NodeId, number>();

  constructor(nodes: number, slots: number) {
    for (const { nodeId } of offers(nodes, slots)) this.#free.set(nodeId, slots);
  }

  find(ask: GangAsk, avoided: ReadonlySet<NodeId>): readonly LeasePart[] | null {
    const open = [...this.#free].filter(([nodeId, free]) => free > 0 && !avoided.has(nodeId));
    if (open.length < ask.nodes) return null;
    return open.slice(0, ask.nodes).map(([nodeId]) => ({ nodeId, nodeEpoch: 1, slots: 1 }));
  }

  hold(parts: readonly LeasePart[]): void {
    for (const { nodeId, slots } of parts) this.#free.set(nodeId, (this.#free.get(nodeId) ?? 0) - slots);
  }

  release(parts: readonly LeasePart[]): void {
    for (const { nodeId, slots } of parts) this.#free.set(nodeId, (this.#free.get(nodeId) ?? 0) + slots);
  }

  free(): readonly number[] {
    return [...this.#free.values()];
  }
}
