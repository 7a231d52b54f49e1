/**
 * What goes wrong in a run, drawn from its seed before it starts. Each kind of fault is switched on or off by the seed
 * (swarm testing: runs with few kinds reach states that runs with all kinds never do), and so is how often it strikes.
 * Everything ends at `faultsEndMs`; what was broken is repaired then, and the checkers ask for answers. Node 0 never lies,
 * so that there is somebody left to answer.
 */
import { assert } from "../../domain/assert.ts";
import type { WeightsFault } from "../engine/sim-weights.ts";
import { CALM_NETWORK, type NetworkConditions } from "../network/packet-network.ts";
import { CALM_STORE, type StoreConditions } from "../store/chaotic-store.ts";
import { type ClockFaults, PERFECT_CLOCK } from "../time/clock.ts";
import type { SeededRandom } from "../time/random.ts";
import type { StageFaultKind } from "./chain-faults.ts";
import { type ChurnSeries, drawOwnerWeek, drawSpot } from "./churn-events.ts";
import { LIES, type Lie } from "./lies.ts";
import { drawPlace, NOWHERE, type Place } from "./places.ts";

/** New kinds go to the end, so that a seed goes on drawing the others as it did. */
export const FAULT_KINDS = [
  "crash",
  "power",
  "freeze",
  "engine-crash",
  "engine-hang",
  "load-failure",
  "weights-failure",
  "owner",
  "partition",
  "one-way-partition",
  "clog",
  "bad-network",
  "coordinator-crash",
  "coordinator-freeze",
  "slow-store",
  "failing-store",
  "clock-drift",
  "wall-step",
  "slow-node",
  "lies",
  "drain",
  "owner-week",
  "spot",
  "regions",
  "small-disk",
] as const;
/** Those of `faults/chain-faults.ts` strike where there are chains. */
export type FaultKind = (typeof FAULT_KINDS)[number] | StageFaultKind;

export const NODES_MAX = 8;

/** A fault with a time. `durationMs` is how long until it is repaired; 0 for what repairs itself. */
export interface FaultEvent {
  readonly kind: FaultKind;
  readonly atMs: number;
  readonly durationMs: number;
  /** Index of the node; null when it strikes the coordinator or the network as a whole. */
  readonly node: number | null;
  /** Of the node from which it is cut, for faults between two. */
  readonly other?: number;
  /** One bit more: the cache of weights is lost as well; the coordinator loses its power; which way is cut. */
  readonly coin: boolean;
  /** `wall-step`: how far. */
  readonly stepMs: number;
}

export interface NodeFaults {
  readonly clock: ClockFaults;
  /** 1 is as fast as drawn; 10 takes ten times as long for a token. */
  readonly slowness: number;
  readonly lies: readonly Lie[];
  readonly loadFailureProbability: number;
  readonly weightsFaults: { readonly probability: number; readonly kinds: readonly WeightsFault[] };
  readonly place: Place;
  /** Null: the disk is never full. */
  readonly diskBytes: number | null;
  /** What a stage keeps in memory of what it sent; null: as much as usual. */
  readonly activationBytesMax: number | null;
  /** Beyond that it writes to its disk; else it forgets. */
  readonly spills: boolean;
}

export interface FaultPlan {
  readonly kinds: readonly FaultKind[];
  readonly faultsEndMs: number;
  readonly network: NetworkConditions;
  readonly store: StoreConditions;
  readonly coordinatorClock: ClockFaults;
  readonly nodes: readonly NodeFaults[];
  /** By time. */
  readonly events: readonly FaultEvent[];
}

/** Faults that strike at times, with the mean gap between two and how long each lasts, in milliseconds. */
const TIMED: Readonly<
  Partial<Record<FaultKind, { gapMs: number; leastMs: number; mostMs: number; of: "node" | "grid" }>>
