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

export interface WantedRoom {
  readonly model: ModelSize;
  readonly tokensNeeded: number;
}

/** Which nodes could ever hold this model with room for `tokensNeeded`, and why the others cannot. */
export function capableNodes(question: WantedRoom & { readonly nodes: ReadonlyMap<NodeId, NodeFact> }): CapableNodes {
  const losers = new Map<LoserReason, number>();
  const rooms = new Map<number, LoserReason | null>();
  let capable = 0;
  let mayReturn = 0;
  for (const node of question.nodes.values()) {
    const obstacle = nodeObstacle(node) ?? roomObstacle(node, question, rooms);
    if (obstacle === null) capable += 1;
    else countLoser(losers, obstacle);
    if (obstacle === "node-suspect" && roomObstacle(node, question, rooms) === null) mayReturn += 1;
  }
  if (question.nodes.size === 0) countLoser(losers, "no-node");
  return { capable, mayReturn, losers };
}

/** Whether this node is one of the capable, or of those that may return. */
export function isCapable(node: NodeFact, want: WantedRoom): boolean {
  const obstacle = nodeObstacle(node);
  return (obstacle === null || obstacle === "node-suspect") && roomObstacle(node, want, new Map()) === null;
}

/** `rooms`: what devices of so many bytes answered before; nodes of a class have equal ones. */
function roomObstacle(node: NodeFact, want: WantedRoom, rooms: Map<number, LoserReason | null>): LoserReason | null {
  let obstacle: LoserReason = "memory-too-small";
  for (const device of node.devices) {
    const bytes = usableBytes(device);
    let found = rooms.get(bytes);
    if (found === undefined) {
      found = deviceObstacle(bytes, want);
      rooms.set(bytes, found);
    }
    if (found === null) return null;
    if (found === "context-too-small") obstacle = found;
  }
  return obstacle;
}

function deviceObstacle(bytes: number, { model, tokensNeeded }: WantedRoom): LoserReason | null {
  const size = sizeReplica(model, bytes);
  if (!size.ok) return "memory-too-small";
  return size.value.contextTokens >= tokensNeeded ? null : "context-too-small";
}
