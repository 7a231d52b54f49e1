/** A drawn grid of unequal nodes and models, for benches of the planner: sizes and speeds as owners have them, no known cluster. */
import type { Device } from "../../src/domain/hardware.ts";
import { modelId, nodeId, sha256Hex } from "../../src/domain/ids.ts";
import type { ServiceTier } from "../../src/domain/tier.ts";
import type { DemandClass, PlannedModel } from "../../src/scheduler/placement/plan-question.ts";
import type { NodeFact } from "../../src/scheduler/placement/snapshot.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";

const GB = 1e9;
const REGIONS = ["eu", "us", "asia"];
const TIERS: readonly ServiceTier[] = ["priority", "default", "flex"];

export interface PlacementGrid {
  readonly nodes: readonly NodeFact[];
  readonly models: readonly PlannedModel[];
  readonly classes: readonly DemandClass[];
}

export function drawPlacementGrid(options: { nodes: number; models: number; seed: string }): PlacementGrid {
  const random = new SeededRandom(options.seed);
  const models = Array.from({ length: options.models }, (_, index) => drawModel(random, index));
  const nodes = Array.from({ length: options.nodes }, (_, index) => drawNode(random, index));
  return { nodes, models, classes: models.flatMap((model, rank) => drawDemand(random, model, rank)) };
}

function drawNode(random: SeededRandom, index: number): NodeFact {
  const gpuBytes = random.pick([0, 8, 12, 16, 24, 48]) * GB;
  const devices = [deviceOf("cpu", 16 * GB), ...(gpuBytes > 0 ? [deviceOf("gpu", gpuBytes)] : [])];
  return {
    nodeId: nodeId(`node_${index.toString(16).padStart(32, "0")}`),
    state: random.chance(0.97) ? "online" : "suspect",
    isYielding: random.chance(0.05),
    devices,
    decodeTokPerSecond: random.chance(0.1) ? null : random.between(500, 4_000),
    region: random.chance(0.2) ? null : random.pick(REGIONS),
    owner: `owner-${random.between(0, Math.ceil(index / 3) + 1)}`,
    network: `10.${random.between(0, 60)}.0`,
    trust: random.between(50, 100) / 100,
    priceMicroUsdPerHour: random.between(0, 200_000),
    gramsCo2PerHour: random.between(0, 200),
    stayChance: random.between(50, 100) / 100,
  };
}

function deviceOf(kind: "cpu" | "gpu", memoryBytes: number): Device {
  const deviceId = kind === "cpu" ? "cpu" : "cuda0";
  const variant = kind === "cpu" ? "cpu" : "cuda";
  const name = deviceId;
  return { deviceId, kind, variant, name, memoryBytes, memoryFreeBytes: memoryBytes, reserveBytes: memoryBytes / 8 };
}

function drawModel(random: SeededRandom, index: number): PlannedModel {
  const fileBytes = random.pick([0.6, 2, 4.5, 8, 14, 20, 38]) * GB;
  return {
    modelId: modelId(`model-${String(index).padStart(3, "0")}`),
    contextTokensMax: random.pick([4_096, 8_192, 32_768, 131_072]),
    layerCount: 32,
    embeddingLength: 4_096,
    warmReplicas: random.between(0, 2),
    valueMicroUsdPerMtok: random.between(100_000, 2_000_000),
    variants: [
      {
        quantisation: "Q4_K_M",
        weightsSha256: sha256Hex(index.toString(16).padStart(64, "0")),
        fileBytes,
        kvBytesPerToken: Math.round(fileBytes / 60_000),
        qualityPenalty: 0,
      },
    ],
  };
}

/** Few models take most of the demand, as in the traces: the rate falls as 1 / rank. */
function drawDemand(random: SeededRandom, { modelId: of }: PlannedModel, rank: number): readonly DemandClass[] {
  return TIERS.map((tier) => ({
    modelId: of,
    tier,
    region: random.chance(0.2) ? random.pick(REGIONS) : null,
    tokPerSecond: (random.between(200, 2_000) * 4) / (rank + 1),
    promptTokensMean: 750,
    outputTokensMean: 240,
    contextTokensNeeded: 2_000,
  }));
}
