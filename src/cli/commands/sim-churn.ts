/**
 * `fallow sim churn`: a grid whose machines come and go, planned by ours and by the ways it is compared with, over the same drawn
 * grids and requests. Means and intervals over the seeds, differences in pairs.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import {
  CHURN_METRIC_INFO,
  CHURN_METRICS,
  type ChurnKind,
  type ChurnPolicyName,
  type ChurnReport,
  type Interval,
} from "../../sim/churn/churn-report.ts";
import { runChurn } from "../../sim/churn/churn-run.ts";
import type { ChurnTraces } from "../../sim/churn/scenario/churn-traces.ts";
import { readChurnTraces } from "../../sim/churn/scenario/read-churn-traces.ts";
import { churnReportHtml } from "../../sim/report/churn-report-page.ts";
import { readable } from "../../sim/report/scale.ts";
import { CliError, systemCode } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { counted, table } from "../format.ts";
import { openStepLine } from "../step-line.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { packageVersion } from "../version.ts";
import { writeReport } from "../write-output.ts";

export interface SimChurnOptions {
  readonly traces?: string;
  readonly churn?: readonly ChurnKind[];
  readonly policies: readonly ChurnPolicyName[];
  readonly hours: number;
  readonly nodes: number;
  readonly requestsPerHour?: number;
  readonly seed: number;
  readonly seeds: number;
  readonly json?: boolean;
  readonly html?: string;
}

const TRACES_FIX =
  "name the folder that holds spot-traces/, azure-llm-2023/, alibaba-genai-2026/ and latency/ with --traces";
const OPTION_FIXES: Readonly<Record<string, string>> = {
  "trace-needed": `${TRACES_FIX}, or take --churn owners`,
  "trace-unreadable": TRACES_FIX,
  "churn-options-invalid": "see `fallow sim churn --help`",
};

export async function runSimChurn(options: SimChurnOptions): Promise<void> {
  const traces = options.traces === undefined ? null : readTraceFolder(options.traces);
  const kinds = options.churn ?? (traces === null ? ["owners"] : ["spot", "owners"]);
  const line = openStepLine();
  const report = refusingBadOptions(() =>
    runChurn({
      seeds: Array.from({ length: options.seeds }, (_, at) => options.seed + at),
      policies: options.policies,
      kinds,
      hours: options.hours,
      nodes: options.nodes,
      requestsPerHour: options.requestsPerHour ?? null,
      traces,
      onProgress: ({ done, of, run }) =>
        line.step(`run ${done} of ${of}: ${run.kind}, ${run.policy}, seed ${run.seed}`),
    }),
  );
  line.end();
  if (options.html !== undefined) {
    const madeBy = `fallow ${packageVersion()}: fallow sim churn --seed ${options.seed} --seeds ${options.seeds} --hours ${options.hours} --nodes ${options.nodes}`;
    writeReport(options.html, churnReportHtml(report, { madeBy, notes: [] }));
  }
  if (options.json === true) printJson(report);
  else print(report);
  if (options.html !== undefined) note(`fallow: the report is in ${options.html}`);
}

function readTraceFolder(folder: string): ChurnTraces {
  const listed = (path: string): readonly string[] => {
    try {
      return readdirSync(path);
    } catch (thrown) {
      if (systemCode(thrown) === "ENOENT") return [];
      throw thrown;
    }
  };
  if (listed(folder).length === 0) {
    throw new CliError(`${folder} is no folder of traces: it is missing, empty, or no folder`, {
      exitCode: EXIT.usage,
      code: "input-unreadable",
      fix: TRACES_FIX,
    });
  }
  return refusingBadOptions(() =>
    readChurnTraces({
      list: (path) => listed(join(folder, path)),
      read: (path) => readFileSync(join(folder, path)),
    }),
  );
}

/** What the simulator refuses is an option of this command; anything else is thrown on. */
function refusingBadOptions<T>(run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    const fix = thrown instanceof FallowError ? OPTION_FIXES[thrown.code] : undefined;
    if (!(thrown instanceof FallowError) || fix === undefined) throw thrown;
    throw new CliError(thrown.message, { exitCode: EXIT.usage, code: thrown.code, fix, cause: thrown });
  }
}

function print(report: ChurnReport): void {
  for (const label of report.labels) printLine(label);
  const kinds = [...new Set(report.cells.map(({ kind }) => kind))];
  for (const kind of kinds) {
    const cells = report.cells.filter((cell) => cell.kind === kind);
    const head = `${kind}: ${report.nodes} nodes, ${report.hours} h, ${readable(report.requestsPerHour)} requests an hour, ${counted(report.seeds.length, "seed")}, mean (95 % interval)`;
    printText(
      `\n${head}\n${table(
        [{ title: "FIGURE" }, ...cells.map(({ policy }) => ({ title: policy.toUpperCase(), isRight: true }))],
        CHURN_METRICS.map((metric) => [
          CHURN_METRIC_INFO[metric].label,
          ...cells.map(({ metrics }) => intervalText(metrics[metric])),
        ]),
        "no run",
      )}`,
    );
    const differences = report.differences.filter((difference) => difference.kind === kind);
    if (differences.length === 0) continue;
    printText(
      `\nours less the others, seed by seed\n${table(
        [
          { title: "FIGURE" },
          ...differences.map(({ against }) => ({ title: `LESS ${against.toUpperCase()}`, isRight: true })),
        ],
        CHURN_METRICS.map((metric) => [
          CHURN_METRIC_INFO[metric].label,
          ...differences.map(({ metrics, verdicts }) => `${intervalText(metrics[metric])} ${verdicts[metric]}`),
        ]),
        "",
      )}`,
    );
  }
}

function intervalText({ mean, low, high }: Interval): string {
  return `${readable(mean)} (${readable(low)} to ${readable(high)})`;
}
