/**
 * Runs policies over the same drawn grids, seed by seed, and compares them: means with intervals over the seeds, and differences
 * to `ours` in pairs. What each figure means is in churn-report.ts; how a run goes, in churn-grid.ts.
 */
import { FallowError } from "../../domain/fault.ts";
import {
  CHURN_METRIC_INFO,
  type ChurnCell,
  type ChurnDifference,
  type ChurnKind,
  type ChurnMetric,
  type ChurnOptions,
  type ChurnPolicyName,
  type ChurnReport,
  type ChurnRun,
  type Interval,
} from "./churn-report.ts";
import { runScenario } from "./run-scenario.ts";
import { drawScenario } from "./scenario/draw-scenario.ts";
import { TIER_BOUNDS } from "./scenario/tier-bounds.ts";
import { intervalOf } from "./statistics.ts";

/** A month: the longest of the spot series goes on for 27 days. */
export const HOURS_MAX = 720;
export const NODES_MAX = 400;
export const SEEDS_MAX = 1_000;
export const REQUESTS_PER_HOUR_MAX = 100_000;
/** Keeps a grid of the usual mix busy without drowning it: bench/churn.bench.ts. */
export const REQUESTS_PER_HOUR_PER_NODE = 60;

/** Throws `churn-options-invalid` naming the option, `trace-needed` when spot churn has no series. */
export function runChurn(options: ChurnOptions): ChurnReport {
  check(options);
  const requestsPerHour = options.requestsPerHour ?? options.nodes * REQUESTS_PER_HOUR_PER_NODE;
  const runs: ChurnRun[] = [];
  const of = options.kinds.length * options.seeds.length * options.policies.length;
  for (const kind of options.kinds) {
    for (const seed of options.seeds) {
      const scenario = drawScenario({ ...options, seed, kind, requestsPerHour });
      for (const policy of options.policies) {
        const run = runScenario(scenario, policy);
        runs.push(run);
        options.onProgress?.({ done: runs.length, of, run });
      }
    }
  }
  return {
    hours: options.hours,
    nodes: options.nodes,
    requestsPerHour,
    seeds: options.seeds,
    bounds: TIER_BOUNDS,
    labels: labelsOf(options),
    runs,
    cells: options.kinds.flatMap((kind) => options.policies.map((policy) => cellOf(runs, { kind, policy }))),
    differences: differencesOf(runs, options),
  };
}

function check(options: ChurnOptions): void {
  const { hours, nodes, seeds, requestsPerHour, kinds, policies, traces } = options;
  const refuse = (option: string, value: unknown, rule: string) => {
    throw new FallowError("churn-options-invalid", `${option} is ${String(value)}, and must be ${rule}`, {
      data: { option, value },
    });
  };
  if (!(hours > 0 && hours <= HOURS_MAX)) refuse("hours", hours, `above 0 and at most ${HOURS_MAX}`);
  if (!Number.isInteger(nodes) || nodes < 2 || nodes > NODES_MAX) refuse("nodes", nodes, `2 to ${NODES_MAX}`);
  if (seeds.length < 1 || seeds.length > SEEDS_MAX) refuse("the number of seeds", seeds.length, `1 to ${SEEDS_MAX}`);
  if (new Set(seeds).size !== seeds.length) refuse("seeds", seeds.join(","), "different from each other");
  if (policies.length === 0) refuse("policies", "empty", "at least one");
  if (kinds.length === 0) refuse("kinds of churn", "empty", "at least one");
  if (requestsPerHour !== null && !(requestsPerHour > 0 && requestsPerHour <= REQUESTS_PER_HOUR_MAX))
    refuse("requests per hour", requestsPerHour, `above 0 and at most ${REQUESTS_PER_HOUR_MAX}`);
  if (kinds.includes("spot") && traces === null)
    throw new FallowError(
      "trace-needed",
      "spot churn replays measured series; name the folder that has them, or ask for owners",
    );
}

function labelsOf({ kinds, traces }: ChurnOptions): readonly string[] {
  return [
    "MODELLED: speeds follow from memory bandwidth and compute of the makers' tables, not from measurements.",
    ...(kinds.includes("owners")
      ? ["SYNTHETIC: owners' comings and goings are drawn from cohorts; no trace of desktop owners was found."]
      : []),
    ...(kinds.includes("spot")
      ? [
          "MEASURED: spot availability replays the SkyPilot spot traces, each node from a drawn place in a drawn series.",
        ]
      : []),
    traces === null
      ? "SYNTHETIC: lengths, arrivals, popularity and round trips, as no trace folder was given."
      : "MEASURED: lengths and gaps of the Azure conversation trace, popularity of GenTD26's five most asked models, round trips between IBM's regions; the mean rate is the run's own.",
  ];
}

function cellOf(
  runs: readonly ChurnRun[],
  at: { readonly kind: ChurnKind; readonly policy: ChurnPolicyName },
): ChurnCell {
  const own = runs.filter(({ kind, policy }) => kind === at.kind && policy === at.policy);
  return { ...at, metrics: perMetric((metric) => intervalOf(own.map(({ metrics }) => metrics[metric]))) };
}

function differencesOf(
  runs: readonly ChurnRun[],
  { kinds, policies, seeds }: ChurnOptions,
): readonly ChurnDifference[] {
  if (!policies.includes("ours")) return [];
  const value = (key: { kind: ChurnKind; policy: ChurnPolicyName; seed: number; metric: ChurnMetric }) =>
    runs.find(({ kind, policy, seed }) => kind === key.kind && policy === key.policy && seed === key.seed)?.metrics[
      key.metric
    ] ?? 0;
  return kinds.flatMap((kind) =>
    policies
      .filter((policy) => policy !== "ours")
      .map((against): ChurnDifference => {
        const metrics = perMetric((metric) =>
          intervalOf(
            seeds.map(
              (seed) => value({ kind, policy: "ours", seed, metric }) - value({ kind, policy: against, seed, metric }),
            ),
          ),
        );
        return { kind, against, metrics, verdicts: perMetric((metric) => verdictOf(metric, metrics[metric])) };
      }),
  );
}

function verdictOf(metric: ChurnMetric, { low, high }: Interval): ChurnDifference["verdicts"][ChurnMetric] {
  const { better } = CHURN_METRIC_INFO[metric];
  if (better === "neither") return "neither";
  if (low > 0) return better === "more" ? "better" : "worse";
  if (high < 0) return better === "more" ? "worse" : "better";
  return "open";
}

function perMetric<T>(of: (metric: ChurnMetric) => T): Readonly<Record<ChurnMetric, T>> {
  return {
    goodputTokPerSecond: of("goodputTokPerSecond"),
    sloAttainment: of("sloAttainment"),
    completed: of("completed"),
    failed: of("failed"),
    refused: of("refused"),
    coldStarts: of("coldStarts"),
    loads: of("loads"),
    movedGb: of("movedGb"),
    lostTokens: of("lostTokens"),
    hopsMean: of("hopsMean"),
  };
}
