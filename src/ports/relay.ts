/**
 * A relayed connection between two nodes, as its parts see it: the coordinator pipes bytes between two ends, which are encrypted from node to
 * node, and an agent asks for such a connection on its line.
 */
import type { NodeId } from "../domain/ids.ts";
import type { LinkTarget } from "./link.ts";

/** One node's end of a relayed connection at the coordinator. Nothing is read before `listen`; the sender waits meanwhile. */
export interface RelayEnd {
  listen(handlers: RelayEndHandlers): void;
  /** False: its buffer is full, wait for `onDrain`. Does nothing once closed. */
  write(bytes: Uint8Array): boolean;
  pause(): void;
  resume(): void;
  /** After what is queued; the node sees the reason. */
  close(reason: string): void;
}

export interface RelayEndHandlers {
  onBytes(bytes: Uint8Array): void;
  onDrain(): void;
  /** Once, however it ended. */
  onClose(cause: string): void;
}

/** What an end may hold that its node did not take yet. */
export const RELAY_END_BUFFER_BYTES = 256 * 1024;
/** One message of an end's WebSocket; senders stay far below. */
export const RELAY_MESSAGE_BYTES_MAX = 256 * 1024;

export interface RelayOffer {
  readonly relayId: string;
  /** The other end, and its key as the coordinator knows it. */
  readonly nodeId: NodeId;
  readonly publicKeyHex: string;
}

/** The agent's line, as its relay carrier uses it. */
export interface RelayLine {
  /** Rejects `peer-unreachable` with the coordinator's reason, or when there is no line. */
  ask(nodeId: NodeId, signal: AbortSignal): Promise<RelayOffer>;
  /** Offers that other nodes asked for. Called once. */
  onOffer(take: (offer: RelayOffer) => void): void;
  /** Where the coordinator is and the bearer of the running session; null while there is no line. */
  session(): { readonly target: LinkTarget; readonly sessionToken: string } | null;
}
