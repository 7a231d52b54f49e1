/** How each node says that others reach it, from `peer.endpoints`, for as long as its session lasts. */
import type { NodeId } from "../../domain/ids.ts";
import type { PeerEndpoints } from "../../domain/peer.ts";
import type { PeerMessage } from "../roster.ts";

export class EndpointBook {
  readonly #endpoints = new Map<NodeId, PeerEndpoints>();

  heard(nodeId: NodeId, message: PeerMessage): void {
    if (message.type === "peer.endpoints") this.#endpoints.set(nodeId, message.endpoints);
  }

  gone(nodeId: NodeId): void {
    this.#endpoints.delete(nodeId);
  }

  /** Null before the node said it: then only a relay leads there. */
  of(nodeId: NodeId): PeerEndpoints | null {
    return this.#endpoints.get(nodeId) ?? null;
  }
}
