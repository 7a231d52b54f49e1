/** The page of one plan: what it is expected to give, where the layers went, what limits it, and why other layouts lost. */
import type { Cluster } from "../../domain/cluster.ts";
import type { SearchStep } from "../../scheduler/layout/layout-score.ts";
import type { PlanGoals } from "../../scheduler/layout/plan-goals.ts";
import type { LayoutPlan } from "../../scheduler/layout/plan-layout.ts";
import { layoutMap } from "./layout-map.ts";
import { linePlot } from "./line-plot.ts";
import { el, type Markup } from "./markup.ts";
import { htmlTable, pageHtml, section, type Tile, tiles } from "./page.ts";
import { percent, readable } from "./scale.ts";
import { shareBars } from "./share-bars.ts";

export interface PlanReport {
  readonly cluster: Cluster;
  readonly plan: LayoutPlan;
  readonly objective: PlanGoals["objective"];
  readonly seed: number;
  readonly cpuSeconds: number;
  /** The search's steps forward, in order. */
  readonly steps: readonly SearchStep[];
  readonly notes: readonly string[];
  readonly madeBy: string;
}

const SCORE_TITLES: Readonly<Record<PlanGoals["objective"], string>> = {
  throughput: "Score (tokens per second, less risk and cost)",
  latency: "Score (seconds of a request, negative)",
  flow: "Score (flow, tokens per second)",
};
const EDGES_SHOWN_MAX = 24;
const ROWS_SHOWN_MAX = 40;

export function planReportHtml(report: PlanReport): string {
  const { cluster, plan } = report;
  return pageHtml({
    title: `Plan for ${cluster.name}`,
    subtitle:
      `${cluster.nodes.length} nodes, a model of ${cluster.model.layerCount} layers; objective ${report.objective}, seed ${report.seed}; ` +
      `construction “${plan.construction}”, ${readable(plan.evaluations)} layouts looked at in ${readable(report.cpuSeconds)} CPU-seconds`,
    notes: report.notes,
    sections: [
      tiles(figures(plan)),
      section("Layout", "Which node holds which layers.", layoutMap({ cluster, layout: plan.layout })),
      section(
        "Flow",
        "What passes each node when the layout carries all that it can, against the node's rate with its layers.",
        flowBars(report),
      ),
      section(
        "Bottlenecks",
        "A smallest set of nodes and links that limits the flow: only widening one of these lets more through.",
        bottlenecks(plan),
      ),
      section("The widest ways", "", edges(plan)),
      section(
        "Search",
        "Score of the best layout so far; the constructions come first, then annealing.",
        convergence(report),
      ),
      section("Why not otherwise", "", ...explanation(report)),
    ],
    footer: report.madeBy,
  });
}

function figures(plan: LayoutPlan): Tile[] {
  const { serving, survival } = plan.parts;
  return [
    {
      label: "Expected answers",
      value: readable(serving.decodeTokensPerSecond),
      unit: "tok/s",
      remark: "generated, with all room in use",
    },
    {
      label: "Flow",
      value: readable(plan.flow.tokensPerSecond),
      unit: "tok/s",
      remark: "prompt and answer, without queues",
    },
    {
      label: "Bound",
      value: readable(plan.upperBoundTokensPerSecond),
      unit: "tok/s",
      remark: `no layout flows more; gap ${percent(plan.gapShare)}`,
    },
    {
      label: "Request",
      value: readable(serving.requestSeconds),
      unit: "s",
      remark: `pass of a token ${readable(serving.passSeconds)} s`,
    },
    {
      label: "Hops",
      value: readable(serving.hopsMean),
      unit: "",
      remark: `of them ${readable(serving.slowHopsMean)} over slow links`,
    },
    { label: "Survives the horizon", value: percent(survival), unit: "", remark: "every layer keeps a holder" },
  ];
}

function flowBars({ cluster, plan }: PlanReport): Markup {
  const rows = cluster.nodes.flatMap((node) => {
    const held = plan.layout.get(node.id);
    if (held === undefined) return [];
    const rate = node.machine.tokensPerSecondByLayers[held.end - held.first] ?? 0;
    const flow = plan.flow.nodeTokensPerSecond.get(node.id) ?? 0;
    const remark = `${readable(flow)} of ${readable(rate)} tok/s`;
    return [{ label: `${node.id} · ${node.machine.name}`, share: rate > 0 ? flow / rate : 0, mark: null, remark }];
  });
  rows.sort((a, b) => b.share - a.share);
  return shareBars({
    title: "Nodes",
    shareName: "flow through the node, as a share of its rate",
    markName: null,
    rows,
  });
}

function bottlenecks(plan: LayoutPlan): Markup {
  return htmlTable(
    [{ title: "What" }, { title: "Which" }, { title: "tok/s", isNumber: true }],
    plan.flow.bottlenecks
      .slice(0, ROWS_SHOWN_MAX)
      .map((cut) => [
        cut.kind,
        cut.kind === "node" ? cut.node : `${cut.from} → ${cut.to}`,
        readable(cut.tokensPerSecond),
      ]),
    "The layout carries nothing.",
  );
}

function edges(plan: LayoutPlan): Markup {
  const widest = plan.flow.edges.toSorted((a, b) => b.tokensPerSecond - a.tokensPerSecond).slice(0, EDGES_SHOWN_MAX);
  const rest = plan.flow.edges.length - widest.length;
  return el(
    "div",
    {},
    htmlTable(
      [{ title: "From" }, { title: "To" }, { title: "tok/s", isNumber: true }],
      widest.map(({ from, to, tokensPerSecond }) => [from, to, readable(tokensPerSecond)]),
      "None.",
    ),
    ...(rest > 0 ? [el("p", { class: "empty" }, `${rest} narrower ones are in the JSON.`)] : []),
  );
}

function convergence({ plan, steps, objective }: PlanReport): Markup {
  const last = { evaluations: plan.evaluations, score: steps.at(-1)?.score ?? plan.parts.score };
  return linePlot({
    title: SCORE_TITLES[objective],
    x: { label: "layouts looked at", from: 0 },
    y: { label: "score" },
    lines: [
      { name: "best so far", isStepped: true, points: [...steps, last].map((step) => [step.evaluations, step.score]) },
    ],
  });
}

function explanation({ plan }: PlanReport): Markup[] {
  const { refusedNodes, refusedByConstraint, idleNodes, losers } = plan.explanation;
  const refused = [...refusedByConstraint].map(([constraint, count]) => `${count} by ${constraint}`).join(", ");
  return [
    el("h3", {}, "Other constructions"),
    htmlTable(
      [{ title: "Construction" }, { title: "Score", isNumber: true }, { title: "What it lacks" }],
      losers.map((loser) => [loser.construction, readable(loser.score), loser.lacks]),
      "No other construction gave a layout that lets a request through.",
    ),
    el("h3", {}, "Nodes that no layout may use"),
    ...(refused === "" ? [] : [el("p", { class: "lead" }, refused)]),
    htmlTable(
      [{ title: "Node" }, { title: "Constraint" }, { title: "Because" }],
      refusedNodes.slice(0, ROWS_SHOWN_MAX).map(({ node, constraint, lacks }) => [node, constraint, lacks]),
      "None: every node may be used.",
    ),
    el("h3", {}, "Nodes left idle"),
    el(
      "p",
      { class: "empty" },
      idleNodes.length === 0 ? "None." : `${idleNodes.join(", ")}: no place was found where they raise the score.`,
    ),
  ];
}
