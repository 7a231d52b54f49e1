/**
 * Where a lease could go: found in memory, held at once so that nobody else is sent there, and confirmed by the store, which
 * alone decides. Implemented over the matching index; the desk does not care how.
 */
import type { LeasePart } from "../../domain/durable-lease.ts";
import type { NodeId } from "../../domain/ids.ts";

export interface SlotMatcher<Ask> {
  /** Sorted by node id, each node once; null when nothing fits now. */
  find(ask: Ask, avoided: ReadonlySet<NodeId>): readonly LeasePart[] | null;
  /** Counts the slots as taken: found ones, and those of leases that an earlier life granted. */
  hold(parts: readonly LeasePart[]): void;
  release(parts: readonly LeasePart[]): void;
}