> = {
  crash: { gapMs: 9_000, leastMs: 300, mostMs: 9_000, of: "node" },
  power: { gapMs: 14_000, leastMs: 1_000, mostMs: 12_000, of: "node" },
  freeze: { gapMs: 9_000, leastMs: 100, mostMs: 12_000, of: "node" },
  "engine-crash": { gapMs: 6_000, leastMs: 0, mostMs: 0, of: "node" },
  "engine-hang": { gapMs: 9_000, leastMs: 0, mostMs: 0, of: "node" },
  owner: { gapMs: 6_000, leastMs: 500, mostMs: 9_000, of: "node" },
  drain: { gapMs: 9_000, leastMs: 500, mostMs: 9_000, of: "node" },
  partition: { gapMs: 9_000, leastMs: 100, mostMs: 9_000, of: "node" },
  "one-way-partition": { gapMs: 9_000, leastMs: 100, mostMs: 9_000, of: "node" },
  clog: { gapMs: 6_000, leastMs: 50, mostMs: 3_000, of: "node" },
  "coordinator-crash": { gapMs: 16_000, leastMs: 50, mostMs: 4_000, of: "grid" },
  "coordinator-freeze": { gapMs: 16_000, leastMs: 50, mostMs: 6_000, of: "grid" },
  "wall-step": { gapMs: 6_000, leastMs: 0, mostMs: 0, of: "node" },
};

/** One run in this many has no faults: the laws must hold in peace too, and every request must be answered. */
const CALM_ONE_IN = 10;
const SMALL_DISKS_BYTES = [650 * 1_048_576, 1_000 * 1_048_576, 1_500 * 1_048_576] as const;
/** A wall clock may be set by up to a day, either way. */
const WALL_STEP_MAX_MS = 86_400_000;

export function drawFaults(options: {
  readonly random: SeededRandom;
  readonly nodes: number;
  readonly startMs: number;
  readonly durationMs: number;
  /** Only these; undefined lets the seed choose. */
  readonly only?: readonly FaultKind[] | undefined;
  /** Measured series of spot capacity, for `spot`; empty lets a generator draw. */
  readonly series?: readonly ChurnSeries[];
}): FaultPlan {
  const { random, nodes } = options;
  assert(nodes >= 1 && nodes <= NODES_MAX, `${nodes} nodes are 1 to ${NODES_MAX}`);
  const kinds = options.only ?? drawKinds(random.fork("kinds"));
  const has = (kind: FaultKind) => kinds.includes(kind);
  const faultsEndMs = options.startMs + options.durationMs;
  const clockOf = (name: string) => drawClock(random.fork(`clock/${name}`), { isDrifting: has("clock-drift") });
  return {
    kinds,
    faultsEndMs,
    network: has("bad-network") ? drawNetwork(random.fork("network")) : CALM_NETWORK,
    store: drawStore(random.fork("store"), { isSlow: has("slow-store"), isFailing: has("failing-store") }),
    coordinatorClock: clockOf("coordinator"),
    nodes: Array.from({ length: nodes }, (_, index) =>
      drawNode(random.fork(`node/${index}`), clockOf(`node/${index}`), { has, isTrusty: index === 0 }),
    ),
    events: kinds
      .flatMap((kind) =>
        drawEvents(kind, random.fork(`events/${kind}`), {
          nodes,
          startMs: options.startMs,
          faultsEndMs,
          series: options.series ?? [],
        }),
      )
      .sort((a, b) => a.atMs - b.atMs || (a.kind < b.kind ? -1 : 1)),
  };
}

function drawKinds(random: SeededRandom): readonly FaultKind[] {
  if (random.chance(1 / CALM_ONE_IN)) return [];
  const density = 0.15 + random.fraction() * 0.5;
  return FAULT_KINDS.filter(() => random.chance(density));
}

function drawNetwork(random: SeededRandom): NetworkConditions {
  return {
    delayMinMs: random.pick([0.2, 2, 10, 40]),
    delayTailMeanMs: random.pick([0.1, 5, 30, 120]),
    lossProbability: random.pick([0, 0.01, 0.05, 0.15]),
    replayProbability: random.pick([0, 0.02, 0.2]),
    bytesPerMs: random.pick([125, 1_250, 12_500]),
  };
}

