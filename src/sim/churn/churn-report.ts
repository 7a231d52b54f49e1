/**
 * What a churn run is asked and what it answers. Every policy meets the same grids: for one seed and kind of churn the nodes, their
 * comings and goings, and the requests are drawn once, so that policies are compared in pairs, seed by seed.
 */
import type { ServiceTier } from "../../domain/tier.ts";
import type { ChurnTraces } from "./scenario/churn-traces.ts";

/**
 * `ours` is the product's planner, matcher and survival forecast; `petals` is our own implementation of Petals' rules (join at the
 * weakest window, rebalance, shortest path; no survival); `no-survival` is ours with every node expected to stay; `no-stickiness`
 * is ours that plans anew each time, without the previous plan and without hysteresis.
 */
export const CHURN_POLICIES = ["ours", "petals", "no-survival", "no-stickiness"] as const;
export type ChurnPolicyName = (typeof CHURN_POLICIES)[number];

/** `spot` replays measured series of spot capacity; `owners` is a parametric generator and synthetic. */
export const CHURN_KINDS = ["spot", "owners"] as const;
export type ChurnKind = (typeof CHURN_KINDS)[number];

export interface ChurnOptions {
  /** At least one; ten or more for an interval that means something. */
  readonly seeds: readonly number[];
  readonly policies: readonly ChurnPolicyName[];
  readonly kinds: readonly ChurnKind[];
  /** Of simulated time, 0 < hours <= `HOURS_MAX`. */
  readonly hours: number;
  /** Machines that come and go, 2 to `NODES_MAX`. */
  readonly nodes: number;
  /** Mean arrivals; null takes `REQUESTS_PER_HOUR_PER_NODE` for each node. */
  readonly requestsPerHour: number | null;
  /** Null: no trace folder. Then `spot` is refused, and lengths, popularity and round trips are synthetic. */
  readonly traces: ChurnTraces | null;
  /** After each run. */
  readonly onProgress?: (progress: { readonly done: number; readonly of: number; readonly run: ChurnRun }) => void;
}

/** What is measured of one run, in the order of tables. */
export const CHURN_METRICS = [
  "goodputTokPerSecond",
  "sloAttainment",
  "completed",
  "failed",
  "refused",
  "coldStarts",
  "loads",
  "movedGb",
  "lostTokens",
  "hopsMean",
] as const;
export type ChurnMetric = (typeof CHURN_METRICS)[number];

export interface ChurnMetricInfo {
  readonly label: string;
  readonly better: "more" | "less" | "neither";
  readonly meaning: string;
}

export const CHURN_METRIC_INFO: Readonly<Record<ChurnMetric, ChurnMetricInfo>> = {
  goodputTokPerSecond: {
    label: "goodput, tok/s",
    better: "more",
    meaning: "output tokens of answers delivered in full within their bounds, for each second of the run",
  },
  sloAttainment: {
    label: "within bounds",
    better: "more",
    meaning: "share of all requests that were answered in full within their tier's bounds",
  },
  completed: { label: "answered", better: "more", meaning: "requests answered in full, in time or not" },
  failed: {
    label: "failed",
    better: "less",
    meaning: "requests that began and could not be finished before their patience ended",
  },
  refused: {
    label: "refused",
    better: "less",
    meaning: "requests that never began: the queue was full or their patience ended in it",
  },
  coldStarts: {
    label: "cold starts",
    better: "less",
    meaning: "requests that found no ready copy of their model and waited for one",
  },
  loads: { label: "loads", better: "less", meaning: "runs of layers loaded into a device" },
  movedGb: { label: "moved, GB", better: "less", meaning: "weights fetched over the nodes' links" },
  lostTokens: {
    label: "lost work, tok",
    better: "less",
    meaning: "tokens whose state was lost with a node and computed again, weighted by the share of layers",
  },
  hopsMean: { label: "hops", better: "neither", meaning: "mean number of stages that a request went through" },
};

export interface ChurnRun {
  readonly seed: number;
  readonly kind: ChurnKind;
  readonly policy: ChurnPolicyName;
  readonly metrics: Readonly<Record<ChurnMetric, number>>;
  readonly requests: number;
  /** Share of the time that nodes were there, over all nodes. */
  readonly availability: number;
  /** Nodes lost in the time of the run. */
  readonly losses: number;
  readonly cpuMs: number;
  /** Of `cpuMs`: in the policy's planning. */
  readonly planCpuMs: number;
  /** SHA-256 over every request's fate: equal for equal options. */
  readonly hash: string;
  /** Ten-minute windows, for a plot. */
  readonly series: readonly ChurnPoint[];
}

export interface ChurnPoint {
  readonly atMinutes: number;
  readonly nodesUp: number;
  readonly goodputTokPerSecond: number;
  readonly waiting: number;
}

/** Mean with a 95 % interval by Student's t over the seeds; the interval is NaN-free: with one seed it is the mean. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface ChurnCell {
  readonly kind: ChurnKind;
  readonly policy: ChurnPolicyName;
  readonly metrics: Readonly<Record<ChurnMetric, Interval>>;
}

/** `ours` minus `against`, in pairs by seed. */
export interface ChurnDifference {
  readonly kind: ChurnKind;
  readonly against: ChurnPolicyName;
  readonly metrics: Readonly<Record<ChurnMetric, Interval>>;
  /** Metrics in which the interval lies on the good side of 0, on the bad side, or holds 0. */
  readonly verdicts: Readonly<Record<ChurnMetric, "better" | "worse" | "open" | "neither">>;
}

export interface ChurnReport {
  readonly hours: number;
  readonly nodes: number;
  readonly requestsPerHour: number;
  readonly seeds: readonly number[];
  readonly bounds: Readonly<Record<ServiceTier, TierBounds>>;
  /** What is synthetic or modelled in this report, as sentences for people. */
  readonly labels: readonly string[];
  readonly runs: readonly ChurnRun[];
  readonly cells: readonly ChurnCell[];
  /** Empty when `ours` was not among the policies. */
  readonly differences: readonly ChurnDifference[];
}

/** A tier's promise in these runs. */
export interface TierBounds {
  /** From arrival to the first token. */
  readonly firstTokenMs: number;
  /** Mean time between tokens after the first, moves included. */
  readonly perTokenMs: number;
  /** A request that is not answered in full by then is given up. */
  readonly patienceMs: number;
}
