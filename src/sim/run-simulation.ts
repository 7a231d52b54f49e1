/**
 * One run: seed in, hash and broken laws out. Faults strike while load arrives; then everything is repaired, and after a
 * while probes are asked that have to be answered. A failure is repeated by `fallow sim --seed N` on the same commit.
 */

import { type ChainGrid, chainLoad, drawChainGrid } from "./chains/draw-chains.ts";
import { SCRIPTED_VOCAB_SIZE } from "./engine/scripted-model.ts";
import { drawChainFaults } from "./faults/chain-faults.ts";
import type { ChurnSeries } from "./faults/churn-events.ts";
import { drawFaults, type FaultKind, type FaultPlan, NODES_MAX } from "./faults/faults.ts";
import { REGIONS } from "./faults/places.ts";
import { type Sabotage, saboteurFor } from "./faults/sabotage.ts";
import { DEADLINE_MAX_MS, drawLoad, type LoadPlan, type LoadTrace, PROBE_DEADLINE_MS } from "./load/load.ts";
import type { Violation } from "./observation.ts";
import { SeededRandom } from "./time/random.ts";
import { Trace } from "./trace.ts";
import { World } from "./world.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** Only these kinds of faults; none for an empty list; left out, the seed chooses. */
  readonly faults?: readonly FaultKind[];
  /** How long load and faults go on, in virtual time; default `DURATION_MS`, with chains `CHAIN_DURATION_MS`. */
  readonly durationMs?: number;
  /** Lines of the trace to keep: `short` has state transitions and logs, `full` every frame as well. */
  readonly detail?: "none" | "short" | "full";
  /** Measured series that spot machines and arrivals follow; without them both are drawn. */
  readonly traces?: { readonly spot: readonly ChurnSeries[]; readonly load: LoadTrace } | undefined;
  /** A grid whose model fits on no node, and faults that strike its stages; `traces` say nothing of such a run. */
  readonly hasChains?: boolean;
  /** Breaks a law on purpose. */
  readonly sabotage?: Sabotage;
}

export interface SimulationStats {
  readonly nodes: number;
  readonly faults: readonly FaultKind[];
  /** That struck at a time. */
  readonly faultEvents: number;
  readonly virtualMs: number;
  readonly events: number;
  readonly frames: number;
  readonly packetsLost: number;
  /** How requests ended. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly refusedConnections: number;
  /** Why, of those that were refused. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Streams that went on under another lease. */
  readonly moved: number;
  readonly chains: number;
  /** Of all chains together. */
  readonly chainEpochs: number;
  readonly stageBytesFetched: number;
}

export interface SimulationResult {
  readonly seed: number;
  readonly hash: string;
  readonly stats: SimulationStats;
  readonly violations: readonly Violation[];
  readonly lines: readonly string[];
}

export const DURATION_MS = 30_000;
/** Nodes join and warm replicas load before load and faults begin; the first faults strike a little earlier. */
const LOAD_START_MS = 6_000;
const FAULTS_START_MS = 3_000;
/** A token of a chain takes many times the events of one of a whole model. */
export const CHAIN_DURATION_MS = 18_000;
/** By then a chain that is kept warm serves. */
const CHAIN_FAULTS_START_MS = 9_000;
/** From the end of faults to the probes: reconnecting, adopting, loading. */
const RECOVERY_MS = 15_000;
/** What the last probe may take, and the books their minute to void what a failing store left open. */
const END_MS = PROBE_DEADLINE_MS + DEADLINE_MAX_MS + 70_000;
const QUIET_CHECK_MS = 1_000;

export async function runSimulation(options: SimulationOptions): Promise<SimulationResult> {
  const random = new SeededRandom(`fallow-sim/${options.seed}`);
  const { faults, load, chains } = drawRun(options, random);
  const probesAtMs = faults.faultsEndMs + RECOVERY_MS;
  const { length: nodes } = faults.nodes;
  const trace = new Trace(options.detail ?? "none");
  const saboteur = options.sabotage === undefined ? null : saboteurFor(options.sabotage);
  const bugs: Violation[] = [];
  const world = new World({ random, load, faults, trace, saboteur, chains });
  const note = (fault: unknown) => bugs.push({ law: "bug", atMs: world.timeline.nowMs, what: textOf(fault) });
  process.on("unhandledRejection", note);
  try {
    await runToQuiet(world, probesAtMs);
  } catch (fault) {
    note(fault);
  } finally {
    process.off("unhandledRejection", note);
  }
  const violations = [...bugs, ...world.violations];
  const stats: SimulationStats = {
    nodes,
    faults: faults.kinds,
    faultEvents: faults.events.length,
    virtualMs: Math.round(world.timeline.nowMs),
    events: world.timeline.fired,
    frames: trace.frames,
    packetsLost: world.network.stats.lost,
    refusedConnections: world.load.refusedConnections,
    ...world.counts(),
  };
  return { seed: options.seed, hash: trace.digest(), stats, violations, lines: trace.lines() };
}

interface DrawnRun {
  readonly faults: FaultPlan;
  readonly load: LoadPlan;
  readonly chains: ChainGrid | null;
}

function drawRun(options: SimulationOptions, random: SeededRandom): DrawnRun {
  const durationMs = options.durationMs ?? (options.hasChains === true ? CHAIN_DURATION_MS : DURATION_MS);
  const chains = options.hasChains === true ? drawChainGrid(random.fork("chains")) : null;
  const of = { random: random.fork("faults"), durationMs, only: options.faults };
  const faults =
    chains === null
      ? drawFaults({
          ...of,
          nodes: random.fork("nodes").between(1, NODES_MAX),
          startMs: FAULTS_START_MS,
          series: options.traces?.spot ?? [],
        })
      : drawChainFaults({ ...of, nodes: chains.nodes, startMs: CHAIN_FAULTS_START_MS });
  const load = drawLoad({
    random: random.fork("load"),
    vocabSize: SCRIPTED_VOCAB_SIZE,
    startMs: LOAD_START_MS,
    endMs: faults.faultsEndMs,
    probesAtMs: faults.faultsEndMs + RECOVERY_MS,
    regions: faults.kinds.includes("regions") ? REGIONS.flatMap(({ region }) => region ?? []) : [],
    trace: options.traces?.load ?? null,
  });
  return { faults, load: chains === null ? load : chainLoad(load, chains, random.fork("chain-load")), chains };
}

async function runToQuiet(world: World, probesAtMs: number): Promise<void> {
  await world.found();
  await world.run(probesAtMs);
  const lastMs = probesAtMs + END_MS;
  for (let untilMs = probesAtMs + QUIET_CHECK_MS; untilMs <= lastMs; untilMs += QUIET_CHECK_MS) {
    await world.run(untilMs);
    if (world.violations.length > 0 || (await world.isQuiet())) break;
  }
  await world.end();
}

function textOf(fault: unknown): string {
  return fault instanceof Error ? (fault.stack ?? fault.message) : String(fault);
}
