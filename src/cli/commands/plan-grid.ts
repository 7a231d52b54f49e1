/** The plan that a running grid follows, with what it is worth, what it falls short of, and why nodes were left out. */
import { gridPlanSchema } from "../../coordinator/admin/plan-schema.ts";
import { counted, fields, formatBytes, formatDuration, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

type GridPlan = NonNullable<ReturnType<typeof gridPlanSchema.parse>["plan"]>;
type ModelPlan = GridPlan["models"][number];

const LOSERS_SHOWN_MAX = 5;

export async function showGridPlan(options: GlobalOptions): Promise<void> {
  const answer = await connectGrid(options).json("/admin/v1/plan", gridPlanSchema);
  if (options.json === true) return printJson(answer);
  const { plan } = answer;
  if (plan === null) return printLine("the grid has made no plan yet");
  printText(
    fields([
      ["made", `${formatDuration(plan.ageMs)} ago, in ${plan.tookMs} ms, over ${counted(plan.nodes, "node")}`],
      [
        "worth",
        `${usdPerHour(plan.objectiveMicroUsdPerHour)}; no plan can be worth more than ${usdPerHour(plan.boundMicroUsdPerHour)}`,
      ],
      ["gap", `${(plan.gap * 100).toFixed(1)} %`],
      ["orders", `${plan.loads} to load (${formatBytes(plan.movedBytes)} to move), ${plan.unloads} to unload`],
      ["held back", `${usdPerHour(plan.gainLeftMicroUsdPerHour)} that moves would have gained, below what they cost`],
    ]),
  );
  for (const model of plan.models) printText(`\n${model.modelId}\n${modelText(model)}`);
  if (plan.models.length === 0) printText("\nno model is registered; `fallow models add FILE.gguf` adds one\n");
}

function modelText(model: ModelPlan): string {
  const replicas = table(
    [
      { title: "NODES" },
      { title: "KIND" },
      { title: "QUANTISATION" },
      { title: "SLOTS", isRight: true },
      { title: "CONTEXT", isRight: true, dropOrder: 1 },
      { title: "TOK/S", isRight: true },
      { title: "ALONE", isRight: true },
      { title: "SPEED" },
      { title: "STATE" },
    ],
    model.replicas.map((replica) => [
      replica.stages === undefined ? replica.nodeIds.join(", ") : `${replica.stages.length} stages`,
      replica.kind,
      replica.quantisation,
      String(replica.slots),
      String(replica.contextTokens),
      replica.tokPerSecond.toFixed(0),
      replica.speed === null ? "-" : replica.speed.loneTokPerSecond.toFixed(0),
      speedText(replica.speed),
      replica.isHeld ? "held" : "to load",
    ]),
    "no replica is planned",
  );
  const rates = `wanted ${rate(model.demandTokPerSecond)}, planned ${rate(model.capacityTokPerSecond)}, kept warm ${model.warmReplicas}`;
  const kept = Object.entries(model.losers).map(([constraint, count]) => `${count} by ${constraint}`);
  const losers = model.bestLosers.slice(0, LOSERS_SHOWN_MAX).map(({ nodeId, reason, gainMicroUsdPerHour }) => {
    const gain = gainMicroUsdPerHour === null ? "" : `, would add ${usdPerHour(gainMicroUsdPerHour)}`;
    return `  not chosen  ${nodeId}: ${reason}${gain}\n`;
  });
  const stages = model.replicas.flatMap((replica) =>
    (replica.stages ?? []).map(({ nodeId, first, count }, at) => {
      const layers = count === 1 ? `layer ${first}` : `layers ${first}-${first + count - 1}`;
      return `  stage ${String(at + 1).padEnd(5)} ${layers} on ${nodeId}\n`;
    }),
  );
  const rest = model.replicaCount - model.replicas.length;
  return `${replicas}${rest > 0 ? `  and ${rest} more\n` : ""}${stages.join("")}  ${rates}\n${kept.length === 0 ? "" : `  left out    ${kept.join(", ")}\n`}${losers.join("")}`;
}

/** How the speed is known: what the node did, its own measurement, its card's data sheet, or nothing. */
function speedText(speed: ModelPlan["replicas"][number]["speed"]): string {
  if (speed === null) return "-";
  return speed.attempts === 0 ? speed.source : `${speed.source}, ${speed.attempts} seen`;
}

function rate(tokPerSecond: number): string {
  return `${tokPerSecond.toFixed(1)} tok/s`;
}

function usdPerHour(microUsd: number): string {
  return `${usd(Math.round(microUsd))} USD/h`;
}
