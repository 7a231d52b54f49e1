/** The page of a churn run: each way of planning with its mean and interval, and how far ours lies from the others. */
import {
  CHURN_METRIC_INFO,
  CHURN_METRICS,
  type ChurnDifference,
  type ChurnKind,
  type ChurnMetric,
  type ChurnReport,
  type Interval,
} from "../churn/churn-report.ts";
import { intervalPlot } from "./interval-plot.ts";
import { linePlot } from "./line-plot.ts";
import { type Content, el, type Markup } from "./markup.ts";
import { htmlTable, pageHtml, section } from "./page.ts";
import { readable } from "./scale.ts";

/** Those whose intervals are drawn; the table has all. */
const DRAWN: readonly ChurnMetric[] = ["goodputTokPerSecond", "sloAttainment", "coldStarts", "movedGb"];
const KIND_TITLES: Readonly<Record<ChurnKind, string>> = {
  spot: "Spot machines (measured series)",
  owners: "Machines of owners (synthetic)",
};

export function churnReportHtml(
  report: ChurnReport,
  more: { readonly madeBy: string; readonly notes: readonly string[] },
): string {
  const kinds = [...new Set(report.cells.map(({ kind }) => kind))];
  const seeds = report.seeds.length;
  return pageHtml({
    title: "A grid that comes and goes",
    subtitle:
      `${report.nodes} nodes, ${report.hours} h, ${readable(report.requestsPerHour)} requests an hour, ` +
      `${seeds === 1 ? "1 seed" : `${seeds} seeds`}; means with 95 % intervals over the seeds`,
    notes: [...report.labels, ...more.notes],
    sections: [
      ...kinds.flatMap((kind) => kindSections(report, kind)),
      section(
        "What the figures mean",
        "",
        htmlTable(
          [{ title: "Figure" }, { title: "Meaning" }],
          CHURN_METRICS.map((metric) => [CHURN_METRIC_INFO[metric].label, CHURN_METRIC_INFO[metric].meaning]),
          "",
        ),
        bounds(report),
      ),
    ],
    footer: more.madeBy,
  });
}

function kindSections(report: ChurnReport, kind: ChurnKind): Markup[] {
  const cells = report.cells.filter((cell) => cell.kind === kind);
  const policies = cells.map(({ policy }) => policy);
  const colours = new Map(policies.map((policy, at) => [policy, at]));
  const plots = DRAWN.map((metric) =>
    intervalPlot({
      title: CHURN_METRIC_INFO[metric].label,
      label: `${CHURN_METRIC_INFO[metric].label}; ${betterText(metric)}`,
      rows: cells.map(({ policy, metrics }) => ({
        name: policy,
        ...metrics[metric],
        colour: colours.get(policy) ?? 0,
      })),
    }),
  );
  const differences = report.differences.filter((difference) => difference.kind === kind);
  return [
    section(
      KIND_TITLES[kind],
      "Mean over the seeds, and the interval that holds the true mean with 95 % confidence.",
      el("div", { class: "pair" }, ...plots),
      htmlTable(
        [{ title: "Figure" }, ...policies.map((policy) => ({ title: policy, isNumber: true }))],
        CHURN_METRICS.map((metric) => [
          CHURN_METRIC_INFO[metric].label,
          ...cells.map(({ metrics }) => intervalCell(metrics[metric])),
        ]),
        "No run.",
      ),
    ),
    ...(differences.length === 0 ? [] : [differenceSection(differences)]),
    ...history(report, kind),
  ];
}

function betterText(metric: ChurnMetric): string {
  const { better } = CHURN_METRIC_INFO[metric];
  return better === "neither" ? "neither side is better" : `${better} is better`;
}

function intervalCell({ mean, low, high }: Interval): Content {
  return el("span", {}, readable(mean), el("span", { class: "block soft" }, `${readable(low)} to ${readable(high)}`));
}

function differenceSection(differences: readonly ChurnDifference[]): Markup {
  return section(
    "Ours less the others",
    "Seed by seed, on the same grid and load. “open”: the interval holds 0, so these seeds do not tell.",
    htmlTable(
      [{ title: "Figure" }, ...differences.map(({ against }) => ({ title: `ours − ${against}`, isNumber: true }))],
      CHURN_METRICS.map((metric) => [
        CHURN_METRIC_INFO[metric].label,
        ...differences.map(({ metrics, verdicts }) => differenceCell(metrics[metric], verdicts[metric])),
      ]),
      "",
    ),
  );
}

function differenceCell({ mean, low, high }: Interval, verdict: ChurnDifference["verdicts"][ChurnMetric]): Content {
  const tone = verdict === "better" ? "good" : verdict === "worse" ? "bad" : "soft";
  return el(
    "span",
    {},
    signed(mean),
    ...(verdict === "neither" ? [] : [el("span", { class: tone }, ` ${verdict}`)]),
    el("span", { class: "block soft" }, `${signed(low)} to ${signed(high)}`),
  );
}

function signed(value: number): string {
  return value > 0 ? `+${readable(value)}` : readable(value).replace("-", "−");
}

/** The first seed's course, all policies over the same grid. */
function history(report: ChurnReport, kind: ChurnKind): Markup[] {
  const [seed] = report.seeds;
  const runs = report.runs.filter((run) => run.kind === kind && run.seed === seed);
  const [first] = runs;
  if (first === undefined || first.series.length < 2) return [];
  const hours = (minutes: number) => minutes / 60;
  return [
    section(
      `Course of seed ${seed}`,
      "The grid is the same for all; what they make of it is not.",
      el(
        "div",
        { class: "pair" },
        linePlot({
          title: "Machines that are there",
          x: { label: "hours" },
          y: { label: "nodes", from: 0 },
          lines: [
            {
              name: "nodes",
              isStepped: true,
              points: first.series.map((point) => [hours(point.atMinutes), point.nodesUp]),
            },
          ],
        }),
        linePlot({
          title: "Goodput",
          x: { label: "hours" },
          y: { label: "tok/s", from: 0 },
          lines: runs.map((run) => ({
            name: run.policy,
            points: run.series.map((point) => [hours(point.atMinutes), point.goodputTokPerSecond]),
          })),
        }),
      ),
    ),
  ];
}

function bounds(report: ChurnReport): Markup {
  const seconds = (ms: number) => readable(ms / 1_000);
  return htmlTable(
    [
      { title: "Tier" },
      { title: "first token, s", isNumber: true },
      { title: "each token, s", isNumber: true },
      { title: "given up after, s", isNumber: true },
    ],
    Object.entries(report.bounds).map(([tier, { firstTokenMs, perTokenMs, patienceMs }]) => [
      tier,
      seconds(firstTokenMs),
      seconds(perTokenMs),
      seconds(patienceMs),
    ]),
    "",
  );
}
