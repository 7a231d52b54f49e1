/**
 * What planning replicas costs a coordinator. The real replica pool over 1,000 nodes and 50 models, with nodes that do as they are
 * told: from an empty grid to a settled one, with demand, losses and plans all the while; planned in a thread, as the coordinator
 * does it, and in the turn that asks, as tests do it.
 *
 * What planning adds to the event loop is counted in CPU time of its thread from one millisecond's timer to the next, because other programs on the
 * machine lengthen turns in wall time; the delay of the event loop stands beside it. Then: the plan itself, the cheap rule after a
 * node's loss, and a plan over an empty grid.
 */

import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { UlidIds } from "../src/adapters/ids-ulid/ulid-ids.ts";
import { openReplicaPlanner } from "../src/cli/compose/replica-planner.ts";
import { DISPATCH_OPTIONS } from "../src/coordinator/dispatch/dispatch-options.ts";
import { INLINE_PLANNER, type ReplicaPlanner } from "../src/coordinator/dispatch/replica-planning.ts";
import { ReplicaPool } from "../src/coordinator/dispatch/replica-pool.ts";
import { buffersOf, packGrid } from "../src/scheduler/placement/grid-columns.ts";
import { OBJECTIVE, TIER_RULES } from "../src/scheduler/placement/objective.ts";
import { planPlacement, wantedReplicas } from "../src/scheduler/placement/plan-placement.ts";
import type { PlanQuestion } from "../src/scheduler/placement/plan-question.ts";
import { mayMiss, repairPlacement } from "../src/scheduler/placement/repair-placement.ts";
import type { NodeFact, ReplicaFact } from "../src/scheduler/placement/snapshot.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { openBench } from "./lib/bench-run.ts";
import { ObedientRoster, servedModels } from "./lib/obedient-roster.ts";
import { drawPlacementGrid, type PlacementGrid } from "./lib/placement-grid.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("planner");
const SIZE = bench.isSmoke ? { nodes: 100, models: 10 } : { nodes: 1_000, models: 50 };
const RUN_MS = bench.isSmoke ? 1_500 : 12_000;
const ROUNDS = bench.isSmoke ? 3 : 15;
/** A node is lost and comes back this often. */
const LOSS_MS = 400;
const PIECE_RUNS = bench.isSmoke ? 5 : 60;
const STALL_MS_MAX = 5;

const grid = drawPlacementGrid({ ...SIZE, seed: "planner" });
const plans = measurePlans(grid);
const pieces = measurePieces(grid);
const baseline = await measureTurns(grid, null);
const planner = openReplicaPlanner();
const threaded = await measureTurns(grid, planner);
const emptyMs = await measureEmpty(planner);
await planner.stop();
const inline = await measureTurns(grid, INLINE_PLANNER);
const measured = {
  ...SIZE,
  runMs: RUN_MS,
  plans,
  pieces,
  cpuClockTickMs: cpuTickMs(),
  emptyMs,
  turns: { nothingPlanned: baseline, threaded, inline },
};
bench.say(JSON.stringify(measured, null, 2));
bench.keep({
  bars: [
    {
      name: "longest piece of planning in the event loop, ms p50",
      value: Math.max(...Object.values(pieces).map(({ p50Ms }) => p50Ms)),
      wanted: "at-most",
      limit: STALL_MS_MAX,
    },
    {
      name: "longest turn with planning in a thread, CPU ms",
      value: threaded.longestCpuMs,
      wanted: "at-most",
      limit: STALL_MS_MAX,
    },
    { name: "cheap rule after a lost node, CPU ms p99", value: plans.repairCpuMsP99, wanted: "at-most", limit: 50 },
    { name: "plan over an empty grid, ms", value: emptyMs, wanted: "at-most", limit: 50 },
  ],
  measured,
});

function openIds(): UlidIds {
  return new UlidIds({ clock: new SystemClock(), random: new SystemRandom() });
}

/** CPU time of this thread only. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

function questionOf({ nodes, models, classes }: PlacementGrid, replicas: readonly ReplicaFact[]): PlanQuestion {
  return {
    grid: packGrid({ version: 1, nodes: new Map(nodes.map((node) => [node.nodeId, node])), replicas }),
    models,
    classes,
    waiting: new Map(),
    tiers: TIER_RULES,
    weights: OBJECTIVE,
    notBeforeMs: new Map(),
    nowMs: 0,
    idleUnloadMs: DISPATCH_OPTIONS.idleUnloadMs,
    horizonMs: DISPATCH_OPTIONS.horizonMs,
  };
}

/** The plan from nothing, the plan on top of it, and repairs after each of some losses. */
function measurePlans(drawn: PlacementGrid) {
  const ids = openIds();
  const firstCpuMs: number[] = [];
  let plan = planPlacement(questionOf(drawn, []));
  for (let round = 0; round < 3; round++) {
    const startMs = cpuMs();
    plan = planPlacement(questionOf(drawn, []));
    firstCpuMs.push(cpuMs() - startMs);
  }
  const replicas = plan.orders.flatMap((order): ReplicaFact[] =>
    order.kind === "load" ? [ObedientRoster.fact(order, ids)] : [],
  );
  const startMs = cpuMs();
  const again = planPlacement(questionOf(drawn, replicas));
  const againCpuMs = cpuMs() - startMs;
  const repairs: number[] = [];
  let lost = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const victim = replicas[(round * 7) % Math.max(1, replicas.length)]?.nodeId;
    const nodes = drawn.nodes.map((node): NodeFact => (node.nodeId === victim ? { ...node, state: "offline" } : node));
    const fromMs = cpuMs();
    const found = repairPlacement(questionOf({ ...drawn, nodes }, replicas), wantedReplicas(plan));
    repairs.push(cpuMs() - fromMs);
    lost += found.orders.length;
  }
  const rounded = (value: number) => Number(value.toFixed(2));
  return {
    firstCpuMs: rounded(quantile(firstCpuMs, 0.5)),
    firstLoads: plan.orders.length,
    gap: rounded(plan.gap),
    onTopCpuMs: rounded(againCpuMs),
    onTopOrders: again.orders.length,
    repairCpuMsP50: rounded(quantile(repairs, 0.5)),
    repairCpuMsP99: rounded(quantile(repairs, 0.99)),
    movedPerLoss: rounded(lost / ROUNDS),
  };
}

