/** Nodes that break the protocol of links: each is cut or turned away, counted, and named; nobody else notices. */
import { afterEach, expect, test } from "vitest";
import { GREETING_MS_MAX, UNREAD_MS } from "../src/agent/peering/link-bounds.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";
import { PeerFrameReader } from "../src/wire/peer-frame-reader.ts";
import { PEER_PROTOCOL_VERSION, type PeerFrame, writeDataHead, writeFrame } from "../src/wire/peer-frames.ts";
import { fetchAll, GOOD, type PeerPair, peerPair } from "./support/peer-pair.ts";

type Plain = Exclude<PeerFrame, { kind: "data" }>;

/** Somebody with a key of his own who writes what he likes. */
interface Stranger {
  send(...frames: readonly Plain[]): void;
  sendRaw(bytes: Uint8Array): void;
  readonly came: PeerFrame[];
  isCut(): boolean;
  /** From here on it reads nothing. */
  pause(): void;
}

let pair: PeerPair;
const MALLORY = "0c".repeat(32);
const signal = () => new AbortController().signal;

afterEach(() => pair.stop());

async function start(): Promise<void> {
  pair = await peerPair();
}

async function stranger(keyHex = MALLORY): Promise<Stranger> {
  const carrier = pair.net.carrier("tcp", keyHex);
  const connection: PeerConnection = await pair.settled(carrier.dial(pair.target, signal()));
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
  return {
    came,
    isCut: () => isCut,
    pause: () => connection.pause(),
    send: (...frames) => {
      for (const frame of frames) connection.write(writeFrame(frame));
    },
    sendRaw: (bytes) => void connection.write(bytes),
  };
}

/** Connects and says nothing. */
async function silentStranger(keyHex: string): Promise<void> {
  const connection = await pair.net.carrier("tcp", keyHex).dial(pair.target, signal());
  connection.listen({ onBytes: () => undefined, onDrain: () => undefined, onClose: () => undefined });
}

const hello: Plain = { kind: "hello", version: PEER_PROTOCOL_VERSION, role: "message", credential: GOOD };

async function admitted(): Promise<{ guest: Stranger; session: Extract<PeerFrame, { kind: "accepted" }> }> {
  const guest = await stranger();
  guest.send(hello);
  await pair.until(() => guest.came.some(({ kind }) => kind === "accepted"));
  const session = guest.came.find((frame) => frame.kind === "accepted");
  if (session?.kind !== "accepted") throw new Error("it was accepted");
  return { guest, session };
}

function ask(guest: Stranger, change: Partial<Extract<PeerFrame, { kind: "ask" }>>): void {
  const request = Buffer.from("1000000 a");
  guest.send({ kind: "ask", stream: 1, offset: 0, length: 1_000, totalBytes: 1_000_000, request, ...change });
}

test("who never greets is cut within the bound", async () => {
  await start();
  const silent = await stranger();
  await pair.pass(GREETING_MS_MAX + 100);
  expect(silent.isCut()).toBe(true);
  expect(pair.far.breaches()["greeting-late"]).toBe(1);
});

test("who starts with anything but a greeting is cut", async () => {
  await start();
  const rude = await stranger();
  rude.send({ kind: "message", seq: 1, bytes: new Uint8Array(10) });
  await pair.until(rude.isCut);
  expect(pair.far.breaches().greeting).toBe(1);
  expect(pair.farMessages).toEqual([]);
});

test("another version is told which one is spoken", async () => {
  await start();
  const old = await stranger();
  old.send({ ...hello, version: 99 } as Plain);
  await pair.until(() => old.came.length > 0);
  expect(old.came[0]).toMatchObject({ kind: "refused", refusal: { message: expect.stringContaining("99") } });
  expect(pair.far.breaches().version).toBe(1);
});

test("a frame longer than its kind may be ends the link", async () => {
  await start();
  const { guest } = await admitted();
  const head = new Uint8Array(5);
  head[0] = 7;
  new DataView(head.buffer).setUint32(1, 50_000_000);
  guest.sendRaw(head);
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
  expect(pair.far.open(MALLORY)).toBeNull();
});

test("bytes that nobody asked for end the link", async () => {
  await start();
  const { guest } = await admitted();
  guest.sendRaw(writeDataHead({ stream: 3, offset: 0, length: 4 }));
  guest.sendRaw(new Uint8Array(4));
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
});

test("asking for more at once than the window holds ends the link", async () => {
  await start();
  const { guest } = await admitted();
  const totalBytes = 1_000_000_000;
  const request = Buffer.from(`${totalBytes} a`);
  for (let stream = 1; stream <= 3; stream++) ask(guest, { stream, length: 8_000_000, totalBytes, request });
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
});

test("an asker that reads nothing of what it asked for is cut, though it gives signs of life", async () => {
  await start();
  const { guest } = await admitted();
  guest.pause();
  ask(guest, { length: 1_000_000 });
  for (let passedMs = 0; passedMs < UNREAD_MS + 5_000; passedMs += 500) {
    if (passedMs === UNREAD_MS - 10_000) expect(guest.isCut()).toBe(false);
    guest.send({ kind: "stop", stream: 9 });
    await pair.pass(500);
  }
  expect(pair.far.open(MALLORY)?.carrier() ?? null).toBeNull();
  expect(pair.answersClosed()).toBe(1);
});

test("too many asks at once end the link", async () => {
  await start();
  const { guest } = await admitted();
  const request = Buffer.from("1000 a");
  const asks = Array.from({ length: 600 }, (_, index) => ({
    stream: index,
    offset: 0,
    length: 1,
    totalBytes: 1_000,
    request,
  }));
  guest.sendRaw(Buffer.concat(asks.map((one) => writeFrame({ kind: "ask", ...one }))));
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
});

