/** How the distribution of weights and the ways between nodes look to an operator. */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { KnownLink } from "../network/link-book.ts";
import type { Roster } from "../roster.ts";
import type { Swarm } from "../weights/swarm.ts";
import type { LinkRow, WeightsRow } from "./weights-schema.ts";

/** Of one model in one answer; counts are of all. */
export const WEIGHTS_NODES_MAX = 200;

export interface DistributionView {
  readonly roster: Pick<Roster, "node">;
  swarms(): readonly Swarm[];
  modelOf(weightsSha256: Sha256Hex): string | null;
  /** Sorted by model id. */
  registered(): readonly Pick<ModelManifest, "weightsSha256" | "fileBytes">[];
}

/** Of all registered models, and of those whose chunks nodes still have; by digest. */
export function weightsRows(view: DistributionView): readonly WeightsRow[] {
  const { modelOf } = view;
  const rows = new Map(swarmRows(view).map((row) => [row.weightsSha256, row]));
  for (const { weightsSha256, fileBytes } of view.registered()) {
    if (rows.has(weightsSha256)) continue;
    const unread = { chunkBytes: 0, chunkCount: 0, isPublic: false, sourceBytes: 0, peerBytes: 0, claimed: 0 };
    const modelId = modelOf(weightsSha256);
    rows.set(weightsSha256, { weightsSha256, modelId, totalBytes: fileBytes, ...unread, nodes: [], nodeCount: 0 });
  }
  return [...rows.values()].sort((a, b) => (a.weightsSha256 < b.weightsSha256 ? -1 : 1));
}

function swarmRows({ roster, swarms, modelOf }: DistributionView): readonly WeightsRow[] {
  return swarms().map((swarm) => {
    const { weightsSha256, totalBytes, chunkBytes, chunkCount, isPublic, sourceBytes, claims } = swarm;
    const nodeIds = [...new Set([...swarm.holdings.keys(), ...swarm.wants.keys()])].sort((a, b) => (a < b ? -1 : 1));
    return {
      weightsSha256,
      modelId: modelOf(weightsSha256),
      totalBytes,
      chunkBytes,
      chunkCount,
      isPublic,
      sourceBytes,
      peerBytes: swarm.peerChunks * chunkBytes,
      claimed: claims.counts.live,
      nodes: nodeIds.slice(0, WEIGHTS_NODES_MAX).map((nodeId) => nodeOf(swarm, nodeId, roster)),
      nodeCount: nodeIds.length,
    };
  });
}

function nodeOf(swarm: Swarm, nodeId: NodeId, roster: Pick<Roster, "node">): WeightsRow["nodes"][number] {
  const holding = swarm.holdings.get(nodeId);
  const want = swarm.wants.get(nodeId);
  const have = holding?.have.size ?? 0;
  const wanted = want?.need.size ?? 0;
  const missing = swarm.needOf(nodeId)?.size ?? 0;
  const uploadsMax = holding?.uploadsMax ?? 0;
  return {
    nodeId,
    nodeName: roster.node(nodeId)?.name ?? nodeId,
    share: swarm.chunkCount === 0 ? 1 : have / swarm.chunkCount,
    layers: holding === undefined ? [] : swarm.layersIn(holding.have).map(([first, count]) => [first, count]),
    state:
      want === undefined || missing === 0
        ? uploadsMax > 0
          ? "serving"
          : "listed"
        : want.isIdle
          ? "staging"
          : "fetching",
    progress: want === undefined ? null : wanted === 0 ? 1 : 1 - missing / wanted,
    uploads: holding?.uploads ?? 0,
    uploadsMax,
    sourceBytes: swarm.accounts.get(nodeId)?.sentBytes ?? 0,
  };
}

export function linkRow(link: KnownLink, roster: Pick<Roster, "node">): LinkRow {
  const { from, to, rttMs, bytesPerSecond, isBandwidthMeasured, lossShare, confidence, basis, carrier } = link;
  const nameOf = (nodeId: NodeId) => roster.node(nodeId)?.name ?? nodeId;
  return {
    from,
    fromName: nameOf(from),
    to,
    toName: nameOf(to),
    rttMs,
    bytesPerSecond,
    isBandwidthMeasured,
    lossShare,
    confidence,
    basis,
    carrier,
  };
}
