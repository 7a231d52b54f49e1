/**
 * A synthetic pool for durable leases: nodes in 30 regions with 1 to 16 slots for one of 50 kinds of task, two in three of them
 * taking work, and asks with a kind, often a region and a price. No real pool was measured for it.
 */
import { IndexSlots } from "../../src/coordinator/leases/index-slots.ts";
import type { LeaseNode } from "../../src/domain/durable-lease.ts";
import { modelId, nodeId, replicaId } from "../../src/domain/ids.ts";
import { MatchIndex } from "../../src/scheduler/matching/match-index.ts";
import { type MatchRequest, UNCONSTRAINED } from "../../src/scheduler/matching/match-request.ts";
import type { SeededRandom } from "../../src/sim/time/random.ts";

const REGIONS = Array.from({ length: 30 }, (_, at) => `region-${at}`);
const KINDS = Array.from({ length: 50 }, (_, at) => modelId(`task-kind-${at}`));
const NODE_EPOCH = 1;
const GIB = 2 ** 30;

export interface LeasePool {
  readonly slots: IndexSlots;
  readonly offers: readonly Omit<LeaseNode, "slotsUsed">[];
  draw(random: SeededRandom): MatchRequest;
}

export function makeLeasePool(random: SeededRandom, nodes: number): LeasePool {
  const index = new MatchIndex();
  const slots = new IndexSlots(index);
  const offers = Array.from({ length: nodes }, (_, at) => {
    const id = nodeId(`node_${at.toString(16).padStart(32, "0")}`);
    const replica = replicaId(`rep_${String(at).padStart(26, "0")}`);
    const count = random.between(1, 16);
    index.upsertNode({
      nodeId: id,
      availability: random.chance(0.67) ? "takes-work" : "yielding",
      region: random.pick(REGIONS),
      owner: `owner-${random.between(0, nodes)}`,
      network: `network-${random.between(0, nodes)}`,
      gpuClass: `gpu-${random.between(0, 23)}`,
      vramUsableBytes: 24 * GIB,
      vramFreeBytes: 12 * GIB,
      trust: random.fraction(),
      priceMicroUsdPerHour: random.between(50_000, 2_000_000),
      rttMs: random.between(2, 120),
      decodeTokPerSecond: random.between(10, 200),
      stayChancePerHour: 0.5 + random.fraction() / 2,
      gramsCo2PerHour: random.between(10, 200),
    });
    index.upsertReplica({
      replicaId: replica,
      nodeId: id,
      modelId: random.pick(KINDS),
      isReady: true,
      slots: count,
      slotsLeased: 0,
      contextTokens: 8_192,
      layersCached: 1,
    });
    slots.offer({ nodeId: id, nodeEpoch: NODE_EPOCH, replicaId: replica });
    return { nodeId: id, nodeEpoch: NODE_EPOCH, slots: count };
  });
  return { slots, offers, draw: drawAsk };
}

function drawAsk(random: SeededRandom): MatchRequest {
  const regions = random.chance(0.5) ? [random.pick(REGIONS), random.pick(REGIONS)] : null;
  const priceMicroUsdPerHourMax = random.chance(0.3) ? random.between(500_000, 2_000_000) : Number.POSITIVE_INFINITY;
  return {
    modelId: random.pick(KINDS),
    tokensNeeded: 1_024,
    remainingMs: random.between(60_000, 3_600_000),
    excludedNodeIds: new Set(),
    hint: null,
    callerRegion: null,
    constraints: { ...UNCONSTRAINED, regions, priceMicroUsdPerHourMax },
    seed: random.between(0, 0x7fffffff),
  };
}