test("acknowledging what was never sent ends the link", async () => {
  await start();
  const { guest } = await admitted();
  guest.send({ kind: "ack", seq: 5 });
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
});

test("messages beyond the window end the link", async () => {
  await start();
  const { guest } = await admitted();
  guest.send({ kind: "message", seq: 10_000, bytes: new Uint8Array(1) });
  await pair.until(guest.isCut);
  expect(pair.far.breaches().frame).toBe(1);
});

test("an attach to no session, with a wrong secret, or by another key is turned away", async () => {
  await start();
  const { session } = await admitted();
  const attach = { kind: "attach", version: PEER_PROTOCOL_VERSION, role: "bulk", number: 1 } as const;
  const { sessionId, secret } = session;
  for (const [keyHex, frame] of [
    [MALLORY, { ...attach, sessionId: new Uint8Array(16), secret }],
    [MALLORY, { ...attach, sessionId, secret: new Uint8Array(32) }],
    ["0d".repeat(32), { ...attach, sessionId, secret }],
  ] as const) {
    const other = await stranger(keyHex);
    other.send(frame);
    await pair.until(() => other.came.length > 0);
    expect(other.came[0]).toMatchObject({ kind: "refused", refusal: { code: "not-found" } });
  }
  expect(pair.far.breaches()["session-unknown"]).toBe(3);
});

test("an attach that comes again is turned away, and so is one connection too many", async () => {
  await start();
  const { session } = await admitted();
  const attach = (number: number): Plain => ({
    kind: "attach",
    version: PEER_PROTOCOL_VERSION,
    role: "bulk",
    number,
    sessionId: session.sessionId,
    secret: session.secret,
  });
  const first = await stranger();
  first.send(attach(1));
  await pair.until(() => first.came.some(({ kind }) => kind === "attached"));
  const again = await stranger();
  again.send(attach(1));
  await pair.until(() => again.came.length > 0);
  expect(pair.far.breaches()["attach-replayed"]).toBe(1);
  const more: Awaited<ReturnType<typeof stranger>>[] = [];
  while (more.length < 29) more.push(await stranger());
  for (const [index, one] of more.entries()) one.send(attach(index + 2));
  await pair.until(() => pair.far.breaches()["connections-full"] > 0);
  expect(pair.net.count("tcp")).toBeLessThan(40);
  // Those that answer nothing make room after a while.
  await pair.pass(2_000);
  const late = await stranger();
  late.send(attach(31));
  await pair.until(() => late.came.some(({ kind }) => kind === "attached"));
});

test("a flood of connections that do not greet leaves room for nobody else's harm: others go on", async () => {
  await start();
  const link = await pair.settled(pair.near.connect(pair.target, GOOD, signal()));
  const keys = Array.from({ length: 150 }, (_, index) => `${index.toString(16).padStart(4, "0")}${"0".repeat(60)}`);
  await pair.settled(Promise.all(keys.map(silentStranger)));
  expect(pair.far.breaches()["greetings-full"]).toBeGreaterThan(0);
  expect(await pair.settled(fetchAll(link, "5000 a", { totalBytes: 5_000 }))).toHaveLength(5_000);
});

test("a serving node that sends beyond what was asked is cut, and the fetch says so", async () => {
  await start();
  const carrier = pair.net.carrier("tcp", MALLORY);
  carrier.onConnection((connection) => {
    const reader = new PeerFrameReader(() => true);
    connection.listen({
      onBytes: (bytes) =>
        void reader.push(bytes, (frame) => {
          if (frame.kind === "hello") {
            connection.write(
              writeFrame({ kind: "accepted", sessionId: new Uint8Array(16), secret: new Uint8Array(32) }),
            );
          } else if (frame.kind === "ask") {
            const length = frame.length + 1;
            connection.write(writeDataHead({ stream: frame.stream, offset: frame.offset, length }));
            connection.write(new Uint8Array(length));
          }
          return true;
        }),
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  });
  const link = await pair.settled(pair.near.connect({ ...pair.target, publicKeyHex: MALLORY }, GOOD, signal()));
  const fault = await pair.settled(fetchAll(link, "1000 a", { totalBytes: 1_000 }).catch((caught: unknown) => caught));
  expect(fault).toMatchObject({ code: "peer-breach" });
  expect(pair.near.breaches().frame).toBe(1);
});

test("a serving node that drips is too slow", async () => {
  await start();
  const carrier = pair.net.carrier("tcp", MALLORY);
  carrier.onConnection((connection) => {
    const reader = new PeerFrameReader(() => true);
    connection.listen({
      onBytes: (bytes) =>
        void reader.push(bytes, (frame) => {
          if (frame.kind === "hello") {
            connection.write(
              writeFrame({ kind: "accepted", sessionId: new Uint8Array(16), secret: new Uint8Array(32) }),
            );
          } else if (frame.kind === "ping") connection.write(writeFrame({ kind: "pong", id: frame.id }));
          return true;
        }),
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  });
  const link = await pair.settled(pair.near.connect({ ...pair.target, publicKeyHex: MALLORY }, GOOD, signal()));
  const options = { totalBytes: 1_000_000, bytesPerSecondMin: 10_000 };
  const fault = await pair.settled(fetchAll(link, "1000000 a", options).catch((caught: unknown) => caught));
  expect(fault).toMatchObject({ code: "peer-too-slow" });
});
