/**
 * Whether a model can ever run on this grid with a context of that length, whatever is loaded where at this moment. A request that no
 * node could take is refused at once, with the count of nodes for each reason.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { NodeId } from "../../domain/ids.ts";
import { type ModelSize, sizeReplica } from "./slots.ts";
import { countLoser, type LoserCounts, type LoserReason, type NodeFact, nodeObstacle } from "./snapshot.ts";

export interface CapableNodes {
  /** Take work, and have a device that is large enough when nothing else is on it. */
  readonly capable: number;
  /** Large enough, silent for the moment. */
  readonly mayReturn: number;
  readonly losers: LoserCounts;
}

/** Which nodes could ever hold this model with room for `tokensNeeded`, and why the others cannot. */
export function capableNodes(question: {
  readonly nodes: ReadonlyMap<NodeId, NodeFact>;
  readonly model: ModelSize;
  readonly tokensNeeded: number;
}): CapableNodes {
  const losers = new Map<LoserReason, number>();
  let capable = 0;
  let mayReturn = 0;
  for (const node of question.nodes.values()) {
    const obstacle = nodeObstacle(node) ?? roomObstacle(node, question);
    if (obstacle === null) capable += 1;
    else countLoser(losers, obstacle);
    if (obstacle === "node-suspect" && roomObstacle(node, question) === null) mayReturn += 1;
  }
  if (question.nodes.size === 0) countLoser(losers, "no-node");
  return { capable, mayReturn, losers };
}

function roomObstacle(node: NodeFact, want: { model: ModelSize; tokensNeeded: number }): LoserReason | null {
  const sizes = node.devices.map((device) => sizeReplica(want.model, usableBytes(device)));
  const fits = sizes.filter((size) => size.ok);
  if (fits.length === 0) return "memory-too-small";
  return fits.some((size) => size.value.contextTokens >= want.tokensNeeded) ? null : "context-too-small";
}
