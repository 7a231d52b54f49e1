/** A carrier that can be opened only when the grid said with what: until then nobody is reached through it. */
import { FallowError } from "../../domain/fault.ts";
import type { CarrierKind, PeerEndpoints, PeerTarget } from "../../domain/peer.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";

export class LateCarrier implements PeerCarrier {
  readonly kind: CarrierKind;
  #inner: PeerCarrier | null = null;
  #accept: ((connection: PeerConnection) => void) | null = null;
  #isClosed = false;

  constructor(kind: CarrierKind) {
    this.kind = kind;
  }

  get isOpen(): boolean {
    return this.#inner !== null;
  }

  /** Once; one that comes after `close` is closed. */
  async open(carrier: PeerCarrier): Promise<void> {
    if (this.#isClosed || this.#inner !== null) return await carrier.close();
    this.#inner = carrier;
    carrier.onConnection((connection) => this.#accept?.(connection));
  }

  async dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    if (this.#inner !== null) return await this.#inner.dial(target, signal);
    throw new FallowError("peer-unreachable", `${this.kind} is not there yet, or the grid has none of it`);
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    this.#accept = accept;
  }

  endpoints(): PeerEndpoints {
    return this.#inner?.endpoints() ?? { tcp: [], hasUdp: false };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#inner?.close();
  }
}
