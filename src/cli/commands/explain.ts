import { type ChainStageRow, chainListSchema } from "../../coordinator/admin/chain-schema.ts";
import { type ExplainedRow, explainAnswerSchema } from "../../coordinator/admin/explain-row.ts";
import { formatUsd, microUsd } from "../../domain/money.ts";
import { fields, formatDuration, formatTime, plain, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printLine, printText } from "../terminal.ts";

type Decision = ExplainedRow["choices"][number]["decisions"][number];

/** Why a request went where it went; the grid answers with an error when it is not among the last ones. */
export async function explainRequest(requestId: string, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const path = `/admin/v1/requests/${encodeURIComponent(requestId)}/explain`;
  const { request } = await grid.json(path, explainAnswerSchema);
  if (options.json === true) return printJson(request);
  const { chains } = await grid.json("/admin/v1/chains", chainListSchema);
  const stagesOf = (nodeId: string | null) =>
    chains.find(({ modelId, stages }) => modelId === request.modelId && stages.at(-1)?.nodeId === nodeId)?.stages ?? [];
  printText(
    fields([
      ["request", request.requestId],
      ["model", request.modelId],
      ["tier", request.tier],
      ["asked", `${formatTime(request.askedAtMs)} UTC`],
      ["rules", rulesText(request)],
    ]),
  );
  for (const choice of request.choices) {
    const waited = choice.waitedMs === null ? "no lease yet" : `first lease after ${formatDuration(choice.waitedMs)}`;
    printLine(`\nChoice ${choice.choice}: ${plain(choice.state)}; ${choice.tokensNeeded} tokens of context; ${waited}`);
    for (const [at, attempt] of choice.attempts.entries()) printLine(`  attempt ${at + 1} ended: ${plain(attempt)}`);
    for (const decision of choice.decisions) printDecision(decision, stagesOf(decision.nodeId));
    if (choice.decisionsLeftOut > 0) printLine(`  ${choice.decisionsLeftOut} decisions in between were not kept`);
  }
}

/** `stages`: of the chain that the node's stage stands for; none of a whole model. */
function printDecision(decision: Decision, stages: readonly ChainStageRow[]): void {
  const { kind, afterMs, untilMs, times, nodeId, leaseId, because } = decision;
  const when = times === 1 ? `after ${afterMs} ms` : `${times} times from ${afterMs} to ${untilMs} ms`;
  const where = nodeId === null ? "" : ` on ${nodeId} (${leaseId})`;
  printLine(`\n  ${kind}${where}, ${when}${because === null ? "" : `, because: ${plain(because)}`}`);
  if (stages.length > 0) printLine(`    ${stageLine(stages)}`);
  if (decision.candidates.length > 0) {
    const columns = [
      { title: "NODE" },
      { title: "SCORE MS", isRight: true },
      { title: "LEASED", isRight: true },
      { title: "PARTS IN MS" },
    ];
    const rows = decision.candidates.map(({ nodeId: node, scoreMs, slotsLeased, slots, parts }) => [
      node,
      scoreMs.toFixed(1),
      `${slotsLeased} of ${slots}`,
      partsText(parts),
    ]);
    printText(indented(table(columns, rows, "")));
  }
  printLine(`    ${losersText(decision)}`);
}

function stageLine(stages: readonly ChainStageRow[]): string {
  const places = stages.map(
    ({ first, count, nodeName }) => `${first}-${first + count - 1} on ${plain(nodeName ?? "no node")}`,
  );
  return `as the last of ${stages.length} stages: layers ${places.join(", ")}`;
}

/** Parts that are zero tell no two candidates apart. */
function partsText(parts: Decision["candidates"][number]["parts"]): string {
  return Object.entries(parts)
    .filter(([, part]) => Math.abs(part) >= 0.05)
    .map(([name, part]) => `${name} ${part.toFixed(1)}`)
    .join(", ");
}

function losersText({ turnedAway, replicas, scored, isComplete }: Decision): string {
  const rules = turnedAway.map(({ rule, replicas: turned }) => `${rule}: ${turned}`).join(", ");
  const counted = isComplete ? "" : " (of those that the search met)";
  const turned = rules === "" ? "none turned away" : `turned away${counted}: ${rules}`;
  return `${replicas} replicas of the model, ${scored} scored, ${turned}`;
}

function rulesText({ constraints }: ExplainedRow): string {
  if (constraints === null) return "none";
  const { regions, trustMin, priceMicroUsdPerHourMax, excludedRegions } = constraints;
  return [
    ...(regions === null ? [] : [`regions ${regions.join(", ")}`]),
    ...(excludedRegions.length === 0 ? [] : [`not in ${excludedRegions.join(", ")}`]),
    ...(trustMin === null ? [] : [`trust at least ${trustMin}`]),
    ...(priceMicroUsdPerHourMax === null
      ? []
      : [`at most ${formatUsd(microUsd(priceMicroUsdPerHourMax))} USD an hour`]),
  ].join("; ");
}

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "    ");
}
