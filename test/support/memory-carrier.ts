/**
 * Carriers in memory for tests of links: every node of a net reaches every other over each kind that both have. Bytes take `delayMs`, wait
 * when the reader pauses and hold the sender up then. A kind can be cut (connections end), silenced (they stay and nothing comes) or shut
 * (dials fail), as a firewall, a lost route or a stopped relay would.
 */
import { FallowError } from "../../src/domain/fault.ts";
import type { CarrierKind, PeerEndpoints, PeerTarget } from "../../src/domain/peer.ts";
import {
  CONNECTION_BUFFER_BYTES,
  type PeerCarrier,
  type PeerConnection,
  type PeerConnectionHandlers,
} from "../../src/ports/peer-carrier.ts";

export interface MemoryNetOptions {
  /** When things happen: a timeline's or the event loop's. */
  after(delayMs: number, fire: () => void): void;
  /** One way. */
  delayMs(kind: CarrierKind): number;
}

export class MemoryNet {
  readonly options: MemoryNetOptions;
  readonly #carriers = new Map<string, MemoryCarrier>();
  readonly #ends = new Set<MemoryConnection>();
  readonly #shut = new Set<CarrierKind>();
  readonly #silent = new Set<CarrierKind>();
  /** Connections that were dialled, by kind. */
  readonly dialled: Record<CarrierKind, number> = { tcp: 0, udp: 0, relay: 0 };

  constructor(options: MemoryNetOptions) {
    this.options = options;
  }

  carrier(kind: CarrierKind, keyHex: string): PeerCarrier {
    const carrier = new MemoryCarrier(this, kind, keyHex);
    this.#carriers.set(`${kind} ${keyHex}`, carrier);
    return carrier;
  }

  find(kind: CarrierKind, keyHex: string): MemoryCarrier | null {
    return this.#shut.has(kind) ? null : (this.#carriers.get(`${kind} ${keyHex}`) ?? null);
  }

  join(near: MemoryConnection, far: MemoryConnection): void {
    this.#ends.add(near).add(far);
  }

  leave(end: MemoryConnection): void {
    this.#ends.delete(end);
  }

  isSilent(kind: CarrierKind): boolean {
    return this.#silent.has(kind);
  }

