/** A coordinator's side of the network between nodes over real sockets: registry, relay, and bootstrap nodes where they are asked for. */
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { startHttpServer } from "../../src/adapters/http-server/http-server.ts";
import { LinkServer } from "../../src/adapters/link-websocket/link-server.ts";
import { RelayServer } from "../../src/adapters/link-websocket/relay-server.ts";
import { startBootstrapNodes } from "../../src/adapters/peer-udp/bootstrap.ts";
import { keptTlsIdentity } from "../../src/adapters/tls-identity/tls-identity.ts";
import { RelayDesk } from "../../src/coordinator/peering/relay-desk.ts";
import type { RelayOptions } from "../../src/coordinator/peering/relay-options.ts";
import { NodeRegistry } from "../../src/coordinator/registry/node-registry.ts";
import type { HostPort } from "../../src/domain/peer.ts";
import type { Log } from "../../src/ports/log.ts";
import { MemoryStore } from "../../src/sim/store/memory-store.ts";
import { LINK_PATH, RELAY_PATH } from "../../src/wire/agent-link.ts";

export const SILENT_LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT_LOG,
};

export interface RelayGrid {
  readonly gridId: string;
  readonly url: string;
  readonly certificateSha256: string | null;
  readonly bootstrap: readonly HostPort[];
  readonly relay: RelayDesk;
  readonly registry: NodeRegistry;
  joinToken(usesMax: number): Promise<string>;
  stop(): Promise<void>;
}

export interface RelayGridOptions {
  /** As nodes reach it. */
  readonly host: string;
  readonly bindHost: string;
  /** 0 takes a free one; the bootstrap nodes take UDP ports from the same number on. */
  readonly port: number;
  readonly hasUdp: boolean;
  /** Null: plain HTTP, on loopback only. */
  readonly tlsFolder: string | null;
  readonly bounds?: Partial<RelayOptions>;
}

export async function startRelayGrid(options: RelayGridOptions): Promise<RelayGrid> {
  const clock = new SystemClock();
  const random = new SystemRandom();
  const crypto = new NodeCrypto();
  const ports = {
    clock,
    random,
    crypto,
    log: SILENT_LOG,
    store: new MemoryStore({ writeLatencyMs: 0 }, { clock }),
  };
  const gridId = "grid-nat";
  const registry = new NodeRegistry({ gridId, boot: 1 }, ports);
  const relay = new RelayDesk({ ...ports, roster: registry, sessions: registry }, options.bounds);
  await registry.start();
  const tls = options.tlsFolder === null ? null : await keptTlsIdentity(options.tlsFolder, [options.host]);
  const links = new LinkServer((link) => registry.accept(link));
  const ends = new RelayServer((relayId, bearer) => relay.seat(relayId, bearer));
  const server = await startHttpServer({
    host: options.bindHost,
    port: options.port,
    tls,
    handler: async () => new Response("a test", { status: 404 }),
    links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
    relays: { pathPrefix: RELAY_PATH, upgrade: (upgrade) => ends.upgrade(upgrade) },
  });
  const bootstrap = options.hasUdp
    ? await startBootstrapNodes({ publicHost: options.host, firstPort: server.port, bindHost: options.bindHost })
    : null;
  const nothing = () => undefined;
  registry.subscribe({
    onOnline: (nodeId) => {
      const view = registry.node(nodeId);
      if (view !== null) bootstrap?.admit(view.publicKeyHex);
    },
    onSuspect: nothing,
    onWithdrawn: nothing,
    onGone: nothing,
    onWork: nothing,
    onReplicas: nothing,
  });
  return {
    gridId,
    url: `${tls === null ? "http" : "https"}://${options.host}:${server.port}`,
    certificateSha256: tls?.certificateSha256 ?? null,
    bootstrap: bootstrap?.addresses ?? [],
    relay,
    registry,
    joinToken: async (usesMax) => (await registry.issueJoinToken({ usesMax, ttlMs: 3_600_000 })).token,
    stop: async () => {
      relay.stop();
      registry.stop();
      await bootstrap?.stop();
      await server.close(0);
    },
  };
}
