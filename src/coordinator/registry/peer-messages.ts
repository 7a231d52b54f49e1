import type { NodeId } from "../../domain/ids.ts";
import type { ChainMessage, PeerMessage, RosterHandlers, WorkMessage } from "../roster.ts";

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

const CHAIN_MESSAGES: Readonly<Record<ChainMessage["type"], true>> = {
  "chain.state": true,
  "chain.trouble": true,
  "chain.fingerprint": true,
  "chain.progress": true,
};

type Handed = WorkMessage | PeerMessage | ChainMessage;

/** To those who deal with work, with chains, or with the network between nodes. */
export function handOver(handlers: RosterHandlers, nodeId: NodeId, message: Handed): void {
  if (isPeerMessage(message)) handlers.onPeer?.(nodeId, message);
  else if (isChainMessage(message)) handlers.onChain?.(nodeId, message);
  else handlers.onWork(nodeId, message);
}

function isChainMessage(message: Exclude<Handed, PeerMessage>): message is ChainMessage {
  return Object.hasOwn(CHAIN_MESSAGES, message.type);
}

function isPeerMessage(message: Handed): message is PeerMessage {
  return Object.hasOwn(PEER_MESSAGES, message.type);
}
