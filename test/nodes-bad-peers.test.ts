/** What a stranger, an old program or a broken one may try on the link, and what it gets. Virtual time, the real registry. */
import { beforeEach, describe, expect, test } from "vitest";
import { HANDSHAKE_MS_MAX } from "../src/coordinator/registry/handshake.ts";
import { STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX } from "../src/coordinator/registry/strangers.ts";
import { BREACHES_MAX } from "../src/coordinator/registry/strikes.ts";
import { nodeIdOf } from "../src/domain/node-id.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import { LINK_CLOSE } from "../src/ports/link.ts";
import { type AgentUnderTest, HandDrivenPeer, MembershipGrid, TARGET } from "./support/membership-grid.ts";

let grid: MembershipGrid;
let keyPair: KeyPair;

beforeEach(async () => {
  grid = new MembershipGrid();
  await grid.start();
  keyPair = grid.crypto.generateKeyPair();
});

const idOf = (pair: KeyPair) => nodeIdOf(grid.crypto.sha256(pair.publicKey));
const refusedWith = (peer: HandDrivenPeer) => peer.frames.find((frame) => frame["type"] === "refused");

async function welcomed(): Promise<HandDrivenPeer> {
  const peer = await grid.peer();
  await peer.say(peer.hello({ keyPair, joinToken: await grid.token() }));
  expect(peer.last).toMatchObject({ type: "welcome", nodeId: idOf(keyPair) });
  return peer;
}

const HEARTBEAT = {
  type: "heartbeat",
  seq: 0,
  sentAtMs: 0,
  isYielding: false,
  memoryFreeBytes: 0,
  replicas: [],
};

async function refusedAgent(agent: AgentUnderTest): Promise<unknown> {
  agent.membership.start();
  await grid.run(2_000);
  return agent.statuses.at(-1);
}

describe("join tokens", () => {
  test("a node without a token that nobody knows is told to join with a code", async () => {
    expect(await refusedAgent(grid.agent())).toMatchObject({ kind: "refused", code: "join-token-missing" });
  });

  test("an expired token is refused", async () => {
    const joinToken = await grid.token({ ttlMs: 1_000 });
    await grid.run(1_500);
    expect(await refusedAgent(grid.agent({ joinToken }))).toMatchObject({
      kind: "refused",
      code: "join-token-expired",
    });
  });

  test("a token that was used by as many nodes as it allows is refused to the next, and not to those that used it", async () => {
    const joinToken = await grid.token({ usesMax: 1 });
    const first = grid.agent({ joinToken });
    first.membership.start();
    await grid.run(500);
    expect(grid.stateOf(first.nodeId)).toBe("online");
    expect(await refusedAgent(grid.agent({ joinToken }))).toMatchObject({
      kind: "refused",
      code: "join-token-exhausted",
    });
    const again = grid.agent({ joinToken, keyPair: first.keyPair });
    again.membership.start();
    await grid.run(500);
    expect(grid.stateOf(first.nodeId)).toBe("online");
  });

  test("a token of another grid is told apart from one that is only unknown", async () => {
    const known = await grid.token();
    const foreign = `00000000-${"ab".repeat(32)}`;
    expect(await refusedAgent(grid.agent({ joinToken: foreign }))).toMatchObject({ code: "join-token-foreign" });
    const unknown = `${known.split("-")[0]}-${"ab".repeat(32)}`;
    expect(await refusedAgent(grid.agent({ joinToken: unknown }))).toMatchObject({ code: "join-token-unknown" });
  });

  test("an agent with a code for another grid stops before it names its key", async () => {
    const agent = grid.agent({ gridId: "another-grid", joinToken: await grid.token() });
    expect(await refusedAgent(agent)).toMatchObject({ kind: "refused", code: "grid-foreign" });
    expect(grid.registry.nodes()).toEqual([]);
  });

  test("an agent stops when its grid signs with another key than before, in this life or an earlier one", async () => {
    const [key, other] = ["aa".repeat(32), "bb".repeat(32)];
    grid.gridPublicKeyHex = key;
    await grid.restart({ downMs: 100 });
    const agent = grid.agent({ joinToken: await grid.token() });
    agent.membership.start();
    await grid.run(1_000);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "online", gridPublicKeyHex: key });
    await grid.restart({ downMs: 100 });
    await grid.run(15_000);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "online", gridPublicKeyHex: key });
    grid.gridPublicKeyHex = other;
    await grid.restart({ downMs: 100 });
    await grid.run(15_000);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "refused", code: "grid-key-changed" });
    expect(agent.peers.line?.welcome.gridPublicKey ?? null).not.toBe(other);
    const again = grid.agent({ keyPair: agent.keyPair, gridPublicKeyHex: key });
    expect(await refusedAgent(again)).toMatchObject({ kind: "refused", code: "grid-key-changed" });
  });

  test("what is stored of a token is not the token", async () => {
    const token = await grid.token();
    expect(JSON.stringify([...grid.store.disk.joinTokens.values()])).not.toContain(token.split("-")[1]);
  });
});

