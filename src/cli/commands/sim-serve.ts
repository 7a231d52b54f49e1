/**
 * `fallow sim serve`: a cluster, a layout and a trace of requests in; tokens per second, latencies and bottlenecks out.
 */

import type { PlanGoals } from "../../scheduler/layout/plan-goals.ts";
import type { RouterName } from "../../scheduler/routing/router.ts";
import { readable } from "../../sim/report/scale.ts";
import { servingReportHtml } from "../../sim/report/serving-report.ts";
import { type ServingOutcome, simulateServing } from "../../sim/serving/serving-run.ts";
import { readRequestTrace } from "../../sim/traces/request-trace.ts";
import { layoutEntries } from "../../wire/layout-file.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { fields, table } from "../format.ts";
import { type InputKind, inputName, readInput } from "../read-input.ts";
import { openStepLine } from "../step-line.ts";
import { note, printJson, printText } from "../terminal.ts";
import { packageVersion } from "../version.ts";
import { writeReport } from "../write-output.ts";
import { type ClusterInput, readCluster, taken } from "./cluster-input.ts";
import { type NamedLayout, resolveLayout } from "./serving-layout.ts";

export interface SimServeOptions {
  readonly cluster: string;
  readonly layout: string;
  readonly trace: string;
  readonly mode: "offline" | "online";
  readonly warmupS: number;
  readonly durationS: number;
  readonly seed: number;
  readonly router?: RouterName;
  readonly rate?: number;
  readonly inFlight?: number;
  readonly objective: PlanGoals["objective"];
  readonly json?: boolean;
  readonly html?: string;
}

const TRACE_KIND: InputKind = {
  what: "trace of requests",
  // The largest of the known ones unpacks to 1 MB.
  bytesMax: 512 * 1024 * 1024,
  fix: "name a table with TIMESTAMP,ContextTokens,GeneratedTokens, or JSON lines of the Mooncake traces; either may be gzip",
};
/** Bottlenecks and nodes on the terminal; JSON and the report have all. */
const ROWS_SHOWN_MAX = 12;

export async function runSimServe(options: SimServeOptions): Promise<void> {
  const input = readCluster(options.cluster);
  const trace = taken(readRequestTrace(readInput(options.trace, TRACE_KIND)), {
    file: options.trace,
    fix: TRACE_KIND.fix,
  });
  const line = openStepLine();
  const layout = resolveLayout(input.cluster, options, (step) =>
    line.step(`planning: ${readable(step.evaluations)} layouts looked at, score ${readable(step.score)}`),
  );
  const warnings = [...input.warnings, ...layout.warnings];
  line.step(`simulating ${options.warmupS + options.durationS} s`);
  const result = simulateServing({
    cluster: input.cluster,
    layout: layout.layout,
    router: layout.router,
    trace: trace.requests,
    mode: options.mode,
    warmupS: options.warmupS,
    durationS: options.durationS,
    seed: String(options.seed),
    ...layout.settings,
    ...(options.rate === undefined ? {} : { arrivalTokensPerSecond: options.rate }),
    ...(options.inFlight === undefined ? {} : { offlineRequests: options.inFlight }),
  });
  line.end();
  for (const warning of warnings) note(`fallow: ${warning}`);
  if (!result.ok) {
    throw new CliError(result.reason.message, {
      exitCode: EXIT.refused,
      code: result.reason.code,
      fix: result.reason.code === "no-way" ? "take another layout, or plan one with `fallow plan`" : TRACE_KIND.fix,
    });
  }
  report({ input, layout, warnings, outcome: result.outcome, options });
}

interface Served {
  readonly input: ClusterInput;
  readonly layout: NamedLayout;
  readonly warnings: readonly string[];
  readonly outcome: ServingOutcome;
  readonly options: SimServeOptions;
}

function report(served: Served): void {
  const { options } = served;
  if (options.html !== undefined) writeReport(options.html, htmlOf(served));
  if (options.json === true) printJson(jsonOf(served));
  else printText(textOf(served));
  if (options.html !== undefined) note(`fallow: the report is in ${options.html}`);
}

function htmlOf({ input, layout, warnings, outcome, options }: Served): string {
  return servingReportHtml({
    cluster: input.cluster,
    layout: layout.layout,
    layoutName: layout.name,
    router: layout.router,
    mode: options.mode,
    warmupS: options.warmupS,
    durationS: options.durationS,
    seed: String(options.seed),
    traceName: inputName(options.trace),
    outcome,
    notes: warnings,
    madeBy: `fallow ${packageVersion()}: fallow sim serve --layout ${layout.name} --router ${layout.router} --mode ${options.mode} --seed ${options.seed}`,
  });
}

/** Latency samples stay out: they are as long as the run. */
function jsonOf({ input, layout, warnings, outcome, options }: Served) {
  const { promptLatencySamplesS: _prompts, decodeLatencySamplesS: _decodes, ...figures } = outcome;
  return {
    ...figures,
    cluster: input.cluster.name,
    layout: { name: layout.name, nodes: layoutEntries(layout.layout, input.cluster) },
    router: layout.router,
    mode: options.mode,
    warmupS: options.warmupS,
    durationS: options.durationS,
    seed: options.seed,
    trace: inputName(options.trace),
    warnings,
  };
}

function textOf({ input, layout, outcome, options }: Served): string {
  const of = (latency: ServingOutcome["promptLatencyS"]) =>
    `p50 ${latency.p50 === null ? "-" : readable(latency.p50)} s, p95 ${latency.p95 === null ? "-" : readable(latency.p95)} s`;
  const { counts } = outcome;
  const summary = fields([
    ["cluster", `${input.cluster.name}: ${input.cluster.nodes.length} nodes, ${input.cluster.model.layerCount} layers`],
    [
      "run",
      `layout ${layout.name}, router ${layout.router}, ${options.mode}, ${options.warmupS} s + ${options.durationS} s, seed ${options.seed}`,
    ],
    [
      "answers",
      `${readable(outcome.decodeTokensPerSecond)} tok/s generated, ${readable(outcome.promptTokensPerSecond)} tok/s of prompts`,
    ],
    ["first token", of(outcome.promptLatencyS)],
    ["next token", of(outcome.decodeLatencyS)],
    ["flow", `${readable(outcome.flow)} tok/s`],
    [
      "requests",
      `${counts.came} came, ${counts.ended} ended, ${counts.dropped} dropped, ${counts.evictions} lost their KV cache`,
    ],
    [
      "limited by",
      outcome.bottlenecks
        .slice(0, ROWS_SHOWN_MAX)
        .map((cut) => (cut.kind === "node" ? cut.node : `${cut.from} -> ${cut.to}`))
        .join(", "),
    ],
  ]);
  const busiest = outcome.nodes
    .toSorted((a, b) => b.busyShare - a.busyShare || (a.id < b.id ? -1 : 1))
    .slice(0, ROWS_SHOWN_MAX);
  const nodes = table(
    [
      { title: "BUSIEST NODES" },
      { title: "BUSY", isRight: true },
      { title: "KV PEAK", isRight: true },
      { title: "TOK/S", isRight: true },
      { title: "BATCH", isRight: true, dropOrder: 1 },
    ],
    busiest.map((node) => [
      node.id,
      `${(node.busyShare * 100).toFixed(0)} %`,
      `${(node.kvPeakShare * 100).toFixed(0)} %`,
      readable(node.tokensPerSecond),
      readable(node.batchMean),
    ]),
    "no node holds layers",
  );
  return `${summary}\n${nodes}`;
}
