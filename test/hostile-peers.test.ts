/** Nodes and strangers that want others' memory, time or connections: over real sockets, each is held to a bound, and the rest goes on. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { identityCertificate } from "../src/adapters/peer-tcp/identity-certificate.ts";
import { openTcpCarrier, type TcpCarrier } from "../src/adapters/peer-tcp/tcp-carrier.ts";
import { type LinkedPeerNetwork, openPeerNetwork } from "../src/agent/peering/peer-network.ts";
import { toHex } from "../src/domain/hex.ts";
import { nodeId } from "../src/domain/ids.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";
import { RELAY_PATH } from "../src/wire/agent-link.ts";
import { PeerFrameReader } from "../src/wire/peer-frame-reader.ts";
import { PEER_PROTOCOL_VERSION, type PeerFrame, writeFrame } from "../src/wire/peer-frames.ts";
import { SILENT_LOG, startRelayGrid } from "./support/relay-grid.ts";
import { startRelayNode } from "./support/relay-node.ts";

const GOOD = "the right credential";
const FOREVER = new AbortController().signal;
const crypto = new NodeCrypto();
const toStop: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

interface Served {
  readonly network: LinkedPeerNetwork;
  readonly tcp: TcpCarrier;
  readonly publicKeyHex: string;
  /** Credentials that were looked at. */
  looked(): number;
}

/** A node on loopback that admits who knows the credential, and serves nothing. */
async function serving({ host = "127.0.0.1" } = {}): Promise<Served> {
  const keyPair = crypto.generateKeyPair();
  const tcp = await openTcpCarrier({ keyPair, host, port: 0 });
  const network = openPeerNetwork({
    clock: new SystemClock(),
    random: new SystemRandom(),
    crypto,
    log: SILENT_LOG,
    carriers: [tcp],
  });
  let looked = 0;
  network.serve({
    admit: (credential) => {
      looked += 1;
      return credential === GOOD ? { ok: true, expiresAtMs: Date.now() + 600_000 } : refuse("invalid-key", "not right");
    },
    onFetch: async () => refuse("not-found", "nothing is here"),
    onMessage: () => undefined,
  });
  toStop.push(() => network.close());
  return { network, tcp, publicKeyHex: toHex(keyPair.publicKey), looked: () => looked };
}

interface Guest {
  readonly connection: PeerConnection;
  readonly keyHex: string;
  readonly came: PeerFrame[];
  isCut(): boolean;
}

/** Another node, with a link that was let in, that writes what it likes. */
async function admitted(node: Served): Promise<Guest> {
  const keyPair = crypto.generateKeyPair();
  const carrier = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
  toStop.push(() => carrier.close());
  const endpoints = { tcp: [{ host: "127.0.0.1", port: node.tcp.port }], hasUdp: false };
  const target = { nodeId: nodeId(`node_${"0".repeat(32)}`), publicKeyHex: node.publicKeyHex, endpoints };
  const connection = await carrier.dial(target, FOREVER);
  const came: PeerFrame[] = [];
  let isCut = false;
  const reader = new PeerFrameReader(() => true);
  connection.listen({
    onBytes: (bytes) => void reader.push(bytes, (frame) => came.push(frame) > 0),
    onDrain: () => undefined,
    onClose: () => {
      isCut = true;
    },
  });
  connection.write(writeFrame({ kind: "hello", version: PEER_PROTOCOL_VERSION, role: "message", credential: GOOD }));
  await expect.poll(() => came.map(({ kind }) => kind)).toContain("accepted");
  return { connection, keyHex: toHex(keyPair.publicKey), came, isCut: () => isCut };
}

describe("a node that was let in", () => {
  test("and asks for answers without reading any is cut before they fill the memory", { timeout: 30_000 }, async () => {
    const node = await serving();
    const guest = await admitted(node);
    guest.connection.pause();
    const ping = writeFrame({ kind: "ping", id: 7, lossShare: null });
    const thousand = Buffer.concat(Array.from({ length: 1_000 }, () => ping));
    // Both kernels' buffers take some megabytes of answers first.
    for (let sent = 0; sent < 4_000 && node.network.open(guest.keyHex) !== null; sent++) {
      if (!guest.connection.write(thousand)) await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => node.network.open(guest.keyHex), { timeout: 10_000 }).toBeNull();
    expect(node.network.breaches().frame).toBe(1);
  });

  test("and presents credentials without end is cut after a bound of them", async () => {
    const node = await serving();
    const guest = await admitted(node);
    for (let id = 1; id <= 2_000; id++) {
      guest.connection.write(writeFrame({ kind: "present", id, credential: "wrong" }));
    }
    await expect.poll(guest.isCut).toBe(true);
    expect(node.network.breaches().frame).toBe(1);
    expect(node.looked()).toBeLessThan(300);
  });
});

