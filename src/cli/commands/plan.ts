/**
 * `fallow plan`: with a cluster file, which node should hold which layers, by the planner that the coordinator uses; without one, the
 * plan that the running grid follows. Only the layout goes to stdout.
 */
import type { Cluster } from "../../domain/cluster.ts";
import type { SearchStep } from "../../scheduler/layout/layout-score.ts";
import type { PlanGoals, PlanRules } from "../../scheduler/layout/plan-goals.ts";
import { type LayoutPlan, planLayout } from "../../scheduler/layout/plan-layout.ts";
import { planReportHtml } from "../../sim/report/plan-report.ts";
import { readable } from "../../sim/report/scale.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { fields, table } from "../format.ts";
import type { GlobalOptions } from "../grid-client.ts";
import { openStepLine } from "../step-line.ts";
import { note, printJson, printText } from "../terminal.ts";
import { packageVersion } from "../version.ts";
import { writeReport } from "../write-output.ts";
import { readCluster, readLayoutFile } from "./cluster-input.ts";
import { showGridPlan } from "./plan-grid.ts";
import { type MadePlan, planJson } from "./plan-json.ts";

export interface PlanOptions extends GlobalOptions {
  readonly cluster?: string;
  readonly objective: PlanGoals["objective"];
  readonly seed: number;
  readonly html?: string;
  readonly previous?: string;
  readonly demand?: number;
  readonly horizon?: number;
  readonly regions?: readonly string[];
  readonly minTrust?: number;
  readonly maxPrice?: number;
  readonly maxHops?: number;
  readonly maxWanHops?: number;
  readonly minContext?: number;
  readonly apart?: boolean;
  readonly partial?: boolean;
}

const NEED_CLUSTER = [
  "html",
  "previous",
  "demand",
  "horizon",
  "regions",
  "minTrust",
  "maxPrice",
  "maxHops",
  "maxWanHops",
  "minContext",
  "apart",
  "partial",
] as const satisfies readonly (keyof PlanOptions)[];
const MICRO_USD = 1e6;
/** A refusal names so many nodes that were kept out. */
const REFUSED_SHOWN_MAX = 5;

export async function runPlan(options: PlanOptions): Promise<void> {
  if (options.cluster === undefined) {
    refuseWithoutCluster(options);
    return showGridPlan(options);
  }
  const { cluster, warnings } = readCluster(options.cluster);
  for (const warning of warnings) note(`fallow: ${warning}`);
  const made = makePlan(cluster, { options, warnings });
  if (options.html !== undefined) {
    const madeBy = `fallow ${packageVersion()}: fallow plan --objective ${options.objective} --seed ${options.seed}`;
    writeReport(options.html, planReportHtml({ ...made, notes: warnings, madeBy }));
  }
  if (options.json === true) printJson(planJson(made));
  else printText(planText(made));
  if (options.html !== undefined) note(`fallow: the report is in ${options.html}`);
}

/** The grid plans by itself: what is said to the planner here would change nothing there. */
function refuseWithoutCluster(options: PlanOptions): void {
  const [name] = NEED_CLUSTER.filter((option) => options[option] !== undefined);
  if (name === undefined) return;
  const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new CliError(`${flag} belongs to planning a cluster file, and no --cluster is given`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: `add --cluster FILE, or leave ${flag} out to see the grid's own plan`,
  });
}

function makePlan(
  cluster: Cluster,
  from: { readonly options: PlanOptions; readonly warnings: readonly string[] },
): MadePlan {
  const { options, warnings } = from;
  const previous = options.previous === undefined ? null : readLayoutFile(options.previous, cluster).layout;
  const line = openStepLine();
  const steps: SearchStep[] = [];
  const startedUs = process.cpuUsage().user;
  const outcome = planLayout({
    cluster,
    goals: goalsOf(options),
    rules: rulesOf(options),
    seed: options.seed,
    previous,
    onImproved: (step) => {
      steps.push(step);
      line.step(`planning: ${readable(step.evaluations)} layouts looked at, score ${readable(step.score)}`);
    },
  });
  line.end();
  const cpuSeconds = (process.cpuUsage().user - startedUs) / MICRO_USD;
  if (!outcome.ok) {
    const { code, message, refusedNodes } = outcome.reason;
    const shown = refusedNodes.slice(0, REFUSED_SHOWN_MAX).map(({ node, lacks }) => `${node}: ${lacks}`);
    throw new CliError([`there is no plan: ${message}`, ...shown].join("\n  "), {
      exitCode: EXIT.refused,
      code,
      fix: "give the cluster more nodes or links, or loosen the limits of this command",
    });
  }
  const { objective, seed } = options;
  const isPartialAllowed = options.partial === true;
  return { cluster, plan: outcome.value, objective, seed, cpuSeconds, isPartialAllowed, steps, warnings };
}

