/**
 * The waiting room: a bounded queue for each tier, priority before default before flex, and behind them one for background work; fair between
 * the tenants of a queue (fair-queue.ts). A request enters only if some node could ever run it; the caller checks that first (`capableNodes`).
 *
 * | who                                            | waits                                   | may be turned away            |
 * | ---------------------------------------------- | --------------------------------------- | ----------------------------- |
 * | a stream that lost its node                    | before everybody; background: first of its own | never                  |
 * | a stream that was preempted for a priority one | first of its tier, not before the tier above | never                    |
 * | a new request                                  | in its tier, by its tenant's share      | tier full, or tenant's part of it full |
 */
import { assert } from "../../domain/assert.ts";
import type { ModelId } from "../../domain/ids.ts";
import { SERVICE_TIERS, type ServiceTier } from "../../domain/tier.ts";
import { comesBefore, type FairEntry, FairQueue } from "./fair-queue.ts";

/** Waiting requests of one tier: at 64 slots and 2 s each, the last one waits half a minute. */
export const QUEUE_LENGTH_MAX = 1_024;
/** One tenant's part of a tier's queue, rounded up: others find room whatever one tenant sends. */
const TENANT_PART_MAX = 0.75;

export interface QueueEntry extends FairEntry {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  /** Behind every tier. */
  readonly isBackground?: boolean;
}

/** Queues in the order in which they are served. */
type Lane = ServiceTier | "background";
const LANES: readonly Lane[] = [...SERVICE_TIERS, "background"];

export type Entrance = "entered" | "tier-full" | "tenant-full";

interface TierQueue<Entry extends QueueEntry> {
  /** Streams that were preempted. */
  readonly resumed: Set<Entry>;
  readonly fair: FairQueue<Entry>;
}

export class WaitingRoom<Entry extends QueueEntry> {
  readonly #moved = new Set<Entry>();
  readonly #lanes: ReadonlyMap<Lane, TierQueue<Entry>>;
  readonly lengthMax: number;
  readonly tenantLengthMax: number;

  constructor(options: { lengthMax?: number; weightOf?: (tenantId: string) => number } = {}) {
    const { lengthMax = QUEUE_LENGTH_MAX, ...shares } = options;
    this.lengthMax = lengthMax;
    this.tenantLengthMax = Math.ceil(lengthMax * TENANT_PART_MAX);
    this.#lanes = new Map(LANES.map((lane) => [lane, { resumed: new Set(), fair: new FairQueue(shares) }]));
  }

  /** When it is not `entered` the caller refuses with `queue-full`. */
  enter(entry: Entry): Entrance {
    const entrance = this.entrance(entry);
    if (entrance === "entered") this.#lane(laneOf(entry)).fair.enter(entry);
    return entrance;
  }

  /** What `enter` would say. */
  entrance(entry: Entry): Entrance {
    const { fair } = this.#lane(laneOf(entry));
    if (fair.size >= this.lengthMax) return "tier-full";
    return fair.waitingOf(entry.tenantId) >= this.tenantLengthMax ? "tenant-full" : "entered";
  }

  /** A stream that already runs and lost its node. */
  enterMoved(entry: Entry): void {
    if (entry.isBackground === true) this.enterPreempted(entry);
    else this.#moved.add(entry);
  }

  /** A stream that already runs and gave its slot to a request of a higher tier. */
  enterPreempted(entry: Entry): void {
    this.#lane(laneOf(entry)).resumed.add(entry);
  }

  leave(entry: Entry): void {
    const { resumed, fair } = this.#lane(laneOf(entry));
    if (!this.#moved.delete(entry) && !resumed.delete(entry)) fair.leave(entry);
  }

  /** Normalised device-seconds that a tenant takes of a tier: expected ones at the start, the difference at the end. */
  charge(entry: Pick<QueueEntry, "tier" | "isBackground" | "tenantId">, deviceSeconds: number): void {
    this.#lane(laneOf(entry)).fair.charge(entry.tenantId, deviceSeconds);
  }

  /** A copy, in the order in which they are to be served. */
  inOrder(): readonly Entry[] {
    const order = byAge(this.#moved);
    for (const { resumed, fair } of this.#lanes.values()) order.push(...byAge(resumed), ...fair.inOrder());
    return order;
  }

  /** A copy, in no order that matters: cheaper than `inOrder`. */
  all(): readonly Entry[] {
    const all = [...this.#moved];
    for (const { resumed, fair } of this.#lanes.values()) all.push(...resumed, ...fair.entries());
    return all;
  }

  /** Who is served before a request that waits, or would now begin to; in no order that matters. */
  before(entry: Entry): readonly Entry[] {
    const ahead = [...this.#moved];
    for (const lane of LANES) {
      const { resumed, fair } = this.#lane(lane);
      ahead.push(...resumed);
      if (lane === laneOf(entry)) return [...ahead, ...fair.before(entry)];
      ahead.push(...fair.entries());
    }
    return ahead;
  }

  /** Whether anybody of this tier waits; background work has no tier here. */
  hasAny(tier: ServiceTier): boolean {
    const { resumed, fair } = this.#lane(tier);
    if (resumed.size + fair.size > 0) return true;
    for (const entry of this.#moved) if (entry.tier === tier) return true;
    return false;
  }

  get size(): number {
    let waiting = this.#moved.size;
    for (const { resumed, fair } of this.#lanes.values()) waiting += resumed.size + fair.size;
    return waiting;
  }

  #lane(lane: Lane): TierQueue<Entry> {
    const queue = this.#lanes.get(lane);
    assert(queue !== undefined, `${lane} has a queue`);
    return queue;
  }
}

function laneOf(entry: Pick<QueueEntry, "tier" | "isBackground">): Lane {
  return entry.isBackground === true ? "background" : entry.tier;
}

/** Higher tiers first, then the oldest. */
function byAge<Entry extends QueueEntry>(entries: ReadonlySet<Entry>): Entry[] {
  const rank = (entry: Entry) => SERVICE_TIERS.indexOf(entry.tier);
  return [...entries].sort((a, b) => rank(a) - rank(b) || (comesBefore(a, b) ? -1 : 1));
}