describe("a node with a relayed connection", () => {
  test("that leaves with words too long for a close frame takes nothing with it", async () => {
    const grid = await startRelayGrid({
      host: "127.0.0.1",
      bindHost: "127.0.0.1",
      port: 0,
      hasUdp: false,
      tlsFolder: null,
    });
    toStop.push(() => grid.stop());
    const joinToken = await grid.joinToken(2);
    const [one, other] = await Promise.all(
      ["one", "other"].map((name) => startRelayNode({ ...grid, name, joinToken })),
    );
    if (one === undefined || other === undefined) throw new Error("two were started");
    toStop.push(() => Promise.all([one.stop(), other.stop()]));
    const heard: string[] = [];
    const nothing = () => undefined;
    grid.registry.subscribe({
      onOnline: nothing,
      onSuspect: nothing,
      onWithdrawn: nothing,
      onGone: (id) => heard.push(id),
      onWork: nothing,
      onReplicas: nothing,
    });
    const ends: WebSocket[] = [];
    for (let count = 0; count < 2; count++) {
      const { relayId } = await one.asks.ask(other.nodeId, FOREVER);
      for (const { asks } of [one, other]) {
        const headers = { authorization: `Bearer ${asks.session()?.sessionToken}` };
        const end = new WebSocket(`${grid.url.replace("http", "ws")}${RELAY_PATH}${relayId}`, { headers });
        ends.push(end);
        await once(end, "open");
      }
    }
    await expect.poll(() => grid.relay.stats().piping).toBe(2);
    const closed = ends.map((end) => once(end, "close"));
    other.say({ type: "goodbye", reason: "さ".repeat(600) });
    await Promise.all(closed);
    expect(grid.relay.stats()).toMatchObject({ piping: 0, offered: 0 });
    expect(heard).toEqual([other.nodeId]);
  });
});

describe("a node that names others' addresses as its own", () => {
  test("has each of them met a few times by each node, whoever else names them too", { timeout: 30_000 }, async () => {
    let knocks = 0;
    const victim = createServer((socket) => {
      knocks += 1;
      socket.on("error", () => undefined);
      socket.resume().end("SSH-2.0-victim\r\n");
    });
    victim.listen(0, "127.0.0.1");
    await once(victim, "listening");
    toStop.push(() => new Promise((resolve) => void victim.close(resolve)));
    const listening = victim.address();
    const port = typeof listening === "object" ? (listening?.port ?? 0) : 0;
    const fetcher = await openTcpCarrier({ keyPair: crypto.generateKeyPair(), host: "127.0.0.1", port: 0 });
    toStop.push(() => fetcher.close());
    const endpoints = { tcp: [{ host: "127.0.0.1", port }], hasUdp: false };
    const why: string[] = [];
    for (let liar = 0; liar < 40; liar++) {
      const publicKeyHex = toHex(crypto.generateKeyPair().publicKey);
      const id = nodeId(`node_${liar.toString(16).padStart(32, "0")}`);
      const dial = fetcher.dial({ nodeId: id, publicKeyHex, endpoints }, FOREVER);
      await dial.catch((fault: unknown) => why.push(String(fault)));
    }
    expect(why).toHaveLength(40);
    expect(knocks).toBeLessThanOrEqual(4);
    expect(why.at(-1)).toMatch(/failed a moment ago/);
  });

  test("does not keep a node from one that it met before at that address", async () => {
    const node = await serving();
    const fetcher = await openTcpCarrier({ keyPair: crypto.generateKeyPair(), host: "127.0.0.1", port: 0 });
    toStop.push(() => fetcher.close());
    const endpoints = { tcp: [{ host: "127.0.0.1", port: node.tcp.port }], hasUdp: false };
    const right = { nodeId: nodeId(`node_${"1".repeat(32)}`), publicKeyHex: node.publicKeyHex, endpoints };
    const wrong = { ...right, publicKeyHex: toHex(crypto.generateKeyPair().publicKey) };
    (await fetcher.dial(right, FOREVER)).destroy();
    for (let round = 0; round < 3; round++) {
      await expect(fetcher.dial(wrong, FOREVER)).rejects.toMatchObject({ code: /peer-/ });
    }
    (await fetcher.dial(right, FOREVER)).destroy();
  });
});

describe("a stranger at the peer port", () => {
  test("that holds as many handshakes open as he can keeps nobody from another address out", async () => {
    const node = await serving({ host: "0.0.0.0" });
    const sockets = Array.from({ length: 300 }, () => {
      const socket = connect({ port: node.tcp.port, host: "127.0.0.1", localAddress: "127.0.0.66" });
      socket.on("error", () => undefined);
      return socket;
    });
    toStop.push(async () => {
      for (const socket of sockets) socket.destroy();
    });
    const turnedAway = () => node.tcp.refused().rate + node.tcp.refused().handshakes;
    await expect.poll(turnedAway, { timeout: 10_000 }).toBeGreaterThanOrEqual(252);
    const guest = await admitted(node);
    expect(guest.isCut()).toBe(false);
  });

  test("that proves a key and greets nobody keeps nobody from another address out", { timeout: 30_000 }, async () => {
    const node = await serving({ host: "0.0.0.0" });
    const { certificatePem, privateKeyPem } = identityCertificate(crypto.generateKeyPair());
    const identities = [{ certificatePem, privateKeyPem }, identityCertificate(crypto.generateKeyPair())];
    const silent: TLSSocket[] = [];
    toStop.push(async () => {
      for (const socket of silent) socket.destroy();
    });
    for (let index = 0; index < 60; index++) {
      const { certificatePem: cert, privateKeyPem: key } =
        identities[index % 2] ?? identityCertificate(crypto.generateKeyPair());
      const transport = connect({ port: node.tcp.port, host: "127.0.0.1", localAddress: "127.0.0.66" });
      const socket = connectTls({
        socket: transport,
        cert,
        key,
        rejectUnauthorized: false,
        ALPNProtocols: ["fallow-peer/1"],
      });
      socket.on("error", () => undefined);
      silent.push(socket);
      await Promise.race([once(socket, "secureConnect"), once(socket, "close")]);
    }
    await expect.poll(() => node.network.breaches()["greetings-full"], { timeout: 5_000 }).toBeGreaterThanOrEqual(1);
    const guest = await admitted(node);
    expect(guest.isCut()).toBe(false);
  });
});
