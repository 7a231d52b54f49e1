/**
 * The waiting room: one bounded queue for each tier, first come first served within it, priority before default before flex.
 * Moved attempts (their stream already runs) wait before everybody else and are never turned away. A request enters only if
 * some node could ever run it; the caller checks that first (`capableNodes`).
 *
 * What a newcomer is told: the expected wait = requests before him × mean service time / slots of that model.
 * Not handled: fair shares between tenants, deadlines inside the queue order.
 */
import { assert } from "../../domain/assert.ts";
import type { ModelId } from "../../domain/ids.ts";
import { SERVICE_TIERS, type ServiceTier } from "../../domain/tier.ts";

/** Waiting requests of one tier: at 64 slots and 2 s each, the last one waits half a minute. */
export const QUEUE_LENGTH_MAX = 1_024;
/** Retry-After is at least a second and at most two minutes, however wrong the estimate is. */
const RETRY_AFTER_MIN_MS = 1_000;
const RETRY_AFTER_MAX_MS = 120_000;
/** Before any request of a model has ended. */
const SERVICE_GUESS_MS = 2_000;
/** Weight of the newest service time: the mean follows the last ten or so. */
const SERVICE_WEIGHT = 0.2;

export interface QueueEntry {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
}

export class WaitingRoom<Entry extends QueueEntry> {
  readonly #moved = new Set<Entry>();
  readonly #queues: ReadonlyMap<ServiceTier, Set<Entry>> = new Map(SERVICE_TIERS.map((tier) => [tier, new Set()]));
  readonly #lengthMax: number;

  constructor(options: { lengthMax?: number } = {}) {
    this.#lengthMax = options.lengthMax ?? QUEUE_LENGTH_MAX;
  }

  /** False when the tier's queue is full: the caller refuses with `queue-full`. */
  enter(entry: Entry): boolean {
    const queue = this.#queue(entry.tier);
    assert(!queue.has(entry), "an entry waits once");
    if (queue.size >= this.#lengthMax) return false;
    queue.add(entry);
    return true;
  }

  /** A stream that already runs and lost its node. */
  enterMoved(entry: Entry): void {
    this.#moved.add(entry);
  }

  leave(entry: Entry): void {
    this.#moved.delete(entry);
    this.#queue(entry.tier).delete(entry);
  }

  /** A copy, in the order in which they are to be served. */
  inOrder(): readonly Entry[] {
    return [...this.#moved, ...SERVICE_TIERS.flatMap((tier) => [...this.#queue(tier)])];
  }

  get size(): number {
    let waiting = this.#moved.size;
    for (const queue of this.#queues.values()) waiting += queue.size;
    return waiting;
  }

  #queue(tier: ServiceTier): Set<Entry> {
    const queue = this.#queues.get(tier);
    assert(queue !== undefined, `${tier} has a queue`);
    return queue;
  }
}

/** How long attempts of a model held their slot lately. */
export class ServiceTimes {
  readonly #meanMs = new Map<ModelId, number>();

  record(modelId: ModelId, heldMs: number): void {
    const before = this.#meanMs.get(modelId);
    this.#meanMs.set(modelId, before === undefined ? heldMs : before + SERVICE_WEIGHT * (heldMs - before));
  }

  /** When a request that is turned away may try again. */
  retryAfterMs(line: { modelId: ModelId; before: number; slots: number }): number {
    const meanMs = this.#meanMs.get(line.modelId) ?? SERVICE_GUESS_MS;
    const waitMs = ((line.before + 1) * meanMs) / Math.max(1, line.slots);
    return Math.round(Math.min(RETRY_AFTER_MAX_MS, Math.max(RETRY_AFTER_MIN_MS, waitMs)));
  }
}
