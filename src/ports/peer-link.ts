/**
 * The link between two nodes, whatever carries it: small messages and bulk travel on connections of their own, both with credit, and
 * go on over another carrier when one is cut. Weights, and later activations, use nothing below this port.
 */
import type { CarrierKind, LinkQuality, PeerTarget } from "../domain/peer.ts";
import type { Refusal } from "../domain/refusal.ts";

/** What the node that opens a link presents, and what the other checks: `agent/cache` gives grants, others may give their own. */
export interface PeerNetwork {
  /**
   * The link to a node, opened when there is none. `credential` is presented when it opens, and to an open link as one more right.
   * Rejects: `peer-unreachable`, `peer-refused` (code and message of the other), `peer-identity-mismatch`.
   */
  connect(target: PeerTarget, credential: string, signal: AbortSignal): Promise<PeerLink>;
  /** The open link to a node; null when there is none. */
  open(peerKeyHex: string): PeerLink | null;
  /** Links that others opened, after `admit` let them in. Called once. */
  serve(handlers: PeerServer): void;
  /** What was measured of each peer met, newest; sorted by key. */
  qualities(): readonly { readonly peerKeyHex: string; readonly quality: LinkQuality }[];
  /** Ends all links. May be called twice. */
  close(): Promise<void>;
}

export interface PeerServer {
  /** Checks a credential (untrusted text of at most 4 KiB) of a peer whose key the carrier proved. */
  admit(
    credential: string,
    peerKeyHex: string,
  ): { readonly ok: true; readonly expiresAtMs: number } | { readonly ok: false; readonly reason: Refusal };
  /** Answers a request for bytes (untrusted, at most `PEER_REQUEST_BYTES_MAX`). */
  onFetch(request: Uint8Array, peerKeyHex: string): Promise<PeerFetchAnswer>;
  onMessage(message: Uint8Array, link: PeerLink): void;
}

/** `read` may be asked for the same bytes again: after a cut the other end says how far it came. */
export type PeerFetchAnswer =
  | {
      readonly ok: true;
      readonly totalBytes: number;
      read(offset: number, length: number): Promise<Uint8Array>;
      close(): void;
    }
  | { readonly ok: false; readonly reason: Refusal };

export interface PeerLink {
  readonly peerKeyHex: string;
  /** Null while a cut link looks for another carrier. */
  carrier(): CarrierKind | null;
  quality(): LinkQuality | null;
  /** Adds a right to an open link. Rejects `peer-refused`. */
  present(credential: string, signal: AbortSignal): Promise<void>;
  /**
   * Asks the other for bytes and yields them in order. The reader's pace is the sender's: what is not taken is not sent beyond the window.
   * A cut goes unnoticed but for time. Rejects: `peer-refused`, `peer-unreachable` (no carrier within the bound), `peer-breach`
   * (more or fewer bytes than said), `peer-too-slow` (less than `bytesPerSecondMin` over `SLOW_LOOK_MS`).
   */
  fetch(request: Uint8Array, options: PeerFetchOptions): AsyncIterable<Uint8Array>;
  /** A small message, delivered once and in order, ahead of bulk. Resolves when there is credit for the next. */
  send(message: Uint8Array): Promise<void>;
  /** Ends it for good, with a reason that the other sees. */
  close(reason: string): void;
  /** Resolves with the reason when it ended for good. */
  readonly closed: Promise<string>;
}

export interface PeerFetchOptions {
  readonly signal: AbortSignal;
  /** The answer's length must be this. */
  readonly totalBytes: number;
  readonly bytesPerSecondMin: number;
}

export const PEER_REQUEST_BYTES_MAX = 1_024;
/** Activations of a 16 k-wide model for 16 tokens in f32 fit. */
export const PEER_MESSAGE_BYTES_MAX = 1024 * 1024;
export const PEER_CREDENTIAL_CHARS_MAX = 4_096;