function drawStore(random: SeededRandom, faults: { isSlow: boolean; isFailing: boolean }): StoreConditions {
  return {
    latencyMeanMs: faults.isSlow ? random.pick([5, 25, 100]) : CALM_STORE.latencyMeanMs,
    refusedProbability: faults.isFailing ? random.pick([0.01, 0.05, 0.2]) : 0,
    answerLostProbability: faults.isFailing ? random.pick([0, 0.01, 0.1]) : 0,
    isSerial: random.chance(0.5),
  };
}

function drawClock(random: SeededRandom, faults: { isDrifting: boolean }): ClockFaults {
  const monoOffsetMs = random.between(0, 10_000_000);
  if (!faults.isDrifting) return { ...PERFECT_CLOCK, monoOffsetMs };
  // 500 ppm is the worst that NTP still disciplines; a virtual machine may do worse.
  const rate = 1 + random.pick([-0.01, -0.0005, 0, 0.0005, 0.01]);
  return { rate, monoOffsetMs, wallOffsetMs: random.between(-WALL_STEP_MAX_MS, WALL_STEP_MAX_MS) };
}

function drawNode(
  random: SeededRandom,
  clock: ClockFaults,
  of: { has: (kind: FaultKind) => boolean; isTrusty: boolean },
): NodeFaults {
  const { has, isTrusty } = of;
  const isLiar = has("lies") && !isTrusty && random.chance(0.4);
  return {
    clock,
    // The slowest still finishes the longest answer within a probe's patience: 30 ms times 25 for 60 tokens.
    slowness: has("slow-node") ? random.pick([1, 1, 3, 10, 25]) : 1,
    lies: isLiar ? LIES.filter(() => random.chance(0.4)) : [],
    loadFailureProbability: has("load-failure") ? random.pick([0, 0.2, 0.6, 1]) : 0,
    weightsFaults: {
      probability: has("weights-failure") ? random.pick([0, 0.3, 0.9]) : 0,
      kinds: ["weights-digest-mismatch", "weights-unreachable", "disk-full"],
    },
    place: has("regions") ? drawPlace(random.fork("place")) : NOWHERE,
    // Holds the largest model; whether it holds two is for the seed to say.
    diskBytes: has("small-disk") && !isTrusty ? random.fork("disk").pick(SMALL_DISKS_BYTES) : null,
    activationBytesMax: null,
    spills: true,
  };
}

/** The wall clock of the coordinator may jump as well. */
function drawTarget(kind: FaultKind, random: SeededRandom, nodes: number): number | null {
  const index = random.between(kind === "wall-step" ? -1 : 0, nodes - 1);
  return TIMED[kind]?.of === "grid" || index < 0 ? null : index;
}

function drawEvents(
  kind: FaultKind,
  random: SeededRandom,
  span: { nodes: number; startMs: number; faultsEndMs: number; series: readonly ChurnSeries[] },
): readonly FaultEvent[] {
  if (kind === "owner-week") return drawOwnerWeek(random, span);
  if (kind === "spot") return drawSpot(random, span);
  const timed = TIMED[kind];
  if (timed === undefined) return [];
  const events: FaultEvent[] = [];
  const gapMs = timed.gapMs * random.pick([0.3, 1, 2]);
  for (let atMs = span.startMs + random.gap(gapMs); atMs < span.faultsEndMs; atMs += random.gap(gapMs)) {
    events.push({
      kind,
      atMs,
      durationMs: Math.min(random.between(timed.leastMs, timed.mostMs), span.faultsEndMs - atMs),
      node: drawTarget(kind, random, span.nodes),
      coin: random.chance(0.3),
      stepMs: random.between(-WALL_STEP_MAX_MS, WALL_STEP_MAX_MS),
    });
  }
  return events;
}
