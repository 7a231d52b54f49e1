/**
 * What an answer tells of where it came from. At its beginning: tier, node or provider, class of machine, region, and how long it waited. At its
 * end, in headers of a whole answer and in a comment line of a stream: cost, receipt, and energy where every node that worked stated its own.
 */
import type { AttemptRecord } from "../../../domain/attempt.ts";
import type { NodeId } from "../../../domain/ids.ts";
import { formatUsd } from "../../../domain/money.ts";
import type { SignedReceipt } from "../../../domain/receipt.ts";
import type { ServiceTier } from "../../../domain/tier.ts";
import { parseNodeStatement } from "../../../wire/receipt.ts";
import type { GatewayDeps } from "../gateway-options.ts";
import type { Settled } from "../settlement-port.ts";

export interface Beginning {
  readonly tier: ServiceTier;
  /** Where its first output came from: a node, or a cloud provider; null: nowhere yet. */
  readonly nodeId: NodeId | null;
  readonly providerId: string | null;
  /** From its acceptance to its start; null: not known. */
  readonly queuedMs: number | null;
}

export function beginningHeaders(
  deps: Pick<GatewayDeps, "nodes" | "cloud">,
  { tier, nodeId, providerId, queuedMs }: Beginning,
): Readonly<Record<string, string>> {
  const headers: Record<string, string> = { "x-grid-tier": tier };
  if (queuedMs !== null) headers["x-grid-queue-ms"] = String(Math.max(0, Math.round(queuedMs)));
  if (providerId !== null) {
    headers["x-grid-provider"] = providerId;
    headers["x-grid-node-class"] = "cloud";
    const spec = deps.cloud?.list().find((view) => view.spec.providerId === providerId)?.spec;
    if (spec !== undefined && spec.regions.length > 0) headers["x-grid-region"] = spec.regions.join(", ");
    return headers;
  }
  if (nodeId === null) return headers;
  headers["x-grid-node"] = nodeId;
  const label = deps.nodes?.label(nodeId) ?? null;
  if (label !== null) headers["x-grid-node-class"] = label.nodeClass;
  if (label !== null && label.region !== null) headers["x-grid-region"] = label.region;
  return headers;
}

/** What is known once an answer is settled. */
export interface EndFacts {
  readonly settled: Settled;
  /** Null: some node did not state what it used, which today none does. */
  readonly energyMilliJoules: number | null;
  /** Where the caller asked for the whole of it. */
  readonly receipt: SignedReceipt | null;
}

export function endHeaders({ settled, energyMilliJoules }: EndFacts): Readonly<Record<string, string>> {
  const cost = { "x-grid-receipt": settled.receiptId, "x-grid-cost-usd": formatUsd(settled.costMicroUsd) };
  return energyMilliJoules === null ? cost : { ...cost, "x-grid-energy-j": joules(energyMilliJoules) };
}

/** For a stream, whose headers are gone: clients skip comments. */
export function endComment({ settled, energyMilliJoules, receipt }: EndFacts): string {
  const energy = energyMilliJoules === null ? "" : ` energy_j ${joules(energyMilliJoules)}`;
  const line = `: receipt ${settled.receiptId} cost_usd ${formatUsd(settled.costMicroUsd)}${energy}\n`;
  return `${line}${receipt === null ? "" : `: grid_receipt ${JSON.stringify(receipt)}\n`}\n`;
}

/** The body of an answer with the receipt as `grid.receipt`, after all fields of its own. */
export function withReceipt(body: string, receipt: SignedReceipt | null): string {
  if (receipt === null || !body.endsWith("}")) return body;
  return `${body.slice(0, -1)},"grid":{"receipt":${JSON.stringify(receipt)}}}`;
}

/** Of the attempts that delivered something or finished; null where one of them did not say. */
export function energyOf(attempts: readonly AttemptRecord[]): number | null {
  let sum = 0;
  let stated = 0;
  for (const { acknowledgedTokens, ending, statementJson } of attempts) {
    if (acknowledgedTokens === 0 && ending !== "finished") continue;
    const statement = statementJson === null ? null : parseNodeStatement(statementJson);
    const energy = statement?.ok === true ? statement.value.energyMilliJoule : null;
    if (energy === null) return null;
    sum += energy;
    stated += 1;
  }
  return stated === 0 ? null : sum;
}

function joules(milliJoules: number): string {
  return (milliJoules / 1_000).toFixed(3);
}
