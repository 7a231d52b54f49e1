/** Strangers at the agents' door, over real WebSockets: each is refused with a reason or cut, and the grid works on. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { HANDSHAKE_MS_MAX } from "../src/coordinator/registry/handshake.ts";
import { toHex } from "../src/market/hex.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import { LINK_CLOSE, LINK_UNPROVED_BYTES_MAX } from "../src/ports/link.ts";
import { LINK_PATH, linkProofText } from "../src/wire/agent-link.ts";
import { decodeJoinCode } from "../src/wire/join-code.ts";
import { field, parsed } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { askText, makeJoinCode } from "./support/grid-console.ts";
import { canReadMemory, residentBytes } from "./support/process-memory.ts";

const QUESTION = { prompt: "In the beginning", tokens: 16, seed: 8 } as const;
const crypto = new NodeCrypto();
let grid: Grid;
let text: string;

beforeAll(async () => {
  grid = await startGrid({ args: ["--threads", "1"] });
  text = await askText(grid, QUESTION);
});
afterAll(async () => {
  await grid.stop();
});

interface Stranger {
  readonly socket: WebSocket;
  /** The challenge. */
  readonly first: Promise<string>;
  readonly frames: readonly string[];
  readonly closed: Promise<number>;
}

function knock(headers: Readonly<Record<string, string>> = {}): Stranger {
  const socket = new WebSocket(`${grid.baseUrl.replace("http", "ws")}${LINK_PATH}`, { headers });
  const frames: string[] = [];
  const first = new Promise<string>((resolve) => {
    socket.on("message", (data) => {
      const frame = String(data);
      frames.push(frame);
      resolve(frame);
    });
  });
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  // What is looked at is how the link closes.
  socket.on("error", () => undefined);
  return { socket, first, frames, closed };
}

const challengeSchema = z.object({ gridId: z.string(), nonce: z.string() });

/** A hello that is right but for what is changed. */
function hello(
  challenge: string,
  change: {
    keyPair?: KeyPair;
    joinToken?: string | null;
    fields?: Readonly<Record<string, unknown>>;
    text?: string;
  } = {},
): string {
  const { gridId, nonce } = challengeSchema.parse(JSON.parse(challenge));
  const keyPair = change.keyPair ?? crypto.generateKeyPair();
  const publicKey = toHex(keyPair.publicKey);
  const proof = change.text ?? linkProofText({ gridId, nonce, publicKey, channelBinding: "loopback" });
  return JSON.stringify({
    type: "hello",
    protocolVersion: 1,
    publicKey,
    signature: toHex(keyPair.sign(new TextEncoder().encode(proof))),
    joinToken: change.joinToken ?? null,
    name: "stranger",
    agentVersion: "0",
    capabilities: {
      platform: "none",
      cpuModel: "none",
      cpuCores: 1,
      memoryBytes: 0,
      diskFreeBytes: 0,
      devices: [],
      engineVariant: "cpu",
      engineVersion: "0",
      referenceSpeed: null,
    },
    replicas: [],
    ...change.fields,
  });
}

async function tokenOf(): Promise<string> {
  const code = decodeJoinCode(await makeJoinCode(grid));
  if (!code.ok) throw new Error(code.reason.message);
  return code.value.token;
}

const refusalIn = (frames: readonly string[]) =>
  frames.map((frame) => parsed(frame)).find((message) => field(message, "type") === "refused");

async function expectServing(): Promise<void> {
  expect(await askText(grid, QUESTION)).toBe(text);
}

describe("a stranger at the link", () => {
  it("that begins with anything but a hello is refused with a reason", async () => {
    for (const said of ["garbage", "{}", "[]", '{"type":"heartbeat"}', '{"type":"hello"}', "\u0000\u0001", "null"]) {
      const { socket, first, frames, closed } = knock();
      await first;
      socket.send(said);
      expect(await closed, said).toBe(LINK_CLOSE.refused);
      expect(String(field(refusalIn(frames), "message")).length, said).toBeGreaterThan(20);
    }
    await expectServing();
  });

  it("that sends binary frames is cut off", async () => {
    const { socket, first, closed } = knock();
    await first;
    socket.send(Buffer.alloc(1_000, 7));
    expect(await closed).toBe(LINK_CLOSE.protocolError);
    await expectServing();
  });

  it("that sends more than a hello before its proof is cut off, at little cost", async () => {
    const before = canReadMemory ? residentBytes(grid.pid) : 0;
    const strangers = Array.from({ length: 20 }, () => knock());
    await Promise.all(strangers.map(({ first }) => first));
    for (const { socket } of strangers) socket.send("x".repeat(15 * 1024 * 1024));
    await Promise.all(strangers.map(({ closed }) => closed));
    if (canReadMemory) expect(residentBytes(grid.pid) - before).toBeLessThan(64 * 1024 * 1024);
    const small = knock();
    await small.first;
    small.socket.send("x".repeat(LINK_UNPROVED_BYTES_MAX + 1));
    expect([1006, LINK_CLOSE.refused]).toContain(await small.closed);
    await expectServing();
  });

  it("that says nothing is sent away after the handshake's bound, and so are hundreds", async () => {
    const startedMs = performance.now();
    const silent = Array.from({ length: 300 }, () => knock());
    await expectServing();
    const codes = await Promise.all(silent.map(({ closed }) => closed));
    expect(performance.now() - startedMs).toBeLessThan(4 * HANDSHAKE_MS_MAX);
    expect(codes).toHaveLength(silent.length);
    await expectServing();
  });

  it("whose signature, version, token or grid is wrong is told which", async () => {
    const cases: readonly (readonly [string, (challenge: string) => string, RegExp])[] = [
      ["a signature of something else", (c) => hello(c, { text: "something else" }), /signature/],
      ["a version of the future", (c) => hello(c, { fields: { protocolVersion: 999 } }), /version/],
      ["no token", (c) => hello(c), /code|token/],
      ["a token that nobody issued", (c) => hello(c, { joinToken: "f".repeat(64) }), /code|token/],
      ["a name of 10,000 letters", (c) => hello(c, { fields: { name: "n".repeat(10_000) } }), /name/],
    ];
    for (const [what, make, said] of cases) {
      const { socket, first, frames, closed } = knock();
      socket.send(make(await first));
      expect(await closed, what).toBe(LINK_CLOSE.refused);
      expect(String(field(refusalIn(frames), "message")), what).toMatch(said);
    }
    await expectServing();
  });

  it("that replays another's hello, or a used token, stays outside", async () => {
    const joinToken = await tokenOf();
    const keyPair = crypto.generateKeyPair();
    const node = knock();
    const said = hello(await node.first, { keyPair, joinToken });
    node.socket.send(said);
    await new Promise<void>((resolve) => node.socket.on("message", () => resolve()));
    expect(node.frames.some((frame) => frame.includes('"welcome"'))).toBe(true);
    const parrot = knock();
    await parrot.first;
    parrot.socket.send(said);
    expect(await parrot.closed).toBe(LINK_CLOSE.refused);
    expect(String(field(refusalIn(parrot.frames), "message"))).toMatch(/signature/);
    const second = knock();
    second.socket.send(hello(await second.first, { joinToken }));
    expect(await second.closed).toBe(LINK_CLOSE.refused);
    expect(String(field(refusalIn(second.frames), "message"))).toMatch(/used|code|token/);
    node.socket.close();
    await expectServing();
  });

  it("that comes from a web page is refused before it is a link", async () => {
    const page = knock({ origin: "https://example.com" });
    expect(await page.closed).toBe(1006);
    expect(page.frames).toEqual([]);
  });
});
