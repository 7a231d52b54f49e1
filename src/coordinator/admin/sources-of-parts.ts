/** The operator's view of an open grid: connects the admin routes to the coordinator's parts. */
import { assert } from "../../domain/assert.ts";
import { ID_PATTERNS, replicaId } from "../../domain/ids.ts";
import { encodeJoinCode } from "../../wire/join-code.ts";
import type { CoordinatorOptions, CoordinatorPorts } from "../coordinator-options.ts";
import type { CoordinatorParts } from "../coordinator-parts.ts";
import { ModelDesk } from "../models/model-desk.ts";
import type { AdminGate, AdminSources } from "./admin-sources.ts";

export function adminSources(
  ports: CoordinatorPorts,
  options: CoordinatorOptions,
  parts: CoordinatorParts,
  gate: AdminGate,
): AdminSources {
  const { registry, models, dispatcher, settlement, gridId, startedAtMs } = parts;
  return {
    ...ports,
    gridId,
    publicKeyHex: settlement.publicKeyHex,
    startedAtMs,
    version: options.version,
    roster: registry,
    activity: () => {
      const { running, waiting } = dispatcher.stats();
      return { inFlight: running, queued: waiting };
    },
    placement: () => dispatcher.pool.plan(),
    modelOf: (named) => (ID_PATTERNS.replica.test(named) ? dispatcher.pool.modelOf(replicaId(named)) : null),
    readyReplicas: (modelId) => dispatcher.pool.ready(modelId).length,
    explain: (requestId) => dispatcher.matchLog.explains.find(requestId),
    weights: () => parts.distribution.rows(),
    nodeWarnings: (nodeId) => parts.distribution.warningsOf(nodeId),
    checkLedger: async () => {
      const { isBalanced, accounts, openHolds, problems } = await settlement.check();
      return { isBalanced, accounts, openHolds, problems: [...problems] };
    },
    nodes: {
      drain: (nodeId) => registry.drain(nodeId, true),
      undrain: (nodeId) => registry.drain(nodeId, false),
      remove: (nodeId) => registry.remove(nodeId),
    },
    models: new ModelDesk({
      ...ports,
      gridKey: options.gridKey,
      catalogue: models,
      intake: parts.intake,
      sources: ports.modelSources ?? null,
    }),
    joinCodes: {
      create: async (terms) => {
        const { urls, certificateSha256 } = options.addresses?.() ?? { urls: [], certificateSha256: null };
        assert(urls.length > 0, "a grid whose join codes are asked for has an address");
        const { token, expiresAtMs } = await registry.issueJoinToken(terms);
        return { joinCode: encodeJoinCode({ urls, token, certificateSha256, gridId }), expiresAtMs };
      },
    },
    gate,
  };
}
