/**
 * What goes wrong with the stages of a chain, drawn from a run's seed: the faults that strike any node, and those that only stages have. A run has a few
 * kinds of them, so that some meet each other and most meet a chain that works.
 */
import { CALM_NETWORK } from "../network/packet-network.ts";
import { CALM_STORE } from "../store/chaotic-store.ts";
import { PERFECT_CLOCK } from "../time/clock.ts";
import type { SeededRandom } from "../time/random.ts";
import type { FaultEvent, FaultKind, FaultPlan, NodeFaults } from "./faults.ts";
import { NOWHERE } from "./places.ts";

/**
 * | kind            | what it does                                                                                             |
 * | --------------- | -------------------------------------------------------------------------------------------------------- |
 * | stage-slow      | a node's stages take many times as long                                                                    |
 * | stage-nan       | what a node's stages put out holds what is no number, and its engine does not notice                       |
 * | stage-stall     | a node's stages take what comes, show that they live, and do nothing                                       |
 * | stage-cut       | a node's connections with other nodes are reset                                                            |
 * | stage-partition | no packet passes between two nodes; over the coordinator they may still meet                               |
 * | stage-apart     | two nodes cannot reach each other in any way                                                               |
 */
export const STAGE_FAULT_KINDS = [
  "stage-slow",
  "stage-nan",
  "stage-stall",
  "stage-cut",
  "stage-partition",
  "stage-apart",
] as const;
export type StageFaultKind = (typeof STAGE_FAULT_KINDS)[number];

interface Timing {
  readonly leastMs: number;
  readonly mostMs: number;
  readonly of: "node" | "grid";
}

/** How long each lasts; 0 for what repairs itself. */
const KINDS = {
  crash: { leastMs: 300, mostMs: 9_000, of: "node" },
  power: { leastMs: 1_000, mostMs: 12_000, of: "node" },
  freeze: { leastMs: 200, mostMs: 9_000, of: "node" },
  "engine-crash": { leastMs: 0, mostMs: 0, of: "node" },
  "engine-hang": { leastMs: 0, mostMs: 0, of: "node" },
  owner: { leastMs: 500, mostMs: 9_000, of: "node" },
  drain: { leastMs: 1_000, mostMs: 9_000, of: "node" },
  partition: { leastMs: 200, mostMs: 9_000, of: "node" },
  "one-way-partition": { leastMs: 200, mostMs: 9_000, of: "node" },
  clog: { leastMs: 50, mostMs: 3_000, of: "node" },
  "coordinator-crash": { leastMs: 50, mostMs: 3_000, of: "grid" },
  "coordinator-freeze": { leastMs: 50, mostMs: 4_000, of: "grid" },
  "wall-step": { leastMs: 0, mostMs: 0, of: "node" },
  "stage-slow": { leastMs: 500, mostMs: 8_000, of: "node" },
  "stage-nan": { leastMs: 200, mostMs: 3_000, of: "node" },
  "stage-stall": { leastMs: 500, mostMs: 9_000, of: "node" },
  "stage-cut": { leastMs: 0, mostMs: 0, of: "node" },
  "stage-partition": { leastMs: 300, mostMs: 8_000, of: "node" },
  "stage-apart": { leastMs: 300, mostMs: 8_000, of: "node" },
} as const satisfies Partial<Record<FaultKind, Timing>>;
export type ChainFaultKind = keyof typeof KINDS;

const EVENT_KINDS: readonly ChainFaultKind[] = [
  "crash",
  "power",
  "freeze",
  "engine-crash",
  "engine-hang",
  "owner",
  "drain",
  "partition",
  "one-way-partition",
  "clog",
  "coordinator-crash",
  "coordinator-freeze",
  "wall-step",
  "stage-slow",
  "stage-nan",
  "stage-cut",
  "stage-partition",
  "stage-apart",
  "stage-stall",
];
/** Conditions that hold for the whole run, each in one run of so many. */
const CONDITIONS = ["bad-network", "clock-drift", "slow-node", "load-failure"] as const satisfies readonly FaultKind[];
const CONDITION_ONE_IN = 6;
const KINDS_MAX = 3;
const EVENTS_MAX = 5;
const WALL_STEP_MAX_MS = 3_600_000;

