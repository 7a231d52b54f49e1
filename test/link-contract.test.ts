/** What every Link keeps, whether it is a real socket (plain or TLS) or the simulator's: one suite, three carriers. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type HttpServer, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { LinkServer } from "../src/adapters/link-websocket/link-server.ts";
import { WebSocketDialer } from "../src/adapters/link-websocket/websocket-dialer.ts";
import { keptTlsIdentity, type TlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { LINK_CLOSE, LINK_FRAME_BYTES_MAX, type Link, type LinkTarget } from "../src/ports/link.ts";
import { CALM_NETWORK, PacketNetwork } from "../src/sim/network/packet-network.ts";
import { SimInternet } from "../src/sim/network/sim-dialer.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { LINK_PATH } from "../src/wire/agent-link.ts";

interface Pair {
  readonly near: Link;
  readonly far: Link;
}

interface Carrier {
  open(): Promise<Pair>;
  /** Lets time pass until the condition holds. */
  until(isReached: () => boolean): Promise<void>;
  close(): Promise<void>;
}

/** Turns of the event loop, or virtual milliseconds, after which a condition that does not hold never will. */
const TURNS_MAX = 20_000;

async function socketCarrier(tls: TlsIdentity | null): Promise<Carrier> {
  const accepted: Link[] = [];
  const links = new LinkServer((link) => accepted.push(link));
  const server: HttpServer = await startHttpServer({
    host: tls === null ? "127.0.0.1" : "0.0.0.0",
    port: 0,
    tls,
    handler: () => Promise.resolve(new Response("no link")),
    links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
  });
  const target: LinkTarget = {
    url: `${tls === null ? "http" : "https"}://127.0.0.1:${server.port}`,
    certificateSha256: tls?.certificateSha256 ?? null,
  };
  const until = async (isReached: () => boolean) => {
    for (let turn = 0; !isReached(); turn++) {
      if (turn > TURNS_MAX) throw new Error("not reached");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  return {
    until,
    open: async () => {
      const near = await new WebSocketDialer().dial(target, new AbortController().signal);
      await until(() => accepted.length > 0);
      const far = accepted.shift();
      if (far === undefined) throw new Error("a link was accepted");
      return { near, far };
    },
    close: () => server.close(0),
  };
}

function simCarrier(): Carrier {
  const timeline = new Timeline();
  const network = new PacketNetwork({ timeline, random: new SeededRandom("link"), conditions: CALM_NETWORK });
  const coordinator = new Host("coordinator", timeline);
  const internet = new SimInternet({
    network,
    coordinator,
    tap: { onFrame: () => undefined, onSent: () => undefined, onClosed: () => undefined },
  });
  const accepted: Link[] = [];
  internet.listen({ host: coordinator, onLink: (link) => accepted.push(link) });
  const until = async (isReached: () => boolean) => {
    for (let turn = 0; !isReached(); turn++) {
      if (turn > TURNS_MAX) throw new Error("not reached");
      await timeline.run(timeline.nowMs + 1, () => true);
    }
  };
  return {
    until,
    open: async () => {
      let near: Link | null = null;
      const dialer = internet.dialerFrom(new Host("node", timeline));
      void dialer.dial({ url: "http://sim", certificateSha256: null }, new AbortController().signal).then((link) => {
        near = link;
      });
      await until(() => near !== null && accepted.length > 0);
      const far = accepted.shift();
      if (near === null || far === undefined) throw new Error("a link was accepted");
      return { near, far };
    },
    close: () => Promise.resolve(),
  };
}

let folder: string;
let identity: TlsIdentity;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-link-"));
  identity = await keptTlsIdentity(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function record(link: Link) {
  const frames: string[] = [];
  const closed: { code: number; reason: string }[] = [];
  link.listen({ onFrame: (frame) => frames.push(frame), onClose: (code, reason) => closed.push({ code, reason }) });
  return { frames, closed };
}

describe.each([
  ["a WebSocket on loopback", () => socketCarrier(null)],
  ["a WebSocket over TLS", () => socketCarrier(identity)],
  ["the simulator's link", () => Promise.resolve(simCarrier())],
])("%s", (name, makeCarrier) => {
  let carrier: Carrier;
  let near: Link;
  let far: Link;

  beforeEach(async () => {
    carrier = await makeCarrier();
    ({ near, far } = await carrier.open());
  });
  afterEach(async () => {
    near.destroy();
    far.destroy();
    await carrier.close();
  });

  test("delivers frames in both directions, in order, whole, whatever characters they hold", async () => {
    const [here, there] = [record(near), record(far)];
    const sent = Array.from({ length: 500 }, (_, at) => `${at} ${"é漢🙂\u0000".repeat(at % 7)}`);
    for (const frame of sent) {
      near.send(frame);
      far.send(frame);
    }
    await carrier.until(() => here.frames.length === 500 && there.frames.length === 500);
    expect(here.frames).toEqual(sent);
    expect(there.frames).toEqual(sent);
  });

  test("keeps what arrives before anybody listens", async () => {
    for (let at = 0; at < 20; at++) far.send(`${at}`);
    await carrier.until(() => far.bufferedBytes() === 0);
    const here = record(near);
    await carrier.until(() => here.frames.length === 20);
    expect(here.frames).toEqual(Array.from({ length: 20 }, (_, at) => `${at}`));
  });

  test("tells the other end code and reason, once, after everything that was sent before", async () => {
    const [here, there] = [record(near), record(far)];
    near.send("last words");
    near.close(LINK_CLOSE.silent, "too quiet");
    near.close(LINK_CLOSE.normal, "a second close says nothing");
    near.send("never said");
    await carrier.until(() => here.closed.length > 0 && there.closed.length > 0);
    expect(there.frames).toEqual(["last words"]);
    expect(there.closed).toEqual([{ code: LINK_CLOSE.silent, reason: "too quiet" }]);
    expect(here.closed).toHaveLength(1);
    far.close(LINK_CLOSE.normal, "too late");
    near.destroy();
    expect(there.closed).toHaveLength(1);
  });

  test("cuts at once when it is destroyed, also twice, and both ends hear of it once", async () => {
    const [here, there] = [record(near), record(far)];
    near.destroy();
    near.destroy();
    await carrier.until(() => here.closed.length > 0 && there.closed.length > 0);
    near.send("never said");
    near.close(LINK_CLOSE.normal, "");
    expect(here.closed).toHaveLength(1);
    expect(there.closed).toHaveLength(1);
    expect(there.closed[0]?.code).toBe(1006);
    expect(there.frames).toEqual([]);
  });

  test("carries a frame of the largest size to a peer that is trusted, and refuses a larger one as the sender's bug", async () => {
    far.trust?.();
    const there = record(far);
    record(near);
    const largest = "x".repeat(LINK_FRAME_BYTES_MAX);
    near.send(largest);
    await carrier.until(() => there.frames.length === 1);
    expect(there.frames[0] === largest).toBe(true);
    expect(() => near.send(`${largest}x`)).toThrow(/must hold/);
    expect(() => near.send("é".repeat(LINK_FRAME_BYTES_MAX / 2 + 1))).toThrow(/must hold/);
    near.send("still open");
    await carrier.until(() => there.frames.length === 2);
  });

  test("counts what the other end has not taken, and is empty again once it has", async () => {
    far.trust?.();
    const megabyte = "y".repeat(1_000_000);
    for (let at = 0; at < 60; at++) near.send(megabyte);
    expect(near.bufferedBytes()).toBeGreaterThan(20_000_000);
    const there = record(far);
    await carrier.until(() => there.frames.length === 60);
    await carrier.until(() => near.bufferedBytes() === 0);
  });

  test("names its other end and what its proof of identity is bound to, the same at both ends", () => {
    expect(near.remote).not.toBe("");
    expect(far.remote).not.toBe("");
    expect(near.channelBinding).toBe(far.channelBinding);
    expect(near.channelBinding).toBe(name.includes("TLS") ? identity.certificateSha256 : "loopback");
  });

  test("is listened to once", () => {
    record(near);
    expect(() => record(near)).toThrow(/must hold/);
  });
});

describe("a WebSocket link beyond the contract", () => {
  let carrier: Carrier;

  beforeEach(async () => {
    carrier = await socketCarrier(identity);
  });
  afterEach(() => carrier.close());

  test("cuts a stranger that sends more than a hello needs, before it is trusted", async () => {
    const { near, far } = await carrier.open();
    const [here, there] = [record(near), record(far)];
    near.send("x".repeat(100_000));
    await carrier.until(() => here.closed.length > 0 && there.closed.length > 0);
    expect(there.frames).toEqual([]);
    expect(here.closed[0]?.code).toBe(1006);
  });

  test("closes with a reason cut to what a close frame holds, never in the middle of a character", async () => {
    const { near, far } = await carrier.open();
    const there = record(far);
    record(near);
    near.close(LINK_CLOSE.protocolError, "é".repeat(200));
    await carrier.until(() => there.closed.length > 0);
    expect(there.closed).toEqual([{ code: LINK_CLOSE.protocolError, reason: "é".repeat(61) }]);
  });
});
