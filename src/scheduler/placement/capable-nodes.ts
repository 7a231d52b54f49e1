/**
 * Whether a model can ever run on this grid with a context of that length, whatever is loaded where at this moment: whole on one node, or in stages on
 * several. A request that neither could take is refused at once, with the count of nodes for each reason.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { NodeId } from "../../domain/ids.ts";
import { type ChainShape, type StageSizes, stageBytes, stageSizes, wantedShapes } from "../chains/stage-bytes.ts";
import type { EndBytes } from "./plan-question.ts";
import { COMPUTE_BYTES, type ModelSize, sizeReplica } from "./slots.ts";
import { countLoser, type LoserCounts, type LoserReason, type NodeFact, nodeObstacle } from "./snapshot.ts";

export interface CapableNodes {
  /** Take work, and have a device that is large enough when nothing else is on it. */
  readonly capable: number;
  /** Large enough, silent for the moment. */
  readonly mayReturn: number;
  readonly losers: LoserCounts;
}

/** A model as it would be split into stages. */
export interface SplitModel extends ModelSize {
  readonly layerCount: number;
  readonly ends?: EndBytes;
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

/**
 * Whether the nodes that serve stages could hold the model together: the roomiest of them, as many as a chain may have, their devices empty. Ends
 * are taken to lie where they cost least, so that a no is certain, and a yes nearly.
 */
export function canChain(question: ChainRoomQuestion): boolean {
  return chainShortageBytes(question) === 0;
}

export interface ChainRoomQuestion {
  readonly model: SplitModel;
  readonly tokensNeeded: number;
  readonly nodes: Iterable<NodeFact>;
  readonly stagesMax: number;
}

/** Memory that is missing for such a chain, at least; 0: none; infinite: no memory helps. */
export function chainShortageBytes(question: ChainRoomQuestion): number {
  const { model, tokensNeeded, stagesMax } = question;
  const sizes = stageSizes(model, model);
  const [least] = wantedShapes(model.contextTokensMax, tokensNeeded).slice(-1);
  if (least === undefined) return Number.POSITIVE_INFINITY;
  const rooms: number[] = [];
  for (const node of question.nodes) {
    const obstacle = nodeObstacle(node);
    if (node.hasStageServing !== true || (obstacle !== null && obstacle !== "node-suspect")) continue;
    const freeBytes = Math.max(0, ...node.devices.map(usableBytes));
    rooms.push(layersIn(sizes, freeBytes, least));
  }
  const roomiest = rooms.sort((a, b) => b - a).slice(0, Math.min(stagesMax, model.layerCount));
  const layers = roomiest.reduce((sum, room) => sum + Math.min(room, model.layerCount - 1), 0);
  const missing = model.layerCount + layersOfEnds(sizes, least) - layers;
  if (missing <= 0 && roomiest.length >= 2) return 0;
  return Math.max(1, missing) * layerBytesAt(sizes, least) + (roomiest.length < 2 ? COMPUTE_BYTES : 0);
}

/** Layers that fit there, were it in the midst of a chain. */
function layersIn(sizes: StageSizes, freeBytes: number, shape: ChainShape): number {
  const room = freeBytes - COMPUTE_BYTES;
  return room < 0 ? 0 : Math.floor(room / layerBytesAt(sizes, shape));
}

/** Layers whose room the ends take at least. */
function layersOfEnds(sizes: StageSizes, shape: ChainShape): number {
  const each = layerBytesAt(sizes, shape);
  return Math.floor(sizes.embeddingBytes / each) + Math.floor(sizes.outputBytes / each);
}

function layerBytesAt(sizes: StageSizes, shape: ChainShape): number {
  const plain = { ...sizes, embeddingBytes: 0, outputBytes: 0 };
  return Math.max(1, stageBytes(plain, { first: 0, count: 1 }, shape) - COMPUTE_BYTES);
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
