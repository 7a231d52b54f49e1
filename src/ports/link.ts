/**
 * One ordered, reliable, bidirectional connection that carries text frames between an agent and the coordinator.
 * Nothing is delivered before `listen` is called; what arrives earlier waits. A link closes once; after that `send` does nothing.
 */
export interface Link {
  /** For logs: address of the other end. */
  readonly remote: string;
  /**
   * What ties the node's proof of identity to this very connection: the SHA-256 of the server's TLS certificate (64 hex),
   * or `loopback` where the connection never leaves the machine.
   */
  readonly channelBinding: string;
  listen(handlers: LinkHandlers): void;
  /** Queues a frame. Frames over `LINK_FRAME_BYTES_MAX` are a bug of the sender. */
  send(frame: string): void;
  /** Bytes queued and not yet handed to the operating system: the bound for back-pressure. */
  bufferedBytes(): number;
  /**
   * Bytes that arrived so far, also of a frame that is not whole yet: a frame of 16 MiB takes longer than the bound on silence
   * to cross a slow line, and its sender is alive meanwhile. A link without this method delivers frames whole.
   */
  receivedBytes?(): number;
  /**
   * The other end proved who it is: frames up to `LINK_FRAME_BYTES_MAX` may come. On a link that was accepted, more than
   * `LINK_UNPROVED_BYTES_MAX` in all before this call cuts the link, so that strangers cannot fill memory. A link without
   * this method (in memory) has no such bound.
   */
  trust?(): void;
  /** Closes after what is queued; the other end sees code and reason. */
  close(code: LinkCloseCode, reason: string): void;
  /** Cuts at once. */
  destroy(): void;
}

export interface LinkHandlers {
  onFrame(frame: string): void;
  /** Called once, however the link ended. */
  onClose(code: number, reason: string): void;
}

/** 4000-4999 are ours in WebSocket close codes. */
export type LinkCloseCode = 1000 | 4000 | 4001 | 4003 | 4008 | 4009;
export const LINK_CLOSE = {
  normal: 1000,
  /** A frame that is no message of the protocol. */
  protocolError: 4000,
  /** Identity or token refused: do not try again with the same. */
  refused: 4001,
  /** Node was removed by the grid's operator. */
  removed: 4003,
  /** Silent too long. */
  silent: 4008,
  /** The same node opened another link. */
  replaced: 4009,
} as const satisfies Record<string, LinkCloseCode>;

/** A frame carries at most this: the largest are embeddings and prompts of long contexts. */
export const LINK_FRAME_BYTES_MAX = 16 * 1024 * 1024;

/** What a stranger may send before the proof of identity: one hello with 64 devices and 64 replicas fits. */
export const LINK_UNPROVED_BYTES_MAX = 64 * 1024;

/** Opens a link to a coordinator; rejects with a `FallowError` (`link-unreachable`, `link-insecure`, `link-fingerprint-mismatch`). */
export interface LinkDialer {
  dial(target: LinkTarget, signal: AbortSignal): Promise<Link>;
}

export interface LinkTarget {
  /** `http(s)://host:port` of the coordinator. */
  readonly url: string;
  /** SHA-256 of the certificate that must be met, 64 hex; null only on loopback without TLS. */
  readonly certificateSha256: string | null;
}
