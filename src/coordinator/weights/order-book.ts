/**
 * Which node may have which weights: those that the coordinator told it to load or to stage. To know a digest gives no right to the bytes.
 *
 * | event                                             | right                                                              |
 * | ------------------------------------------------- | ------------------------------------------------------------------ |
 * | `replica.load` or `weights.stage` is sent         | given; it outlasts the session, because a node that comes back goes on |
 * | the node reports a replica of public weights      | given: it may be from before the coordinator's restart             |
 * | the node reports a replica of private weights     | none, or to lie would be enough                                     |
 * | the coordinator starts again                      | read from the store when the node says something (`rights-store.ts`) |
 * | the operator removes the node                     | all taken                                                          |
 * | the model is removed from the grid                | all taken                                                          |
 */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";

/** Weights that one node may have; of more, the right given longest ago ends. Disks hold tens of models. */
const RIGHTS_PER_NODE_MAX = 256;
/** As many as nodes are followed elsewhere; of more, the node that was ordered longest ago loses its rights. */
const NODES_MAX = 100_000;

export class OrderBook {
  readonly #rights = new Map<NodeId, Set<Sha256Hex>>();

  has(nodeId: NodeId, weightsSha256: Sha256Hex): boolean {
    return this.#rights.get(nodeId)?.has(weightsSha256) === true;
  }

  /** In the order in which they were given. */
  of(nodeId: NodeId): readonly Sha256Hex[] {
    return [...(this.#rights.get(nodeId) ?? [])];
  }

  give(nodeId: NodeId, weightsSha256: Sha256Hex): void {
    const rights = this.#rights.get(nodeId) ?? new Set<Sha256Hex>();
    this.#rights.delete(nodeId);
    this.#rights.set(nodeId, rights);
    rights.delete(weightsSha256);
    rights.add(weightsSha256);
    dropOldest(rights, RIGHTS_PER_NODE_MAX);
    dropOldest(this.#rights, NODES_MAX);
  }

  takeFrom(nodeId: NodeId): void {
    this.#rights.delete(nodeId);
  }

  /** Models were removed: rights to their weights end. */
  forget(isServed: (weightsSha256: Sha256Hex) => boolean): void {
    for (const [nodeId, rights] of this.#rights) {
      for (const weightsSha256 of rights) if (!isServed(weightsSha256)) rights.delete(weightsSha256);
      if (rights.size === 0) this.#rights.delete(nodeId);
    }
  }
}

function dropOldest<K>(
  kept: { readonly size: number; keys(): Iterable<K>; delete(key: K): boolean },
  sizeMax: number,
): void {
  if (kept.size <= sizeMax) return;
  for (const oldest of kept.keys()) {
    kept.delete(oldest);
    return;
  }
}
