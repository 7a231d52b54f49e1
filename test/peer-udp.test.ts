/** The UDP carrier and the grid's bootstrap nodes over real sockets of this machine. */

import { randomBytes } from "node:crypto";
import type { EventEmitter } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { type BootstrapNodes, startBootstrapNodes } from "../src/adapters/peer-udp/bootstrap.ts";
import { DialPauses } from "../src/adapters/peer-udp/dial-pauses.ts";
import { checkedBootstrap, loadHyperDht, openGridDht } from "../src/adapters/peer-udp/grid-dht.ts";
import { HandshakeGate } from "../src/adapters/peer-udp/handshake-gate.ts";
import { openUdpCarrier, type UdpCarrier } from "../src/adapters/peer-udp/udp-carrier.ts";
import { nodeId } from "../src/domain/ids.ts";
import type { HostPort, PeerTarget } from "../src/domain/peer.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection } from "../src/ports/peer-carrier.ts";
import { freeUdpPorts } from "./support/udp-ports.ts";

const HERE = "127.0.0.1";
const FOREVER = new AbortController().signal;
const crypto = new NodeCrypto();
let bootstrap: BootstrapNodes;
const toStop: Array<() => Promise<void>> = [];

beforeEach(async () => {
  bootstrap = await startBootstrapNodes({ publicHost: HERE, firstPort: await freeUdpPorts(4), bindHost: HERE });
  toStop.push(() => bootstrap.stop());
});
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

interface Member {
  readonly carrier: UdpCarrier;
  readonly target: PeerTarget;
}

async function startMember(
  more: { readonly admits?: (key: string) => boolean; readonly isKnown?: boolean } = {},
): Promise<Member> {
  const keyPair = crypto.generateKeyPair();
  const publicKeyHex = Buffer.from(keyPair.publicKey).toString("hex");
  if (more.isKnown !== false) bootstrap.admit(publicKeyHex);
  const { admits } = more;
  const carrier = await openUdpCarrier({
    keyPair,
    bootstrap: bootstrap.addresses,
    port: 0,
    bindHost: HERE,
    ...(admits === undefined ? {} : { admits }),
  });
  toStop.push(() => carrier.close());
  await carrier.listening;
  const id = nodeId(`node_${publicKeyHex.slice(0, 32)}`);
  return { carrier, target: { nodeId: id, publicKeyHex, endpoints: { tcp: [], hasUdp: true } } };
}

const ignore = { onBytes: () => undefined, onDrain: () => undefined, onClose: () => undefined };

async function connected(): Promise<{ readonly dialled: PeerConnection; readonly met: PeerConnection }> {
  const [one, other] = [await startMember(), await startMember()];
  const arriving = new Promise<PeerConnection>((resolve) => other.carrier.onConnection(resolve));
  const dialled = await one.carrier.dial(other.target, FOREVER);
  const met = await arriving;
  expect(dialled.peerKeyHex).toBe(other.target.publicKeyHex);
  expect(met.peerKeyHex).toBe(one.target.publicKeyHex);
  return { dialled, met };
}

function receive(connection: PeerConnection, count: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    connection.listen({
      ...ignore,
      onBytes: (part) => {
        parts.push(part);
        bytes += part.length;
        if (bytes >= count) resolve(Buffer.concat(parts));
      },
    });
  });
}