describe("the proof of identity", () => {
  test("a signature over another connection's certificate is refused: a proof cannot be passed on", async () => {
    const peer = await grid.peer();
    const joinToken = await grid.token();
    await peer.say(peer.hello({ keyPair, joinToken, signedBinding: "ab".repeat(32) }));
    expect(peer.last).toMatchObject({ type: "refused", code: "signature-wrong", canRetry: false });
    expect(peer.closed?.code).toBe(LINK_CLOSE.refused);
  });

  test("a signature over another nonce is refused: a proof cannot be used twice", async () => {
    const joinToken = await grid.token();
    const first = await grid.peer();
    const hello = first.hello({ keyPair, joinToken });
    const second = await grid.peer();
    await second.say(hello);
    expect(second.last).toMatchObject({ type: "refused", code: "signature-wrong" });
  });

  test("somebody else's public key is refused", async () => {
    const peer = await grid.peer();
    const thief = grid.crypto.generateKeyPair();
    const hello = peer.hello({ keyPair: thief, joinToken: await grid.token() });
    await peer.say({ ...hello, publicKey: peer.hello({ keyPair, joinToken: null }).publicKey });
    expect(peer.last).toMatchObject({ type: "refused", code: "signature-wrong" });
  });

  test("a node is known by its key: two homes with two keys are two nodes, one key is one node", async () => {
    await welcomed();
    const peer = await grid.peer();
    await peer.say(peer.hello({ keyPair, joinToken: null }));
    expect(grid.registry.nodes()).toHaveLength(1);
  });
});

describe("versions", () => {
  test("an agent of another version is told both, even when its hello has another shape", async () => {
    for (const [protocolVersion, who] of [
      [0, "agent"],
      [7, "coordinator"],
    ] as const) {
      const peer = await grid.peer();
      await peer.say({ type: "hello", protocolVersion, unknownField: [1, 2] });
      expect(peer.last).toMatchObject({ type: "refused", code: "protocol-version-unknown", canRetry: false });
      expect(String(peer.last?.["message"])).toMatch(
        new RegExp(`version ${protocolVersion} .* speaks 1: update the ${who}`),
      );
    }
  });

  test("a coordinator of another version is refused by the agent with both versions named", async () => {
    grid.internet.listen({
      host: grid.coordinator,
      onLink: (link) => {
        link.listen({ onFrame: () => undefined, onClose: () => undefined });
        link.send(JSON.stringify({ type: "challenge", protocolVersions: [2, 3], puzzle: "new" }));
      },
    });
    const status = await refusedAgent(grid.agent());
    expect(status).toMatchObject({ kind: "refused", code: "protocol-version-unknown" });
    expect(status).toMatchObject({ message: expect.stringMatching(/versions 2, 3 .* speaks 1: update this agent/) });
  });
});

