/**
 * Where on the grid a request could run, and what keeps it off the other nodes: by class of machine and region, for quotes. Looks at every
 * node, so it is for those who ask beforehand and not for the path of a request.
 */
import type { RequestConstraints } from "../../domain/generation.ts";
import type { ModelId, NodeId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { nodeClassOf } from "../../domain/node-class.ts";
import { capableNodes } from "../../scheduler/placement/capable-nodes.ts";
import type { LoserReason, NodeFact, ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { NodeView } from "../roster.ts";
import { ruleObstacle } from "./possible.ts";

/** Groups that are told; a grid with more kinds of machines is told in part, the largest groups first. */
export const PLACES_MAX = 200;

export interface Place {
  readonly nodeClass: string;
  /** Null: the nodes name none. */
  readonly region: string | null;
  readonly nodes: number;
  /** Of the model, ready on these nodes. */
  readonly readyReplicas: number;
  /** Null: it could run there. */
  readonly obstacle: LoserReason | null;
}

export interface PlacesQuestion {
  readonly modelId: ModelId;
  readonly constraints: RequestConstraints | undefined;
  readonly tokensNeeded: number;
}

export interface PlacesPorts {
  node(nodeId: NodeId): Pick<NodeView, "capabilities"> | null;
  manifest(modelId: ModelId): ModelManifest | null;
  readonly pool: {
    nodes(): ReadonlyMap<NodeId, NodeFact>;
    ready(modelId: ModelId): readonly Pick<ReplicaFact, "nodeId">[];
  };
}

export function placesOf(question: PlacesQuestion, ports: PlacesPorts): readonly Place[] {
  const model = ports.manifest(question.modelId);
  if (model === null) return [];
  const ready = new Map<NodeId, number>();
  for (const { nodeId } of ports.pool.ready(question.modelId)) ready.set(nodeId, (ready.get(nodeId) ?? 0) + 1);
  const groups = new Map<string, Place>();
  for (const [nodeId, node] of ports.pool.nodes()) {
    const capabilities = ports.node(nodeId)?.capabilities;
    if (capabilities === undefined) continue;
    const replicas = ready.get(nodeId) ?? 0;
    const obstacle = obstacleOf(node, { ...question, model, isServing: replicas > 0 });
    const place = { nodeClass: nodeClassOf(capabilities), region: node.region ?? null, obstacle };
    const name = JSON.stringify(place);
    const group = groups.get(name);
    groups.set(name, {
      ...place,
      nodes: (group?.nodes ?? 0) + 1,
      readyReplicas: (group?.readyReplicas ?? 0) + replicas,
    });
  }
  return [...groups]
    .sort(([nameA, a], [nameB, b]) => b.nodes - a.nodes || (nameA < nameB ? -1 : 1))
    .slice(0, PLACES_MAX)
    .map(([, place]) => place);
}

function obstacleOf(
  node: NodeFact,
  { constraints, model, tokensNeeded, isServing }: PlacesQuestion & { model: ModelManifest; isServing: boolean },
): LoserReason | null {
  const rule = constraints === undefined ? null : ruleObstacle(node, constraints);
  if (rule !== null || isServing) return rule;
  const { capable, losers } = capableNodes({ nodes: new Map([[node.nodeId, node]]), model, tokensNeeded });
  if (capable > 0) return null;
  const [obstacle] = losers.keys();
  return obstacle ?? "no-node";
}