describe("a connection over UDP", () => {
  test("proves the Ed25519 identity of both nodes and carries bytes in order both ways", async () => {
    const { dialled, met } = await connected();
    const there = randomBytes(9_000_000);
    const back = randomBytes(1_000_000);
    const gotThere = receive(met, there.length);
    const gotBack = receive(dialled, back.length);
    dialled.write(there);
    met.write(back);
    expect((await gotThere).equals(there)).toBe(true);
    expect((await gotBack).equals(back)).toBe(true);
    const { rttMs, lossShare } = dialled.measured();
    expect(rttMs).toBeGreaterThanOrEqual(0);
    expect(lossShare).toBeGreaterThanOrEqual(0);
  });

  test("keeps what comes before anybody listens, and holds the sender while the reader pauses", async () => {
    const { dialled, met } = await connected();
    const part = randomBytes(65_536);
    let written = 0;
    dialled.listen(ignore);
    let hasRoom = true;
    const fill = () => {
      while (hasRoom) {
        hasRoom = dialled.write(part);
        written += part.length;
      }
      hasRoom = dialled.bufferedBytes() < CONNECTION_BUFFER_BYTES;
      return written;
    };
    // One window on its way, and the sender's own buffer.
    await expect.poll(fill, { interval: 1, timeout: 10_000 }).toBeGreaterThan(4_194_304 + CONNECTION_BUFFER_BYTES - 1);
    for (let turns = 0; turns < 500; turns++) {
      fill();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(written).toBeLessThan(5_000_000);
    expect(dialled.bufferedBytes()).toBeLessThan(400_000);
    const got = await receive(met, written);
    expect(got.subarray(0, part.length).equals(part)).toBe(true);
    expect(got.length).toBe(Math.floor(got.length / part.length) * part.length);
  });

  test("delivers what was queued before it closes, and both ends hear of the end once", async () => {
    const { dialled, met } = await connected();
    const closes: string[] = [];
    const bytes = randomBytes(2_000_000);
    const received: Uint8Array[] = [];
    const ended = new Promise<void>((resolve) => {
      met.listen({
        onBytes: (part) => received.push(part),
        onDrain: () => undefined,
        onClose: (cause) => {
          closes.push(cause);
          resolve();
        },
      });
    });
    const closed = new Promise<void>((resolve) => {
      dialled.listen({
        ...ignore,
        onClose: (cause) => {
          closes.push(cause);
          resolve();
        },
      });
    });
    dialled.write(bytes);
    dialled.close();
    await Promise.all([ended, closed]);
    expect(Buffer.concat(received).equals(bytes)).toBe(true);
    expect(closes).toHaveLength(2);
  });
});

interface RawWriter {
  write(bytes: Uint8Array): boolean;
}

describe("a peer that breaks the frames", () => {
  /** A stream of the library's own, to a node that reads nothing. */
  async function rawStream(): Promise<{ readonly stream: EventEmitter & RawWriter; readonly closed: Promise<string> }> {
    const member = await startMember();
    const met = new Promise<PeerConnection>((resolve) => member.carrier.onConnection(resolve));
    const library = await loadHyperDht();
    const dht = openGridDht(library, { bootstrap: bootstrap.addresses, host: HERE, port: [0, 1] });
    toStop.push(() => dht.destroy({ force: true }));
    const stream = dht.connect(Buffer.from(member.target.publicKeyHex, "hex"));
    stream.on("error", () => undefined);
    await new Promise((resolve) => stream.once("open", resolve));
    const connection = await met;
    connection.pause();
    return { stream, closed: new Promise((resolve) => connection.listen({ ...ignore, onClose: resolve })) };
  }

  test.each([
    ["a frame of no kind", () => [Buffer.from([7, 1, 2])], "a frame of no kind"],
    ["credit that nobody needs", () => [Buffer.from([1, 255, 255, 255, 255])], "credit for more than it was sent"],
    ["an empty message", () => [Buffer.alloc(0), Buffer.from([9])], "a frame of no kind"],
    [
      "more than it has credit for",
      () => Array.from({ length: 70 }, () => Buffer.alloc(65_536)),
      "more than it had credit for",
    ],
  ])("is cut: %s", async (_what, frames, cause) => {
    const { stream, closed } = await rawStream();
    for (const frame of frames()) stream.write(frame);
    expect(await closed).toContain(cause);
  });
});

describe("dialling over UDP", () => {
  const dial = (member: Member, target: PeerTarget, signal = FOREVER) => member.carrier.dial(target, signal);

  test("fails by name for a node that is not there, takes no part, or turns the key away", async () => {
    const member = await startMember();
    const stranger = crypto.generateKeyPair();
    const absent = { ...member.target, publicKeyHex: Buffer.from(stranger.publicKey).toString("hex") };
    await expect(dial(member, absent)).rejects.toMatchObject({
      code: "peer-unreachable",
      data: { why: "PEER_NOT_FOUND" },
    });
    const without = { ...absent, endpoints: { tcp: [], hasUdp: false } };
    await expect(dial(member, without)).rejects.toMatchObject({ code: "peer-unreachable" });
    const closed = await startMember({ admits: () => false });
    await expect(dial(member, closed.target, AbortSignal.timeout(1_500))).rejects.toMatchObject({
      code: "peer-unreachable",
    });
  });

  test("a node that the grid does not know finds nobody to announce itself to", async () => {
    const stranger = await startMember({ isKnown: false });
    expect(stranger.carrier.endpoints()).toEqual({ tcp: [], hasUdp: false });
    const member = await startMember();
    expect(member.carrier.endpoints()).toEqual({ tcp: [], hasUdp: true });
    await expect(dial(member, stranger.target)).rejects.toMatchObject({ code: "peer-unreachable" });
  });

  test("a node that left the grid is not found any more", async () => {
    const [one, other] = [await startMember(), await startMember()];
    bootstrap.forget(other.target.publicKeyHex);
    await expect(dial(one, other.target)).rejects.toMatchObject({ data: { why: "PEER_NOT_FOUND" } });
  });
});

describe("a grid keeps to itself", () => {
  test("without bootstrap nodes of its own nothing is opened, since the library would join a public network", async () => {
    const library = await loadHyperDht();
    const keyPair = crypto.generateKeyPair();
    const wrong: readonly (readonly HostPort[] | null | undefined)[] = [undefined, null, []];
    for (const nodes of wrong) {
      expect(() => checkedBootstrap(nodes)).toThrowError(expect.objectContaining({ code: "peer-bootstrap-missing" }));
    }
    await expect(openUdpCarrier({ keyPair, bootstrap: [], port: 0, bindHost: HERE })).rejects.toMatchObject({
      code: "peer-bootstrap-missing",
    });
    expect(() => openGridDht(library, { bootstrap: [] })).toThrowError(
      expect.objectContaining({ code: "peer-bootstrap-missing" }),
    );
    for (const host of ["node1.hyperdht.org", "88.99.3.86@node1.hyperdht.org", "::1", "0.0.0.0", ""]) {
      expect(() => checkedBootstrap([{ host, port: 49_737 }]), host).toThrowError(
        expect.objectContaining({ code: "peer-bootstrap-wrong" }),
      );
    }
  });

  test("a node that names others to everybody it meets is neither learned nor are they", async () => {
    const library = await loadHyperDht();
    const foreign = library.bootstrapper(await freeUdpPorts(1), HERE, { bootstrap: bootstrap.addresses, host: HERE });
    toStop.push(() => foreign.destroy({ force: true }));
    await foreign.ready();
    const member = await startMember();
    expect(member.carrier.endpoints().hasUdp).toBe(true);
    const own = bootstrap.addresses.map(({ host, port }) => `${host}:${port}`).sort();
    expect(foreign.toArray().length).toBeGreaterThan(0); // it has met ours
    expect(
      member.carrier
        .knownNodes()
        .map(({ host, port }) => `${host}:${port}`)
        .sort(),
    ).toEqual(own);
  });

  test("bootstrap nodes store nothing for anybody", async () => {
    const library = await loadHyperDht();
    const stranger = openGridDht(library, { bootstrap: bootstrap.addresses, host: HERE, port: [0, 1] });
    toStop.push(() => stranger.destroy({ force: true }));
    await expect(stranger.immutablePut(Buffer.from("free storage"))).rejects.toThrow("Too few nodes responded");
  });
});

describe("bounds", () => {
  test("a node that could not be punched is left alone for as long as the library would refuse", () => {
    const pauses = new DialPauses();
    pauses.note("aa", "HOLEPUNCH_ABORTED", 1_000);
    pauses.note("bb", "HOLEPUNCH_DOUBLE_RANDOMIZED_NATS", 1_000);
    pauses.note("cc", "PEER_NOT_FOUND", 1_000);
    expect(pauses.reason("aa", 20_999)).toContain("HOLEPUNCH_ABORTED");
    expect(pauses.reason("aa", 21_000)).toBe(null);
    expect(pauses.reason("bb", 600_000)).toContain("DOUBLE_RANDOMIZED");
    expect(pauses.reason("cc", 1_001)).toBe(null);
  });

  test("one key cannot use up the handshakes of all others, and all together are bounded", () => {
    const gate = new HandshakeGate();
    const count = (key: string, tries: number) =>
      Array.from({ length: tries }, () => gate.admits(key, 5_000)).filter((isIn) => isIn).length;
    expect(count("flooder", 1_000)).toBe(16);
    expect(count("honest", 10)).toBe(10);
    const many = Array.from({ length: 100 }, (_, index) => count(`key-${index}`, 10)).reduce(
      (sum, one) => sum + one,
      0,
    );
    expect(many).toBe(64 - 26);
    expect(gate.admits("later", 6_000)).toBe(true);
  });
});