describe("garbage", () => {
  test.each([
    ["no JSON", "\u0000\u0001 not json"],
    ["JSON that is no object", "[1,2,3]"],
    ["an unknown type", JSON.stringify({ type: "give.me.everything" })],
    ["a hello with wrong fields", JSON.stringify({ type: "hello", protocolVersion: 1, publicKey: "xyz" })],
    ["a heartbeat before the hello", JSON.stringify(HEARTBEAT)],
    ["a megabyte", "x".repeat(1_000_000)],
  ])("%s instead of the hello ends the link with the reason", async (_what, frame) => {
    const peer = await grid.peer();
    await peer.say(frame);
    await grid.run(1_000);
    expect(refusedWith(peer)).toMatchObject({ code: "hello-malformed", canRetry: false });
    expect(peer.closed?.code).toBe(LINK_CLOSE.refused);
  });

  test.each([
    ["no JSON", "}{"],
    ["a message of the coordinator", JSON.stringify({ type: "welcome" })],
    ["a second hello", null],
    [
      "a heartbeat with 65 replicas",
      JSON.stringify({ ...HEARTBEAT, replicas: Array.from({ length: 65 }, () => ({})) }),
    ],
    ["a chunk without tokens", JSON.stringify({ type: "attempt.chunks", chunks: [] })],
    ["numbers that are none", '{"type":"heartbeat","seq":1e999,"sentAtMs":-1}'],
  ])("%s after the welcome closes the link at once and says why", async (_what, frame) => {
    const peer = await welcomed();
    await peer.say(frame ?? peer.hello({ keyPair, joinToken: null }));
    expect(grid.stateOf(idOf(keyPair))).toBe("offline");
    expect(peer.closed?.code).toBe(LINK_CLOSE.protocolError);
    expect(peer.closed?.reason).not.toBe("");
  });

  test("frames that follow a malformed one are not looked at", async () => {
    const peer = await welcomed();
    peer.link.send("}{");
    peer.link.send(JSON.stringify({ type: "attempt.failed", leaseId: "x", epoch: 1, code: "c", message: "m" }));
    await grid.run(100);
    expect(grid.eventsOf(idOf(keyPair)).filter((event) => event.startsWith("work"))).toEqual([]);
  });

  test("an agent leaves a coordinator that sends garbage, and tries again", async () => {
    for (const frame of [
      "}{",
      JSON.stringify({ type: "heartbeat.ack" }),
      JSON.stringify({ type: "challenge", protocolVersions: [1], gridId: "a\nb", nonce: "00" }),
    ]) {
      const broken = new MembershipGrid();
      broken.internet.listen({
        host: broken.coordinator,
        onLink: (link) => {
          link.listen({ onFrame: () => undefined, onClose: () => undefined });
          link.send(frame);
        },
      });
      const agent = broken.agent({ gridId: null });
      agent.membership.start();
      await broken.run(5_000);
      expect(agent.statuses.map(({ kind }) => kind)).not.toContain("refused");
      expect(agent.statuses.filter(({ kind }) => kind === "waiting").length).toBeGreaterThan(1);
    }
  });
});