export function drawChainFaults(options: {
  readonly random: SeededRandom;
  readonly nodes: number;
  readonly startMs: number;
  readonly durationMs: number;
  /** Only these kinds; none for an empty list. */
  readonly only?: readonly FaultKind[] | undefined;
}): FaultPlan {
  const { random, nodes, startMs } = options;
  const faultsEndMs = startMs + options.durationMs;
  const drawn = options.only ?? [...drawKinds(random.fork("kinds")), ...drawConditions(random.fork("conditions"))];
  const has = (kind: FaultKind) => drawn.includes(kind);
  const clockOf = (clock: SeededRandom) => {
    const monoOffsetMs = clock.between(0, 10_000_000);
    return { ...PERFECT_CLOCK, monoOffsetMs, rate: has("clock-drift") ? 1 + clock.pick([-0.0005, 0, 0.0005]) : 1 };
  };
  const network = random.fork("network");
  const struck = EVENT_KINDS.filter(has);
  return {
    kinds: drawn,
    faultsEndMs,
    network: has("bad-network")
      ? { ...CALM_NETWORK, delayMinMs: network.pick([2, 10, 20]), delayTailMeanMs: 4, lossProbability: 0.01 }
      : { ...CALM_NETWORK, delayMinMs: network.pick([0.2, 0.2, 5]) },
    store: CALM_STORE,
    coordinatorClock: clockOf(random.fork("clock/coordinator")),
    nodes: Array.from({ length: nodes }, (_, index): NodeFaults => {
      const own = random.fork(`node/${index}`);
      return {
        clock: clockOf(random.fork(`clock/${index}`)),
        slowness: has("slow-node") ? own.pick([1, 1, 2, 4]) : 1,
        lies: [],
        loadFailureProbability: has("load-failure") ? own.pick([0, 0.2, 0.5]) : 0,
        weightsFaults: { probability: 0, kinds: ["weights-unreachable"] },
        place: NOWHERE,
        diskBytes: null,
        // A position takes 16 bytes: a sequence of some dozen positions is forgotten, or written to disk.
        activationBytesMax: own.pick([null, null, 1_024]),
        spills: own.chance(0.5),
      };
    }),
    events: drawEvents(struck, random.fork("events"), { nodes, startMs, faultsEndMs }),
  };
}

function drawKinds(random: SeededRandom): readonly ChainFaultKind[] {
  const count = random.between(1, KINDS_MAX);
  return [...new Set(Array.from({ length: count }, () => random.pick(EVENT_KINDS)))];
}

function drawConditions(random: SeededRandom): readonly FaultKind[] {
  return CONDITIONS.filter(() => random.chance(1 / CONDITION_ONE_IN));
}

function drawEvents(
  kinds: readonly ChainFaultKind[],
  random: SeededRandom,
  of: { nodes: number; startMs: number; faultsEndMs: number },
): readonly FaultEvent[] {
  if (kinds.length === 0) return [];
  const events = Array.from({ length: Math.max(kinds.length, random.between(1, EVENTS_MAX)) }, (_, at): FaultEvent => {
    // Each kind strikes once at least.
    const kind = kinds[at] ?? random.pick(kinds);
    const { leastMs, mostMs, of: whom } = KINDS[kind];
    const atMs = random.between(of.startMs, of.faultsEndMs - 1);
    const node = random.between(0, of.nodes - 1);
    return {
      kind,
      atMs,
      durationMs: Math.min(random.between(leastMs, mostMs), of.faultsEndMs - atMs),
      node: whom === "grid" ? null : node,
      other: (node + random.between(1, Math.max(1, of.nodes - 1))) % of.nodes,
      coin: random.chance(0.3),
      stepMs: random.between(-WALL_STEP_MAX_MS, WALL_STEP_MAX_MS),
    };
  });
  return events.sort((a, b) => a.atMs - b.atMs || (a.kind < b.kind ? -1 : 1));
}
