import type { NodeId } from "../../domain/ids.ts";
import type { PeerMessage, RosterHandlers, WorkMessage } from "../roster.ts";

const PEER_MESSAGES: Readonly<Record<PeerMessage["type"], true>> = {
  "peer.endpoints": true,
  "peer.report": true,
  "peer.links": true,
  "relay.ask": true,
  "weights.have": true,
  "weights.want": true,
  "weights.done": true,
  "weights.claim": true,
};

/** To those who deal with work, or with the network between nodes. */
export function handOver(handlers: RosterHandlers, nodeId: NodeId, message: WorkMessage | PeerMessage): void {
  if (isPeerMessage(message)) handlers.onPeer?.(nodeId, message);
  else handlers.onWork(nodeId, message);
}

function isPeerMessage(message: WorkMessage | PeerMessage): message is PeerMessage {
  return Object.hasOwn(PEER_MESSAGES, message.type);
}
