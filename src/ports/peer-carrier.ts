/**
 * A carrier opens connections between two nodes: ordered, reliable, encrypted bytes both ways, where each end knows the Ed25519 key of the
 * other for certain. Nothing is delivered before `listen`; what arrives earlier waits, and the sender with it.
 */
import type { CarrierKind, PeerEndpoints, PeerTarget } from "../domain/peer.ts";

export interface PeerCarrier {
  readonly kind: CarrierKind;
  /** Rejects with a `FallowError`: `peer-unreachable` (what was tried, why), `peer-identity-mismatch`. */
  dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection>;
  /** Connections that other nodes opened; each has proved its key. May be called once. */
  onConnection(accept: (connection: PeerConnection) => void): void;
  /** What other nodes need to dial this one: only the carrier's own part is filled in. */
  endpoints(): PeerEndpoints;
  /** Ends all connections. May be called twice. */
  close(): Promise<void>;
}

export interface PeerConnection {
  readonly carrier: CarrierKind;
  /** 64 hex, proved by the carrier. */
  readonly peerKeyHex: string;
  /** For logs. */
  readonly remote: string;
  listen(handlers: PeerConnectionHandlers): void;
  /** Queues bytes; the array must not change afterwards. False: the sender's buffer is full, wait for `onDrain`. Does nothing once closed. */
  write(bytes: Uint8Array): boolean;
  /** Queued and not yet handed to the carrier's own machinery. */
  bufferedBytes(): number;
  /** Stops and goes on reading: what is not read holds the sender up. */
  pause(): void;
  resume(): void;
  /** What the carrier itself measured, if it does. */
  measured(): {
    readonly rttMs: number | null;
    /** The least so far, without what machines add that are busy. */
    readonly rttLeastMs?: number | null;
    readonly lossShare: number | null;
  };
  /** After what is queued. */
  close(): void;
  /** At once. */
  destroy(): void;
}

export interface PeerConnectionHandlers {
  onBytes(bytes: Uint8Array): void;
  onDrain(): void;
  /** Once, however it ended. */
  onClose(cause: string): void;
}

/** A connection's own buffer: beyond it `write` answers false. */
export const CONNECTION_BUFFER_BYTES = 256 * 1024;
