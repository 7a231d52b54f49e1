/** Nouns of the network between nodes. */
import type { NodeId, Sha256Hex } from "./ids.ts";

/**
 * How two nodes reach each other: `tcp` is TLS to an address of the other (LAN, forwarded port), `udp` goes through NATs by hole punching,
 * `relay` through the coordinator when nothing else works.
 */
export type CarrierKind = "tcp" | "udp" | "relay";
/** In the order in which they are tried. */
export const CARRIER_KINDS: readonly CarrierKind[] = ["tcp", "udp", "relay"];

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** How a node may be reached, as it says and as the coordinator sees it. */
export interface PeerEndpoints {
  /** Addresses of its one port, the likeliest first. */
  readonly tcp: readonly HostPort[];
  /** It takes part in hole punching. */
  readonly hasUdp: boolean;
}

export interface PeerTarget {
  readonly nodeId: NodeId;
  /** Ed25519, 64 hex. Every carrier proves it. */
  readonly publicKeyHex: string;
  readonly endpoints: PeerEndpoints;
}

/** What one end measured of the way to another node. Null: not measured. */
export interface LinkQuality {
  readonly carrier: CarrierKind;
  readonly rttMs: number | null;
  /** 0 to 1, of packets. */
  readonly lossShare: number | null;
  /** Counted where the bytes arrived. */
  readonly bytesPerSecond: number | null;
  readonly measuredAtMs: number;
}

/** The right of one node to open a link to another and to read one model's weights there; signed by the grid, valid once. */
export interface FetchGrant {
  readonly version: 1;
  /** 32 hex, random: a grant is taken once. */
  readonly grantId: string;
  readonly gridId: string;
  readonly weightsSha256: Sha256Hex;
  /** Who may fetch, and from whom: Ed25519 keys, 64 hex. */
  readonly fetcherKeyHex: string;
  readonly holderKeyHex: string;
  /** By the coordinator's clock. */
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** How long a grant may be presented. A link that was opened with it in time may go on until `expiresAtMs` as well; it is renewed by a new one. */
export const GRANT_TTL_MS = 10 * 60_000;
/** Clocks of nodes follow the coordinator's to about a second; this much is forgiven. */
export const GRANT_CLOCK_SLACK_MS = 30_000;
