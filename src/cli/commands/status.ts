import { type GridStatus, statusSchema } from "../../coordinator/admin/admin-schemas.ts";
import { formatUsd, microUsd } from "../../domain/money.ts";
import { fields, formatDuration } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printText } from "../terminal.ts";
import { modelTable, nodeTable, replicaTable } from "./tables.ts";

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
      ["charged", `${formatUsd(microUsd(ledger.chargedMicroUsd))} USD`],
      ["available", `${formatUsd(microUsd(ledger.availableMicroUsd))} USD`],
    ]),
  );
  printText(`\nNodes\n${nodeTable(status.nodes)}`);
  printText(`\nReplicas\n${replicaTable(status.replicas)}`);
  printText(`\nModels\n${modelTable(status.models)}`);
}

function planText(plan: GridStatus["plan"]): string {
  if (plan === undefined || plan === null) return "none yet";
  return `gap ${(plan.gap * 100).toFixed(1)} %, ${formatDuration(plan.ageMs)} old; \`fallow plan\` tells more`;
}
