/** Who else is on this local network. What it finds is a hint: keys are proved when a connection opens, rights by grants. */
import type { HostPort } from "../domain/peer.ts";

export interface LanDiscovery {
  /** Tells the network of this node, and asks who is there. Stops by `stop`, which may be called twice. */
  start(self: LanAnnouncement, onFound: (found: LanNeighbour) => void): Promise<{ stop(): Promise<void> }>;
  /** Only asks: for whoever is in no grid yet. */
  listen(onFound: (found: LanNeighbour) => void): Promise<{ stop(): Promise<void> }>;
}

export interface LanAnnouncement {
  /** Of a neighbour of another grid: a digest that stands for it, since its id is not told on the network. */
  readonly gridId: string;
  /** 64 hex; null for a coordinator. */
  readonly publicKeyHex: string | null;
  readonly role: "agent" | "coordinator";
  readonly port: number;
}

export interface LanNeighbour extends LanAnnouncement {
  readonly addresses: readonly HostPort[];
}
