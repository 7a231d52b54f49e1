/** The whole picture that `fallow status` and the status page show, from the registry's snapshot and the store. */
import { type Account, availableMicroUsd } from "../../domain/ledger.ts";
import { nodeHeldAccount, nodePayableAccount } from "../../market/accounts.ts";
import { modelRow, nodeRow, replicaRow, requestRow } from "./admin-rows.ts";
import { ADMIN_LIST_MAX, type GridStatus, type NodeRow, type ReplicaRow } from "./admin-schemas.ts";
import type { AdminSources } from "./admin-sources.ts";
import { planSummary } from "./plan-rows.ts";

/** What fits on a screen; older ones are in `/admin/v1/requests`. */
const RECENT_REQUESTS = 20;

export async function gridStatus(sources: AdminSources): Promise<GridStatus> {
  const { store } = sources;
  const [accounts, receipts, settled, models] = await Promise.all([
    store.ledger.accounts(),
    store.receipts.list({ limit: RECENT_REQUESTS }),
    store.receipts.leafCount(),
    store.models.list(),
  ]);
  return {
    gridId: sources.gridId,
    publicKeyHex: sources.publicKeyHex,
    version: sources.version,
    startedAtMs: sources.startedAtMs,
    nowMs: sources.clock.wallMs(),
    nodes: [...nodeRows(sources, accounts)],
    replicas: [...replicaRows(sources)],
    models: models.map((model) => modelRow(model, sources.readyReplicas(model.manifest.modelId))),
    plan: planSummary(sources),
    weights: [...(sources.weights?.() ?? [])],
    requests: { ...sources.activity(), settled, recent: receipts.map(requestRow) },
    ledger: totals(accounts),
  };
}

function totals(accounts: readonly Account[]): GridStatus["ledger"] {
  const sum = (prefix: string, of: (account: Account) => number) =>
    accounts.filter(({ accountId }) => accountId.startsWith(prefix)).reduce((total, account) => total + of(account), 0);
  return {
    chargedMicroUsd: sum("tenant:", ({ debitsPosted }) => debitsPosted),
    heldMicroUsd: sum("tenant:", ({ debitsPending }) => debitsPending),
    availableMicroUsd: sum("tenant:", availableMicroUsd),
    nodesMicroUsd: sum("node:", availableMicroUsd),
    platformMicroUsd: sum("rev:", availableMicroUsd),
  };
}

export function nodeRows(sources: AdminSources, accounts: readonly Account[]): readonly NodeRow[] {
  const nowMonoMs = sources.clock.monoMs();
  const available = new Map(accounts.map((account) => [account.accountId, availableMicroUsd(account)]));
  return sources.roster
    .nodes()
    .slice(0, ADMIN_LIST_MAX)
    .map((node) => {
      const held = available.get(nodeHeldAccount(node.nodeId)) ?? 0;
      const payable = available.get(nodePayableAccount(node.nodeId)) ?? 0;
      const warnings = sources.nodeWarnings?.(node.nodeId) ?? [];
      return nodeRow(node, { nowMonoMs, earnedMicroUsd: held + payable, warnings });
    });
}

export function replicaRows(sources: AdminSources): readonly ReplicaRow[] {
  return sources.roster
    .nodes()
    .filter(({ state }) => state !== "offline")
    .flatMap((node) => node.replicas.map((replica) => replicaRow(replica, node, sources.modelOf(replica.replicaId))))
    .slice(0, ADMIN_LIST_MAX);
}