describe("floods and breaches", () => {
  test("a node that sends 10,000 frames a second is cut with a reason, and its neighbour is not disturbed", async () => {
    const neighbour = await grid.onlineAgent();
    const peer = await welcomed();
    const frame = JSON.stringify({ ...HEARTBEAT, sentAtMs: 1 });
    for (let ms = 0; ms < 1_000 && peer.closed === null; ms += 10) {
      for (let count = 0; count < 100; count++) peer.link.send(frame);
      await grid.run(10);
    }
    await grid.run(1_000);
    expect(peer.closed?.code).toBe(LINK_CLOSE.protocolError);
    expect(peer.closed?.reason).toMatch(/flood/);
    expect(grid.eventsOf(neighbour.nodeId)).toEqual(["online"]);
  });

  test("2,000 frames a second for a long time are allowed", async () => {
    const peer = await welcomed();
    const frame = JSON.stringify({ ...HEARTBEAT, sentAtMs: 1 });
    for (let ms = 0; ms < 5_000; ms += 50) {
      for (let count = 0; count < 95; count++) peer.link.send(frame);
      await grid.run(50);
    }
    expect(grid.stateOf(idOf(keyPair))).toBe("online");
  });

  test("breaches that dispatch reports close the link at the bound, and one breach in ten seconds does not", async () => {
    const peer = await welcomed();
    const breach = { code: "lease-foreign", detail: "lease of another node" };
    for (let count = 0; count < 5; count++) {
      grid.registry.reportBreach(idOf(keyPair), breach);
      await grid.run(2_000);
      await peer.say(HEARTBEAT);
      await grid.run(2_000);
      await peer.say(HEARTBEAT);
      await grid.run(2_000);
      await peer.say(HEARTBEAT);
    }
    expect(grid.stateOf(idOf(keyPair))).toBe("online");
    for (let count = 0; count < BREACHES_MAX; count++) grid.registry.reportBreach(idOf(keyPair), breach);
    await grid.run(100);
    expect(peer.closed).toMatchObject({
      code: LINK_CLOSE.protocolError,
      reason: expect.stringMatching(/lease-foreign/),
    });
    expect(grid.registry.stats()).toMatchObject({ breaches: 5 + BREACHES_MAX, strikes: 1 });
  });

  test("a node that breaks the protocol again and again is kept out longer each time", async () => {
    const keptOutMs: number[] = [];
    await welcomed();
    for (let round = 0; round < 6; round++) {
      for (let count = 0; count < BREACHES_MAX; count++) {
        grid.registry.reportBreach(idOf(keyPair), { code: "seq-skipped", detail: "" });
      }
      await grid.run(10);
      const early = await grid.peer();
      await early.say(early.hello({ keyPair, joinToken: null }));
      expect(refusedWith(early)).toMatchObject({ code: "node-kept-out", canRetry: true });
      const waitMs = Number(refusedWith(early)?.["retryAfterMs"]);
      keptOutMs.push(waitMs);
      await grid.run(waitMs);
      const late = await grid.peer();
      await late.say(late.hello({ keyPair, joinToken: null }));
      expect(late.last).toMatchObject({ type: "welcome" });
    }
    for (const [at, waitMs] of keptOutMs.entries()) expect(waitMs).toBeGreaterThan(700 * 2 ** at);
  });
});

describe("strangers", () => {
  test("a connection that says nothing is closed at the deadline", async () => {
    const peer = await grid.peer();
    await grid.run(HANDSHAKE_MS_MAX - 500);
    expect(peer.closed).toBeNull();
    await grid.run(1_000);
    expect(refusedWith(peer)).toMatchObject({ code: "handshake-timeout", canRetry: true });
    expect(peer.closed).not.toBeNull();
  });

  test("one address holds only so many unproved links, and all together only so many", async () => {
    const dial = async (hostName: string, count: number) => {
      const host = grid.host(hostName);
      const peers: HandDrivenPeer[] = [];
      for (let at = 0; at < count; at++) {
        void grid.internet
          .dialerFrom(host)
          .dial(TARGET, new AbortController().signal)
          .then((link) => peers.push(new HandDrivenPeer(link, grid)));
      }
      await grid.run(300);
      return peers;
    };
    const first = await dial("stranger-0", STRANGERS_PER_ADDRESS_MAX + 5);
    expect(first.filter((peer) => refusedWith(peer)?.["code"] === "coordinator-busy")).toHaveLength(5);
    const others: HandDrivenPeer[] = [];
    for (let at = 1; at < 12; at++) others.push(...(await dial(`stranger-${at}`, STRANGERS_PER_ADDRESS_MAX)));
    const open = [...first, ...others].filter((peer) => refusedWith(peer) === undefined);
    expect(open).toHaveLength(STRANGERS_MAX);
    expect(grid.registry.stats().linksOpen).toBe(STRANGERS_MAX);
    await grid.run(HANDSHAKE_MS_MAX + 2_000);
    expect(grid.registry.stats().linksOpen).toBe(0);
    await welcomed();
  });

  test("a store that fails refuses for the moment only, and uses no token up", async () => {
    const { FallowError } = await import("../src/domain/fault.ts");
    const joinToken = await grid.token({ usesMax: 1 });
    grid.store.breakWith(new FallowError("disk-full", "no space left"));
    const agent = grid.agent({ joinToken });
    agent.membership.start();
    await grid.run(500);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "waiting" });
    grid.store.breakWith(null);
    await grid.run(10_000);
    expect(grid.stateOf(agent.nodeId)).toBe("online");
  });
});