  /** Live connections of a kind. */
  count(kind: CarrierKind): number {
    return [...this.#ends].filter((end) => end.carrier === kind).length / 2;
  }

  /** Ends all connections of the kind; new ones may be dialled. */
  cut(kind: CarrierKind): void {
    for (const end of [...this.#ends]) if (end.carrier === kind) end.fall("the connection was reset");
  }

  shut(kind: CarrierKind): void {
    this.#shut.add(kind);
  }

  reopen(kind: CarrierKind): void {
    this.#shut.delete(kind);
    this.#silent.delete(kind);
  }

  /** From here on nothing of the kind arrives, and nobody is told. */
  silence(kind: CarrierKind): void {
    this.#silent.add(kind);
  }
}

class MemoryCarrier implements PeerCarrier {
  readonly kind: CarrierKind;
  readonly keyHex: string;
  readonly #net: MemoryNet;
  readonly #own = new Set<MemoryConnection>();
  #accept: ((connection: PeerConnection) => void) | null = null;
  #isClosed = false;

  constructor(net: MemoryNet, kind: CarrierKind, keyHex: string) {
    this.#net = net;
    this.kind = kind;
    this.keyHex = keyHex;
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    this.#accept = accept;
  }

  endpoints(): PeerEndpoints {
    return { tcp: this.kind === "tcp" ? [{ host: "192.0.2.1", port: 1 }] : [], hasUdp: this.kind === "udp" };
  }

  dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    const unreachable = () => new FallowError("peer-unreachable", `${target.nodeId} does not answer over ${this.kind}`);
    return new Promise((resolve, reject) => {
      const onAbort = () =>
        reject(new FallowError("peer-unreachable", "the dial was given up", { cause: signal.reason }));
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      const { after, delayMs } = this.#net.options;
      after(2 * delayMs(this.kind), () => {
        signal.removeEventListener("abort", onAbort);
        if (signal.aborted) return;
        // One that is silent is never answered: the caller's bound ends it.
        if (this.#net.isSilent(this.kind)) return after(8_000, () => reject(unreachable()));
        const other = this.#net.find(this.kind, target.publicKeyHex);
        if (other === null || other.#isClosed || other.#accept === null) return reject(unreachable());
        const near = new MemoryConnection(this.#net, this.kind, other.keyHex);
        const far = new MemoryConnection(this.#net, this.kind, this.keyHex);
        near.peer = far;
        far.peer = near;
        this.#own.add(near);
        other.#own.add(far);
        this.#net.join(near, far);
        this.#net.dialled[this.kind]++;
        other.#accept(far);
        resolve(near);
      });
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const connection of this.#own) connection.destroy();
  }
}

class MemoryConnection implements PeerConnection {
  readonly carrier: CarrierKind;
  readonly peerKeyHex: string;
  readonly remote = "memory";
  peer: MemoryConnection | null = null;
  readonly #net: MemoryNet;
  #handlers: PeerConnectionHandlers | null = null;
  #inbox: Uint8Array[] = [];
  #isPaused = false;
  #cause: string | null = null;
  #isClosing = false;
  /** Sent and not read by the other. */
  #queued = 0;
  #isFull = false;

  constructor(net: MemoryNet, carrier: CarrierKind, peerKeyHex: string) {
    this.#net = net;
    this.carrier = carrier;
    this.peerKeyHex = peerKeyHex;
  }

  listen(handlers: PeerConnectionHandlers): void {
    if (this.#handlers !== null) throw new Error("a connection is listened to once");
    this.#handlers = handlers;
    this.#read();
    if (this.#cause !== null) handlers.onClose(this.#cause);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#cause !== null || this.#isClosing) return true;
    this.#queued += bytes.length;
    this.#isFull = this.#queued >= CONNECTION_BUFFER_BYTES;
    this.#net.options.after(this.#net.options.delayMs(this.carrier), () => {
      if (!this.#net.isSilent(this.carrier)) this.peer?.take(bytes);
    });
    return !this.#isFull;
  }

  bufferedBytes(): number {
    return this.#queued;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#read();
  }

  measured(): { readonly rttMs: null; readonly lossShare: null } {
    return { rttMs: null, lossShare: null };
  }

  close(): void {
    if (this.#isClosing || this.#cause !== null) return;
    this.#isClosing = true;
    this.#net.options.after(this.#net.options.delayMs(this.carrier), () => {
      this.peer?.fall("the connection ended");
      this.fall("the connection ended");
    });
  }

  destroy(): void {
    const { peer } = this;
    this.fall("the connection ended");
    this.#net.options.after(this.#net.options.delayMs(this.carrier), () => peer?.fall("the connection ended"));
  }

  take(bytes: Uint8Array): void {
    if (this.#cause !== null) return;
    this.#inbox.push(bytes);
    this.#read();
  }

  fall(cause: string): void {
    if (this.#cause !== null) return;
    this.#cause = cause;
    this.#net.leave(this);
    this.#handlers?.onClose(cause);
  }

  #read(): void {
    while (this.#handlers !== null && !this.#isPaused) {
      const bytes = this.#inbox.shift();
      if (bytes === undefined) return;
      this.peer?.wasRead(bytes.length);
      this.#handlers.onBytes(bytes);
    }
  }

  wasRead(bytes: number): void {
    this.#queued -= bytes;
    if (!this.#isFull || this.#queued >= CONNECTION_BUFFER_BYTES / 2) return;
    this.#isFull = false;
    this.#net.options.after(0, () => {
      if (this.#cause === null) this.#handlers?.onDrain();
    });
  }
}
