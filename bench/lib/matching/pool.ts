/**
 * A synthetic pool of scheduling.md's shape, from a seed: 20 attributes, 24 GPU classes, 30 regions, 200 models of which each node holds
 * three (few of them are popular), 60 % online, and requests with hard constraints. No real pool was measured for it.
 */
import { type ModelId, modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../../src/domain/ids.ts";
import { MatchIndex } from "../../../src/scheduler/matching/match-index.ts";
import type { MatchConstraints, MatchRequest } from "../../../src/scheduler/matching/match-request.ts";
import type { NodeTraits } from "../../../src/scheduler/matching/node-table.ts";
import type { SeededRandom } from "../../../src/sim/time/random.ts";

const REGIONS_PER_CONTINENT = 5;
const CONTINENTS = 6;
const GPU_CLASSES = 24;
const MODELS = 200;
const MODELS_PER_NODE = 3;
const CONTEXTS = [4_096, 8_192, 16_384, 32_768] as const;
const GIB = 2 ** 30;

export const REGIONS: readonly string[] = Array.from({ length: REGIONS_PER_CONTINENT * CONTINENTS }, (_, at) => {
  return `continent-${Math.floor(at / REGIONS_PER_CONTINENT)}/region-${at % REGIONS_PER_CONTINENT}`;
});
const MODEL_IDS: readonly ModelId[] = Array.from({ length: MODELS }, (_, at) => modelId(`model-${at}`));

export interface PoolNode {
  readonly nodeId: NodeId;
  readonly rttMs: number;
}

export interface Pool {
  readonly index: MatchIndex;
  readonly nodes: readonly PoolNode[];
  readonly replicas: readonly ReplicaId[];
}

export function makePool(random: SeededRandom, nodeCount: number): Pool {
  const index = new MatchIndex();
  setDistances(index);
  const classes = Array.from({ length: GPU_CLASSES }, (_, at) => ({
    name: `gpu-${at}`,
    vramGiB: [8, 12, 16, 24, 32, 48, 80, 141][at % 8] ?? 8,
    tokPerSecond: 15 + 10 * at,
  }));
  const popularity = zipf(MODELS);
  const nodes: PoolNode[] = [];
  const replicas: ReplicaId[] = [];
  for (let at = 0; at < nodeCount; at++) {
    const gpu = random.pick(classes);
    const traits = drawNode(random, at, gpu);
    nodes.push({ nodeId: traits.nodeId, rttMs: traits.rttMs ?? 0 });
    index.upsertNode(traits);
    const models = new Set<number>();
    while (models.size < MODELS_PER_NODE) models.add(drawn(popularity, random.fraction()));
    for (const [order, model] of [...models].entries()) {
      const slots = random.between(1, 16);
      const id = replicaId(`rep_${String(replicas.length).padStart(26, "0")}`);
      replicas.push(id);
      index.upsertReplica({
        replicaId: id,
        nodeId: traits.nodeId,
        modelId: MODEL_IDS[model] ?? MODEL_IDS[0] ?? modelId("model-0"),
        isReady: true,
        slots,
        slotsLeased: Math.min(slots, Math.floor(random.fraction() * (slots + 1) * 0.9)),
        contextTokens: random.pick(CONTEXTS),
        layersCached: order === 0 ? 1 : random.between(0, 10) / 10,
      });
    }
  }
  return { index, nodes, replicas };
}

export function drawRequest(random: SeededRandom, pool: Pool): MatchRequest {
  const popularity = zipf(MODELS);
  const excluded = random.chance(0.05) ? [random.pick(pool.nodes).nodeId] : [];
  const hint = random.chance(0.2) ? { replicaId: random.pick(pool.replicas), promptShare: random.fraction() } : null;
  return {
    modelId: MODEL_IDS[drawn(popularity, random.fraction())] ?? modelId("model-0"),
    tokensNeeded: random.between(100, 12_000),
    // From an answer of five seconds to a batch task of four hours.
    remainingMs: 5_000 * 2_880 ** random.fraction(),
    excludedNodeIds: new Set(excluded),
    hint,
    callerRegion: random.pick(REGIONS),
    constraints: drawConstraints(random),
    seed: random.between(0, 2 ** 32 - 1),
  };
}

function drawConstraints(random: SeededRandom): MatchConstraints {
  const part = random.fraction();
  const continent = random.between(0, CONTINENTS - 1);
  const regions =
    part < 0.5 ? null : part < 0.8 ? REGIONS.slice(continent * 5, continent * 5 + 5) : [random.pick(REGIONS)];
  return {
    regions,
    trustMin: random.pick([0, 0, 0.5, 0.8]),
    priceMicroUsdPerHourMax: random.chance(0.5) ? random.between(60_000, 400_000) : Number.POSITIVE_INFINITY,
    rttMsMax: random.chance(0.3) ? 150 : Number.POSITIVE_INFINITY,
    decodeTokPerSecondMin: random.chance(0.3) ? 50 : 0,
    gpuClasses: random.chance(0.1) ? Array.from({ length: 8 }, (_, at) => `gpu-${at * 3}`) : null,
    excludedNetworks: new Set(),
    excludedOwners: random.chance(0.1) ? new Set([`owner-${random.between(0, 999)}`]) : new Set(),
  };
}

function drawNode(
  random: SeededRandom,
  at: number,
  gpu: { name: string; vramGiB: number; tokPerSecond: number },
): NodeTraits {
  const usable = gpu.vramGiB * GIB * (0.8 + 0.2 * random.fraction());
  return {
    nodeId: nodeId(`node_${at.toString(16).padStart(32, "0")}`),
    availability: random.chance(0.6) ? "takes-work" : "offline",
    region: random.pick(REGIONS),
    owner: `owner-${random.between(0, 4_999)}`,
    network: `network-${random.between(0, 1_999)}`,
    gpuClass: gpu.name,
    vramUsableBytes: usable,
    vramFreeBytes: usable * random.fraction(),
    trust: 1 - random.fraction() ** 3,
    priceMicroUsdPerHour: Math.round(gpu.tokPerSecond * 600 * (0.5 + random.fraction())),
    rttMs: 5 + random.gap(40),
    decodeTokPerSecond: gpu.tokPerSecond * (0.8 + 0.4 * random.fraction()),
    stayChancePerHour: 0.5 + 0.5 * random.fraction() ** 0.3,
    gramsCo2PerHour: random.between(20, 400),
  };
}

/** 5 ms at home, 20 to 60 within a continent, 80 to 280 between two. */
function setDistances(index: MatchIndex): void {
  for (const [a, from] of REGIONS.entries()) {
    for (const [b, to] of REGIONS.entries()) {
      const apart = Math.abs(Math.floor(a / REGIONS_PER_CONTINENT) - Math.floor(b / REGIONS_PER_CONTINENT));
      const rttMs = a === b ? 5 : apart === 0 ? 20 + 10 * Math.abs(a - b) : 80 + 40 * apart;
      index.setDistance({ from, to, rttMs });
    }
  }
}

let cumulative: readonly number[] = [];

/** Cumulative shares of ranks 1 to `count`, each as popular as its rank's inverse. */
function zipf(count: number): readonly number[] {
  if (cumulative.length === count) return cumulative;
  const weights = Array.from({ length: count }, (_, at) => 1 / (at + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  cumulative = weights.map((weight) => {
    sum += weight / total;
    return sum;
  });
  return cumulative;
}

function drawn(shares: readonly number[], draw: number): number {
  let at = 0;
  while (at < shares.length - 1 && (shares[at] ?? 1) < draw) at += 1;
  return at;
}