/**
 * Each piece of planning that runs in the event loop, alone and again and again, in wall time: the shortest is what it costs, the
 * median what it costs on this machine as busy as it is.
 */
function measurePieces(drawn: PlacementGrid) {
  const ids = openIds();
  const plan = planPlacement(questionOf(drawn, []));
  const replicas = plan.orders.flatMap((order): ReplicaFact[] =>
    order.kind === "load" ? [ObedientRoster.fact(order, ids)] : [],
  );
  const nodes = new Map(drawn.nodes.map((node) => [node.nodeId, node]));
  const lost = { ...drawn, nodes: drawn.nodes.filter(({ nodeId }) => nodeId !== replicas[0]?.nodeId) };
  const wanted = wantedReplicas(plan);
  const { models } = drawn;
  const waiting = new Map();
  const timed = (piece: () => unknown) => {
    const tookMs = Array.from({ length: PIECE_RUNS }, () => {
      const startMs = performance.now();
      piece();
      return performance.now() - startMs;
    });
    return { minMs: Number(quantile(tookMs, 0).toFixed(2)), p50Ms: Number(quantile(tookMs, 0.5).toFixed(2)) };
  };
  return {
    look: timed(() => mayMiss({ nodes, replicas, models, waiting, wanted })),
    repair: timed(() => repairPlacement(questionOf(lost, replicas), wanted)),
    ask: timed(() => {
      const question = questionOf(drawn, replicas);
      return structuredClone(question, { transfer: [...buffersOf(question.grid)] });
    }),
    take: timed(() => structuredClone(plan)),
  };
}

/** The steps in which this machine counts CPU time: turns shorter than one cannot be told apart. */
function cpuTickMs(): number {
  const steps: number[] = [];
  let lastMs = cpuMs();
  for (let read = 0; read < 400_000 && steps.length < 200; read++) {
    const nowMs = cpuMs();
    if (nowMs !== lastMs) steps.push(nowMs - lastMs);
    lastMs = nowMs;
  }
  return Number(quantile(steps, 1).toFixed(2));
}

/** Runs the pool for `RUN_MS`; with null only its roster, to see what everything else takes. */
async function measureTurns(drawn: PlacementGrid, by: ReplicaPlanner | null) {
  const clock = new SystemClock();
  const roster = new ObedientRoster(drawn.nodes, clock);
  const models = servedModels(drawn.models);
  const pool = new ReplicaPool(
    {
      clock,
      ids: openIds(),
      log: simLog(({ level, event, fields }) => {
        if (level === "error") bench.say(`${event} ${JSON.stringify(fields)}`);
      }),
      roster,
      models,
      crypto: new NodeCrypto(),
      boot: 1,
      onChainBreak: () => undefined,
      leasedOn: () => 0,
      demand: () => new Map(),
      outlook: { cachedWeights: () => null, stayChance: () => null, expectedDemand: () => drawn.classes },
      onChange: () => undefined,
      ...(by === null ? {} : { planner: by }),
    },
    DISPATCH_OPTIONS,
  );
  await sleep(200);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const turns: number[] = [];
  const endMs = performance.now() + RUN_MS;
  const losses = setInterval(() => roster.loseOne(), LOSS_MS);
  if (by !== null) {
    roster.tellTo((nodeId) => pool.observe(nodeId));
    pool.start();
  }
  delay.enable();
  while (performance.now() < endMs) {
    const startMs = cpuMs();
    const fromMs = performance.now();
    await sleep(1);
    roster.answerSome();
    // Some kernels count CPU time in ticks of milliseconds: what a turn took is no more than either clock says.
    turns.push(Math.min(cpuMs() - startMs, performance.now() - fromMs));
  }
  delay.disable();
  clearInterval(losses);
  pool.stop();
  const rounded = (value: number) => Number(value.toFixed(2));
  return {
    turns: turns.length,
    plans: pool.planningStats().plans,
    loadsSent: roster.loadsSent,
    dropped: pool.planningStats().dropped,
    longestCpuMs: rounded(quantile(turns, 1)),
    cpuMsP999: rounded(quantile(turns, 0.999)),
    loopDelayMaxMs: rounded(delay.max / 1e6),
    loopDelayP99Ms: rounded(delay.percentile(99) / 1e6),
  };
}

async function measureEmpty(by: ReplicaPlanner): Promise<number> {
  const { models, classes } = grid;
  const startMs = performance.now();
  await by.plan(questionOf({ nodes: [], models, classes }, []));
  return Number((performance.now() - startMs).toFixed(2));
}
