/** The page of one run of the serving simulator: what was served, how fast, and what it was limited by. */
import type { Cluster, Layout } from "../../domain/cluster.ts";
import type { NodeUse, ServingOutcome } from "../serving/serving-run.ts";
import { layoutMap } from "./layout-map.ts";
import { distribution, linePlot } from "./line-plot.ts";
import { el, type Markup } from "./markup.ts";
import { htmlTable, pageHtml, section, type Tile, tiles } from "./page.ts";
import { percent, readable } from "./scale.ts";
import { shareBars } from "./share-bars.ts";

export interface ServingReport {
  readonly cluster: Cluster;
  readonly layout: Layout;
  /** How the layout came about, e.g. `ours` or a file's name. */
  readonly layoutName: string;
  readonly router: string;
  readonly mode: "offline" | "online";
  readonly warmupS: number;
  readonly durationS: number;
  readonly seed: string;
  readonly traceName: string;
  readonly outcome: ServingOutcome;
  readonly notes: readonly string[];
  /** The command, with the version of the program. */
  readonly madeBy: string;
}

const LINKS_SHOWN_MAX = 40;
const BOTTLENECKS_SHOWN_MAX = 40;

export function servingReportHtml(report: ServingReport): string {
  const { cluster, outcome, mode } = report;
  return pageHtml({
    title: `Serving on ${cluster.name}`,
    subtitle:
      `${cluster.nodes.length} nodes, a model of ${cluster.model.layerCount} layers; layout “${report.layoutName}”, router “${report.router}”; ` +
      `${mode}, ${report.warmupS} s of warm-up and ${report.durationS} s measured, seed ${report.seed}, trace ${report.traceName}`,
    notes: report.notes,
    sections: [
      tiles(figures(outcome)),
      section(
        "Latencies",
        "Shares of requests (first token) and of tokens (every other one) that took at most so long, as the coordinator sees it.",
        latencies(outcome),
      ),
      section("Layout", "Which node holds which layers.", layoutMap({ cluster, layout: report.layout })),
      section("Use", "Over the measured time.", ...use(report)),
      section(
        "Bottlenecks",
        "A smallest set of nodes and links that limits the flow: only widening one of these lets more through.",
        bottlenecks(outcome),
      ),
      section("Counts", "Of the whole run, warm-up included, unless said otherwise.", counts(outcome)),
    ],
    footer: report.madeBy,
  });
}

function figures(outcome: ServingOutcome): Tile[] {
  const seconds = (value: number | null) => (value === null ? "–" : readable(value));
  const { promptLatencyS, decodeLatencyS } = outcome;
  return [
    {
      label: "Answers",
      value: readable(outcome.decodeTokensPerSecond),
      unit: "tok/s",
      remark: "generated, all requests",
    },
    { label: "Prompts", value: readable(outcome.promptTokensPerSecond), unit: "tok/s", remark: "read, all requests" },
    {
      label: "First token, p50",
      value: seconds(promptLatencyS.p50),
      unit: "s",
      remark: `p95 ${seconds(promptLatencyS.p95)} s`,
    },
    {
      label: "Next token, p50",
      value: seconds(decodeLatencyS.p50),
      unit: "s",
      remark: `p95 ${seconds(decodeLatencyS.p95)} s`,
    },
    {
      label: "Flow of the layout",
      value: readable(outcome.flow),
      unit: "tok/s",
      remark: "most that could pass, without queues",
    },
    { label: "Requests in flight", value: readable(outcome.inFlightMean), unit: "", remark: "mean" },
  ];
}

function latencies(outcome: ServingOutcome): Markup {
  const plotOf = (title: string, name: string, samples: Float64Array) =>
    samples.length === 0
      ? el("p", { class: "empty" }, `${title}: nothing was measured in the window.`)
      : linePlot({
          title: `${title} (${readable(samples.length)} measured)`,
          x: { label: "seconds", isLog: true },
          y: { label: "share at most so long", isPercent: true, from: 0, to: 1 },
          lines: [{ name, points: distribution(samples).filter(([x]) => x > 0) }],
          levels: [{ name: "p95", y: 0.95 }],
        });
  return el(
    "div",
    { class: "pair" },
    plotOf("Time to the first token", "first token", outcome.promptLatencySamplesS),
    plotOf("Time from token to token", "next token", outcome.decodeLatencySamplesS),
  );
}

function use({ cluster, outcome }: ServingReport): Markup[] {
  const machineOf = new Map(cluster.nodes.map(({ id, machine }) => [id, machine.name]));
  const nodes = [...outcome.nodes].sort((a, b) => b.busyShare - a.busyShare || (a.id < b.id ? -1 : 1));
  const nodeBars = shareBars({
    title: "Nodes",
    shareName: "time at work",
    markName: "largest part of the KV cache in use",
    rows: nodes.map((node) => ({
      label: `${node.id} · ${machineOf.get(node.id) ?? ""}`,
      share: node.busyShare,
      mark: node.kvPeakShare,
      remark: remarkOf(node),
    })),
  });
  if (outcome.links.length === 0)
    return [nodeBars, el("p", { class: "empty" }, "No link was busy for a twentieth of the time.")];
  const links = shareBars({
    title: "Links that were busy for a twentieth of the time or more",
    shareName: "time sending",
    markName: null,
    rows: outcome.links.slice(0, LINKS_SHOWN_MAX).map(({ from, to, busyShare }) => ({
      label: `${from} → ${to}`,
      share: busyShare,
      mark: null,
      remark: percent(busyShare),
    })),
  });
  return [nodeBars, links];
}

function remarkOf(node: NodeUse): string {
  return `${percent(node.busyShare)}, ${readable(node.tokensPerSecond)} tok/s, batch ${readable(node.batchMean)}`;
}

function bottlenecks(outcome: ServingOutcome): Markup {
  return htmlTable(
    [{ title: "What" }, { title: "Which" }, { title: "tok/s", isNumber: true }],
    outcome.bottlenecks
      .slice(0, BOTTLENECKS_SHOWN_MAX)
      .map((cut) => [
        cut.kind,
        cut.kind === "node" ? cut.node : `${cut.from} → ${cut.to}`,
        readable(cut.tokensPerSecond),
      ]),
    "The layout carries nothing.",
  );
}

function counts(outcome: ServingOutcome): Markup {
  const { counts: of } = outcome;
  const rows: readonly (readonly [string, number])[] = [
    ["requests that came", of.came],
    ["requests answered in full", of.ended],
    ["requests dropped for want of room", of.dropped],
    ["requests that lost their KV cache and began again", of.evictions],
    ["requests in flight at the end", of.inFlightAtEnd],
    ["requests that waited at the end", of.waitingAtEnd],
    ["prompts read within the measured time", of.promptsDone],
    ["prompt tokens read within the measured time", of.promptTokens],
    ["tokens generated within the measured time", of.decodeTokens],
  ];
  return htmlTable(
    [{ title: "What" }, { title: "Count", isNumber: true }],
    rows.map(([name, count]) => [name, readable(count)]),
    "",
  );
}
