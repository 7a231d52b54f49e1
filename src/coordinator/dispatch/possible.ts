/** Whether a request can ever run on this grid: refused at once when it cannot, with the count of nodes for each reason. */
import type { RequestConstraints } from "../../domain/generation.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { capableNodes } from "../../scheduler/placement/capable-nodes.ts";
import { countLoser, describeLosers, type LoserReason, type NodeFact } from "../../scheduler/placement/snapshot.ts";
import type { ServedModels } from "./served-models.ts";
import type { Work } from "./work.ts";

/** Nodes come and go by the minute; sooner is seldom worth it. */
const NO_NODE_RETRY_MS = 15_000;

/** Null when some node could run it, now or after loading the model or when it is heard again; else why none can. */
export function impossibility(
  work: Work,
  grid: { readonly models: ServedModels; readonly nodes: ReadonlyMap<NodeId, NodeFact> },
): Refusal | null {
  const model = grid.models.get(work.modelId);
  if (model === null) {
    const message = `the model ${work.modelId} is not registered on this grid`;
    return { code: "model-not-found", message, param: "model", retryAfterMs: null };
  }
  const { constraints } = work.terms;
  const losers = new Map<LoserReason, number>();
  const nodes = constraints === undefined ? grid.nodes : allowedNodes(grid.nodes, constraints, losers);
  const found = capableNodes({ nodes, model: model.manifest, tokensNeeded: work.tokensNeeded() });
  if (found.capable + found.mayReturn > 0) return null;
  for (const [reason, count] of found.losers) {
    if (reason !== "no-node" || losers.size === 0) losers.set(reason, (losers.get(reason) ?? 0) + count);
  }
  const message = `no node of the grid can run ${work.modelId} with ${work.tokensNeeded()} tokens of context (${describeLosers(losers)})`;
  return { code: "no-capable-node", message, param: null, retryAfterMs: NO_NODE_RETRY_MS };
}

function allowedNodes(
  nodes: ReadonlyMap<NodeId, NodeFact>,
  constraints: RequestConstraints,
  losers: Map<LoserReason, number>,
): ReadonlyMap<NodeId, NodeFact> {
  const allowed = new Map<NodeId, NodeFact>();
  for (const [nodeId, node] of nodes) {
    const obstacle = ruleObstacle(node, constraints);
    if (obstacle === null) allowed.set(nodeId, node);
    else countLoser(losers, obstacle);
  }
  return allowed;
}

/** The matcher's rules (scheduler/matching), for a node that holds no replica yet. */
function ruleObstacle(node: NodeFact, rules: RequestConstraints): LoserReason | null {
  const { regions, trustMin, priceMicroUsdPerHourMax } = rules;
  if (regions !== null && !regions.includes(node.region ?? "")) return "region-not-allowed";
  if (trustMin !== null && (node.trust ?? 1) < trustMin) return "trust-too-low";
  const priceMax = priceMicroUsdPerHourMax ?? Number.POSITIVE_INFINITY;
  return (node.priceMicroUsdPerHour ?? 0) > priceMax ? "price-too-high" : null;
}