function goalsOf(options: PlanOptions): Partial<PlanGoals> {
  return {
    objective: options.objective,
    ...(options.demand === undefined ? {} : { demandTokensPerSecond: options.demand }),
    ...(options.horizon === undefined ? {} : { horizonHours: options.horizon }),
  };
}

function rulesOf(options: PlanOptions): Partial<PlanRules> {
  return {
    regionsAllowed: options.regions ?? null,
    trustMin: options.minTrust ?? 0,
    priceMicroUsdPerHourMax: options.maxPrice === undefined ? null : options.maxPrice * MICRO_USD,
    hopsMax: options.maxHops ?? null,
    slowHopsMax: options.maxWanHops ?? null,
    contextTokensMin: options.minContext ?? null,
    isSharedDomainForbidden: options.apart === true,
    isPartialAllowed: options.partial === true,
  };
}

function planText({ cluster, plan, cpuSeconds, objective, seed }: MadePlan): string {
  const { serving, survival } = plan.parts;
  const summary = fields([
    ["cluster", `${cluster.name}: ${cluster.nodes.length} nodes, ${cluster.model.layerCount} layers`],
    [
      "expected",
      `${readable(serving.decodeTokensPerSecond)} tok/s generated, ${readable(serving.requestSeconds)} s a request`,
    ],
    ["flow", `${readable(plan.flow.tokensPerSecond)} tok/s`],
    ["bound", `${readable(plan.upperBoundTokensPerSecond)} tok/s, gap ${(plan.gapShare * 100).toFixed(1)} %`],
    [
      "most flow",
      `${readable(plan.mostFlow.tokensPerSecond)} tok/s is the most that any layout found carries; those serve no more`,
    ],
    ["hops", `${readable(serving.hopsMean)}, of them ${readable(serving.slowHopsMean)} over slow links`],
    ["survival", `${(survival * 100).toFixed(1)} % that every layer keeps a holder`],
    ["found by", `${plan.construction}, ${objective}, seed ${seed}, ${cpuSeconds.toFixed(2)} CPU-s`],
  ]);
  return `${summary}\n${layoutTable(cluster, plan)}\n${explanationText(plan)}`;
}

function layoutTable(cluster: Cluster, plan: LayoutPlan): string {
  const rows = cluster.nodes
    .map((node) => ({ node, held: plan.layout.get(node.id) ?? null }))
    .toSorted((a, b) => (a.held?.first ?? cluster.model.layerCount) - (b.held?.first ?? cluster.model.layerCount));
  return table(
    [
      { title: "NODE" },
      { title: "MACHINE" },
      { title: "REGION", dropOrder: 1 },
      { title: "LAYERS" },
      { title: "FLOW TOK/S", isRight: true },
    ],
    rows.map(({ node, held }) => [
      node.id,
      node.machine.name,
      node.region ?? "-",
      held === null ? "none" : `${held.first}-${held.end - 1}`,
      readable(plan.flow.nodeTokensPerSecond.get(node.id) ?? 0),
    ]),
    "the cluster has no nodes",
  );
}

function explanationText(plan: LayoutPlan): string {
  const { refusedByConstraint, losers } = plan.explanation;
  const bottlenecks = plan.flow.bottlenecks
    .map((cut) => (cut.kind === "node" ? cut.node : `${cut.from} -> ${cut.to}`))
    .slice(0, REFUSED_SHOWN_MAX);
  return [
    `limited by   ${bottlenecks.join(", ")}${plan.flow.bottlenecks.length > bottlenecks.length ? ", …" : ""}`,
    ...[...refusedByConstraint].map(([constraint, count]) => `kept out     ${count} by ${constraint}`),
    ...losers.map((loser) => `not chosen   ${loser.construction} (score ${readable(loser.score)}): ${loser.lacks}`),
    "",
  ].join("\n");
}
