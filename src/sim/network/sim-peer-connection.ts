/** One connection of a simulated carrier: bytes as frames of a simulated link. */
import { assert } from "../../domain/assert.ts";
import type { CarrierKind } from "../../domain/peer.ts";
import { LINK_CLOSE } from "../../ports/link.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection, type PeerConnectionHandlers } from "../../ports/peer-carrier.ts";
import type { Host } from "../time/host.ts";
import type { SimLink } from "./sim-link.ts";

export interface SimPeerConnectionOptions {
  readonly host: Host;
  readonly link: SimLink;
  readonly kind: CarrierKind;
  readonly peerKeyHex: string;
  readonly onClose: () => void;
}

/** How often a full buffer is looked at. */
const DRAIN_LOOK_MS = 5;

export class SimPeerConnection implements PeerConnection {
  readonly carrier: CarrierKind;
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly #options: SimPeerConnectionOptions;
  readonly #inbox: Uint8Array[] = [];
  #handlers: PeerConnectionHandlers | null = null;
  #isPaused = false;
  #isWaiting = false;
  #closeCause: string | null = null;
  #isClosed = false;

  constructor(options: SimPeerConnectionOptions) {
    this.#options = options;
    this.carrier = options.kind;
    this.peerKeyHex = options.peerKeyHex;
    this.remote = options.link.remote;
  }

  listen(handlers: PeerConnectionHandlers): void {
    assert(this.#handlers === null, "a connection is listened to once");
    this.#handlers = handlers;
    const { link, host } = this.#options;
    // One that ended before anybody listened says so.
    if (link.isOver) host.after(0, () => this.#end("the connection was reset"));
    link.listen({
      onFrame: (text) => {
        this.#inbox.push(Buffer.from(text, "latin1"));
        this.#read();
      },
      onClose: (_, reason) => this.#end(reason),
    });
  }

  write(bytes: Uint8Array): boolean {
    const { link } = this.#options;
    link.send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1"));
    const isFull = link.bufferedBytes() >= CONNECTION_BUFFER_BYTES;
    if (isFull) this.#awaitRoom();
    return !isFull;
  }

  bufferedBytes(): number {
    return this.#options.link.bufferedBytes();
  }

  pause(): void {
    this.#isPaused = true;
    this.#options.link.hold();
  }

  resume(): void {
    this.#isPaused = false;
    this.#options.link.go();
    this.#read();
  }

  measured(): { readonly rttMs: null; readonly lossShare: null } {
    return { rttMs: null, lossShare: null };
  }

  close(): void {
    this.#options.link.close(LINK_CLOSE.normal, "the connection ended");
  }

  destroy(): void {
    this.#options.link.destroy();
  }

  #end(cause: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeCause = cause;
    this.#options.onClose();
    this.#read();
  }

  #read(): void {
    while (!this.#isPaused && this.#inbox.length > 0) {
      const bytes = this.#inbox.shift();
      if (bytes !== undefined) this.#handlers?.onBytes(bytes);
    }
    if (this.#isPaused || this.#closeCause === null) return;
    const handlers = this.#handlers;
    const cause = this.#closeCause;
    this.#closeCause = null;
    handlers?.onClose(cause);
  }

  #awaitRoom(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    const look = () => {
      const { link, host } = this.#options;
      if (link.isOver) return;
      if (link.bufferedBytes() >= CONNECTION_BUFFER_BYTES / 2) return void host.after(DRAIN_LOOK_MS, look);
      this.#isWaiting = false;
      this.#handlers?.onDrain();
    };
    this.#options.host.after(DRAIN_LOOK_MS, look);
  }
}
