/** What we use of hyperdht 6.34 (which has no types of its own), and the two members of its base class that keep a grid to itself. */
declare module "hyperdht" {
  import type { EventEmitter } from "node:events";

  export interface DhtAddress {
    readonly host: string;
    readonly port: number;
  }
  export interface DhtKeyPair {
    readonly publicKey: Buffer;
    readonly secretKey: Buffer;
  }
  export interface DhtOptions {
    /** Left out, it means the public network: see `grid-dht.ts`. */
    readonly bootstrap: readonly DhtAddress[];
    readonly keyPair?: DhtKeyPair;
    /** Bound address. */
    readonly host?: string;
    /** A number p tries p to p + 4; a pair is a range without its end. 0 as a number means the default port. */
    readonly port?: number | readonly [number, number];
    readonly anyPort?: boolean;
    readonly ephemeral?: boolean;
    readonly firewalled?: boolean;
    readonly connectionKeepAlive?: number;
    readonly maxSize?: number;
  }
  /** One request of another node. */
  export interface DhtRequest {
    readonly command: number;
    readonly target: Buffer | null;
    readonly value: Buffer | null;
    readonly from: DhtAddress;
  }
  export interface UdxStream {
    /** Smoothed, in ms. */
    readonly rtt: number;
    /** 16 bits: it starts again at 0. */
    readonly retransmits: number;
    readonly packetsTransmitted: number;
    readonly remoteHost: string | null;
    readonly remotePort: number;
  }
  /** A streamx duplex: events `open`, `data`, `drain`, `error`, `close`. What is written at once arrives as one `data`. */
  export interface SecretStream extends EventEmitter {
    readonly remotePublicKey: Buffer;
    readonly rawStream: UdxStream | null;
    readonly destroyed: boolean;
    write(bytes: Uint8Array): boolean;
    end(): void;
    destroy(error?: Error): void;
    setTimeout(ms: number): void;
  }
  export interface DhtServer extends EventEmitter {
    /** Bootstrap nodes that this server announced itself to. */
    readonly relayAddresses: readonly DhtAddress[];
    listen(keyPair: DhtKeyPair): Promise<DhtServer>;
    close(): Promise<void>;
  }
  export interface DhtServerOptions {
    /** TRUE REJECTS. */
    readonly firewall: (remotePublicKey: Buffer) => boolean;
  }
  class HyperDht extends EventEmitter {
    constructor(options: DhtOptions);
    static keyPair(seed: Buffer): DhtKeyPair;
    static hash(data: Uint8Array): Buffer;
    static bootstrapper(port: number, host: string, options: DhtOptions): HyperDht;
    readonly bootstrapNodes: readonly DhtAddress[];
    readonly firewalled: boolean;
    createServer(options: DhtServerOptions): DhtServer;
    connect(remotePublicKey: Buffer): SecretStream;
    address(): DhtAddress | null;
    /** Of the socket that other nodes reach when it is not behind a NAT. */
    localAddress(): DhtAddress | null;
    ready(): Promise<void>;
    destroy(options?: { readonly force?: boolean }): Promise<void>;
    immutablePut(value: Buffer): Promise<{ readonly hash: Buffer }>;
    toArray(): readonly DhtAddress[];
    /** Asked about each node that a message names; false keeps it out of the routing table and is not visited. */
    _filterNode: ((node: DhtAddress) => boolean) | null;
    /** Answers what the base protocol does not; false: unknown command. */
    onrequest(request: DhtRequest): boolean;
  }

  // biome-ignore lint/style/noDefaultExport: the library has no other export
  export { HyperDht as default };
}
