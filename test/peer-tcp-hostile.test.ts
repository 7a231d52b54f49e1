/** The TCP carrier's port is open to strangers: who proves no Ed25519 key gets nothing, and who is at the wrong address is never taken for another. */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { generate } from "selfsigned";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { identityCertificate } from "../src/adapters/peer-tcp/identity-certificate.ts";
import { openTcpCarrier, type TcpCarrier } from "../src/adapters/peer-tcp/tcp-carrier.ts";
import { nodeId } from "../src/domain/ids.ts";
import type { HostPort, PeerTarget } from "../src/domain/peer.ts";
import { toHex } from "../src/market/hex.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";

const crypto = new NodeCrypto();
const NODE = nodeId(`node_${"0".repeat(32)}`);
const ALPN = "fallow-peer/1";
const UNTIL_MS_MAX = 20_000;
const keyPair = crypto.generateKeyPair();
const signal = () => new AbortController().signal;

let carrier: TcpCarrier;
let accepted: PeerConnection[];

beforeEach(async () => {
  accepted = [];
  carrier = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
  carrier.onConnection((connection) => accepted.push(connection));
});
afterEach(() => carrier.close());

async function until(isReached: () => boolean): Promise<void> {
  const endMs = performance.now() + UNTIL_MS_MAX;
  while (!isReached()) {
    if (performance.now() > endMs) throw new Error("not reached");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once("close", () => resolve());
  });
}

function tls(options: { cert?: string; key?: string; ALPNProtocols?: string[] }): TLSSocket {
  const socket = connectTls({
    host: "127.0.0.1",
    port: carrier.port,
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN],
    ...options,
  });
  socket.on("error", () => undefined); // being turned away is what is wanted
  socket.resume();
  return socket;
}

function targetAt(...tcp: readonly HostPort[]): PeerTarget {
  return { nodeId: NODE, publicKeyHex: toHex(keyPair.publicKey), endpoints: { tcp, hasUdp: false } };
}

async function withDialer<T>(use: (dialer: TcpCarrier) => Promise<T>): Promise<T> {
  const dialer = await openTcpCarrier({ keyPair: crypto.generateKeyPair(), host: "127.0.0.1", port: 0 });
  try {
    return await use(dialer);
  } finally {
    await dialer.close();
  }
}

describe("a stranger", () => {
  test("that speaks no TLS is turned away", async () => {
    const socket = connectPlain({ host: "127.0.0.1", port: carrier.port });
    socket.on("error", () => undefined); // being turned away is what is wanted
    socket.resume();
    socket.write("GET / HTTP/1.1\r\nHost: node\r\n\r\n");
    await closed(socket);
    expect(carrier.refused()["handshake-failed"]).toBe(1);
    expect(accepted).toEqual([]);
  });

  test("without a certificate, or with one of another kind of key, is turned away", async () => {
    const pems = await generate([{ name: "commonName", value: "fallow node" }], { keyType: "ec", curve: "P-256" });
    for (const options of [{}, { cert: pems.cert, key: pems.private }]) await closed(tls(options));
    await until(() => carrier.refused()["handshake-failed"] === 2);
    expect(accepted).toEqual([]);
  });

  test("with another's certificate and no key of it cannot even start", () => {
    const { certificatePem } = identityCertificate(keyPair);
    const { privateKeyPem } = identityCertificate(crypto.generateKeyPair());
    expect(() => tls({ cert: certificatePem, key: privateKeyPem })).toThrow(/key values mismatch/i);
  });

  test("that speaks another protocol over TLS is turned away", async () => {
    const { certificatePem, privateKeyPem } = identityCertificate(crypto.generateKeyPair());
    await closed(tls({ cert: certificatePem, key: privateKeyPem, ALPNProtocols: ["h2"] }));
    await until(() => carrier.refused()["handshake-failed"] === 1);
    expect(accepted).toEqual([]);
  });

  test("that opens connections without end is held to a bound", async () => {
    await withDialer(async (dialer) => {
      // One that is refused for the rate ends before it is proved, one too many of a peer after that.
      const target = targetAt({ host: "127.0.0.1", port: carrier.port });
      for (let index = 0; index < 70; index++) await dialer.dial(target, signal()).catch(() => null);
      await until(() => carrier.refused()["connections-of-peer"] + carrier.refused().rate >= 6);
      expect(accepted.length).toBeGreaterThan(0);
      expect(accepted.length).toBeLessThanOrEqual(64);
    });
  });
});

describe("a dial", () => {
  test("that meets another node at every address names the mismatch", async () => {
    const other = await openTcpCarrier({ keyPair: crypto.generateKeyPair(), host: "127.0.0.1", port: 0 });
    await withDialer(async (dialer) => {
      const target = targetAt({ host: "127.0.0.1", port: other.port });
      await expect(dialer.dial(target, signal())).rejects.toMatchObject({ code: "peer-identity-mismatch" });
    });
    await other.close();
  });

  test("finds the address that is right among those that are dead or another's", async () => {
    const other = await openTcpCarrier({ keyPair: crypto.generateKeyPair(), host: "127.0.0.1", port: 0 });
    await withDialer(async (dialer) => {
      const target = targetAt(
        { host: "192.0.2.1", port: 9 },
        { host: "127.0.0.1", port: 1 },
        { host: "127.0.0.1", port: other.port },
        { host: "127.0.0.1", port: carrier.port },
      );
      const connection = await dialer.dial(target, signal());
      expect(connection.peerKeyHex).toBe(toHex(keyPair.publicKey));
    });
    await other.close();
  });

  test("to a node that named no address says so", async () => {
    await withDialer(async (dialer) => {
      await expect(dialer.dial(targetAt(), signal())).rejects.toThrow(/named no address/);
    });
  });

  test("measures what the kernel knows of the way", async () => {
    await withDialer(async (dialer) => {
      const connection = await dialer.dial(targetAt({ host: "127.0.0.1", port: carrier.port }), signal());
      const { rttMs } = connection.measured();
      if (process.platform === "linux") expect(rttMs).toBeGreaterThan(0);
      else expect(rttMs).toBeNull();
    });
  });
});

test("a port that is taken is named", async () => {
  const opening = openTcpCarrier({ keyPair, host: "127.0.0.1", port: carrier.port });
  await expect(opening).rejects.toMatchObject({ code: "peer-port-unusable" });
});
