/**
 * A grid whose model fits on no node: so many machines, each with room for its part of the layers, and sometimes one or two more. Beside it there may be
 * a small model that every machine holds whole.
 */
import type { NodeCapabilities } from "../../domain/hardware.ts";
import { COMPUTE_BYTES } from "../../scheduler/placement/slots.ts";
import { CONTEXT_TOKENS } from "../draw-grid.ts";
import type { LoadPlan, ModelDraw, RequestDraw } from "../load/load.ts";
import type { SeededRandom } from "../time/random.ts";

export interface ChainGrid {
  readonly stages: number;
  readonly nodes: number;
  /** Of every machine. */
  readonly memoryBytes: number;
  readonly reserveBytes: number;
  readonly model: ModelDraw;
  /** False: machines reach each other over the coordinator alone. */
  readonly isDirect: boolean;
}

const MEGABYTE = 1_048_576;
/** What a plan adds to the weights, and what rounding of layers takes. */
const ROOM_SLACK = 1.1;
export const STAGES_MAX = 5;
const SPARES_MAX = 2;
/** Of grids whose machines stand behind routers that let nobody in. */
const RELAYED_SHARE = 0.15;
/** Prompts and answers that are worth a chain's while, and leave time for many in a run. */
const PROMPT_TOKENS_MAX = 40;
const BALANCE_MICRO_USD = 1_000_000;
const DEADLINES_MS = [20_000, 30_000] as const;

export function drawChainGrid(random: SeededRandom): ChainGrid {
  const stages = random.between(2, STAGES_MAX);
  const layerCount = stages * random.between(1, 3) + random.between(0, 1);
  const layersMost = Math.ceil(layerCount / stages);
  const layerBytes = random.between(20, 60) * MEGABYTE;
  const slots = random.pick([4, 8, 16]);
  const kvBytesPerToken = layerCount * random.pick([512, 2_048]);
  const kvBytes = (kvBytesPerToken / layerCount) * layersMost * CONTEXT_TOKENS * slots;
  const usableBytes = Math.ceil((layersMost * layerBytes + kvBytes) * ROOM_SLACK + COMPUTE_BYTES);
  const reserveBytes = Math.floor(usableBytes * random.pick([0, 0.1]));
  return {
    stages,
    nodes: stages + random.between(0, SPARES_MAX),
    memoryBytes: usableBytes + reserveBytes,
    reserveBytes,
    isDirect: !random.fork("ways").chance(RELAYED_SHARE),
    model: {
      name: "sim-chained",
      warmReplicas: random.pick([0, 1, 1]),
      fileBytes: layerCount * layerBytes,
      layerCount,
      kvBytesPerToken,
      inputMicroUsdPerMtok: random.pick([50_000, 333_333]),
      outputMicroUsdPerMtok: random.pick([100_000, 1_234_567]),
    },
  };
}

/** The first of a plan's models becomes the chained one, all requests ask for it, and nobody asks for its embeddings. */
export function chainLoad(plan: LoadPlan, grid: ChainGrid, random: SeededRandom): LoadPlan {
  const shaped = (draw: RequestDraw): RequestDraw => ({
    ...draw,
    model: 0,
    promptTokenIds: draw.promptTokenIds.slice(0, PROMPT_TOKENS_MAX),
    tier: "default",
    deadlineMs: Math.max(draw.deadlineMs, random.pick(DEADLINES_MS)),
    regions: null,
  });
  const [probe] = plan.probes;
  return {
    ...plan,
    models: [grid.model],
    // Money is for other runs to be short of: here it would keep requests away from the chain.
    tenants: plan.tenants.map((tenant) => ({ ...tenant, balanceMicroUsd: BALANCE_MICRO_USD, budgetMicroUsd: null })),
    requests: plan.requests.map(shaped),
    embeddings: [],
    probes: probe === undefined ? [] : [shaped(probe)],
  };
}

export function chainCapabilities(grid: ChainGrid, random: SeededRandom): NodeCapabilities {
  const { memoryBytes, reserveBytes } = grid;
  return {
    platform: "sim",
    cpuModel: "sim",
    cpuCores: 4,
    memoryBytes,
    diskFreeBytes: 100 * 1_024 * MEGABYTE,
    devices: [
      {
        deviceId: "cpu",
        kind: "cpu",
        variant: "cpu",
        name: "sim device",
        memoryBytes,
        memoryFreeBytes: memoryBytes - reserveBytes,
        reserveBytes,
      },
    ],
    engineVariant: "cpu",
    engineVersion: "scripted",
    referenceSpeed: {
      prefillTokPerSecond: random.between(1_000, 5_000),
      decodeTokPerSecond: random.between(50, 200),
      measuredAtMs: 0,
    },
    servesStages: true,
  };
}
