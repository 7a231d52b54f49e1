import { type GridStatus, statusSchema } from "../../coordinator/admin/admin-schemas.ts";
import { formatUsd, microUsd } from "../../domain/money.ts";
import { fields, formatBytes, formatDuration } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printText } from "../terminal.ts";
import { modelTable, nodeTable, replicaTable, warningLines, weightsTable } from "./tables.ts";

export async function showStatus(options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const status = await grid.json("/admin/v1/status", statusSchema);
  if (options.json === true) return printJson(status);
  const { requests, ledger } = status;
  printText(
    fields([
      ["grid", status.gridId],
      ["public key", status.publicKeyHex],
      ["address", grid.url],
      ["version", status.version],
      ["up for", formatDuration(status.nowMs - status.startedAtMs)],
      ["requests", `${requests.inFlight} in flight, ${requests.queued} queued, ${requests.settled} settled`],
      ["plan", planText(status.plan)],
      ["weights sent", weightsText(status.weights)],
      ["charged", `${formatUsd(microUsd(ledger.chargedMicroUsd))} USD`],
      ["available", `${formatUsd(microUsd(ledger.availableMicroUsd))} USD`],
    ]),
  );
  printText(`\nNodes\n${nodeTable(status.nodes)}`);
  printText(`\nReplicas\n${replicaTable(status.replicas)}`);
  printText(`\nModels\n${modelTable(status.models)}`);
  if (status.weights?.some(({ nodes }) => nodes.length > 0) === true) {
    printText(`\nWeights\n${weightsTable(status.weights)}`);
  }
  printText(warningLines(status.nodes));
}

function weightsText(weights: GridStatus["weights"]): string {
  const sum = (of: "sourceBytes" | "peerBytes") => (weights ?? []).reduce((total, row) => total + row[of], 0);
  return `${formatBytes(sum("sourceBytes"))} by the coordinator, ${formatBytes(sum("peerBytes"))} by nodes to each other`;
}

function planText(plan: GridStatus["plan"]): string {
  if (plan === undefined || plan === null) return "none yet";
  return `gap ${(plan.gap * 100).toFixed(1)} %, ${formatDuration(plan.ageMs)} old; \`fallow plan\` tells more`;
}
