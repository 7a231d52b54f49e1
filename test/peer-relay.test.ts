/** Relayed connections over real sockets: two nodes, their coordinator, and whoever should get nothing. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { RelayCarrier } from "../src/adapters/peer-relay/relay-carrier.ts";
import type { RelayOptions } from "../src/coordinator/peering/relay-options.ts";
import { nodeId } from "../src/domain/ids.ts";
import type { PeerTarget } from "../src/domain/peer.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";
import type { RelayOffer } from "../src/ports/relay.ts";
import { RELAY_PATH } from "../src/wire/agent-link.ts";
import { type RelayGrid, startRelayGrid } from "./support/relay-grid.ts";
import { type RelayNode, startRelayNode } from "./support/relay-node.ts";

const FOREVER = new AbortController().signal;
const toStop: Array<() => Promise<void>> = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

interface Member extends RelayNode {
  readonly carrier: RelayCarrier;
  readonly target: PeerTarget;
}

async function startMembers<const N extends readonly string[]>(
  names: N,
  bounds: Partial<RelayOptions> = {},
): Promise<{ readonly grid: RelayGrid; readonly members: Readonly<Record<N[number], Member>> }> {
  const grid = await startRelayGrid({
    host: "127.0.0.1",
    bindHost: "127.0.0.1",
    port: 0,
    hasUdp: false,
    tlsFolder: null,
    bounds,
  });
  toStop.push(() => grid.stop());
  const joinToken = await grid.joinToken(names.length);
  const started = await Promise.all(
    names.map(async (name: N[number]): Promise<readonly [N[number], Member]> => {
      const node = await startRelayNode({ ...grid, name, joinToken });
      const carrier = new RelayCarrier(node.keyPair, node.asks);
      toStop.push(async () => {
        await carrier.close();
        await node.stop();
      });
      const endpoints = { tcp: [], hasUdp: false };
      return [name, { ...node, carrier, target: { nodeId: node.nodeId, publicKeyHex: node.publicKeyHex, endpoints } }];
    }),
  );
  return { grid, members: Object.fromEntries(started) as Record<N[number], Member> };
}

function accepted(member: Member): Promise<PeerConnection> {
  return new Promise((resolve) => member.carrier.onConnection(resolve));
}

/** Collects what comes; resolves when so many bytes did. */
function receive(connection: PeerConnection, count: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const received = new Promise<Buffer>((resolve, reject) => {
    connection.listen({
      onBytes: (part) => {
        parts.push(part);
        bytes += part.length;
        if (bytes >= count) resolve(Buffer.concat(parts));
      },
      onDrain: () => undefined,
      onClose: (cause) => reject(new Error(cause)),
    });
  });
  received.catch(() => undefined); // closed after the test has what it wants
  return received;
}

const ignore = { onBytes: () => undefined, onDrain: () => undefined, onClose: () => undefined };

/** The coordinator's answer to an upgrade: 101, or the status and code of its refusal. */
async function knock(grid: RelayGrid, relayId: string, headers: Readonly<Record<string, string>>): Promise<string> {
  const socket = new WebSocket(`${grid.url.replace("http", "ws")}${RELAY_PATH}${relayId}`, { headers: { ...headers } });
  socket.on("error", () => undefined);
  const answer = await Promise.race([
    once(socket, "open").then(() => "101"),
    once(socket, "unexpected-response").then(
      ([, response]) => `${response.statusCode} ${response.headers["x-fallow-code"]}`,
    ),
  ]);
  socket.terminate();
  return answer;
}

describe("a relayed connection", () => {
  test("carries bytes both ways between two nodes that proved their keys", async () => {
    const { grid, members } = await startMembers(["one", "other"]);
    const arriving = accepted(members.other);
    const dialled = await members.one.carrier.dial(members.other.target, FOREVER);
    const met = await arriving;
    expect(dialled.peerKeyHex).toBe(members.other.publicKeyHex);
    expect(met.peerKeyHex).toBe(members.one.publicKeyHex);
    const there = randomBytes(3_000_000);
    const back = randomBytes(100_000);
    const gotThere = receive(met, there.length);
    const gotBack = receive(dialled, back.length);
    dialled.write(there);
    met.write(back);
    expect((await gotThere).equals(there)).toBe(true);
    expect((await gotBack).equals(back)).toBe(true);
    expect(grid.relay.stats()).toMatchObject({ piping: 1, offered: 0 });
    expect(grid.relay.stats().bytes).toBeGreaterThan(there.length + back.length);
    expect(grid.relay.bytesOfDay(members.one.nodeId)).toBe(grid.relay.stats().bytes);
    expect(grid.relay.bytesOfDay(members.other.nodeId)).toBe(0);
  });

  test("shows the coordinator nothing of what goes through it", async () => {
    const { grid, members } = await startMembers(["one", "other"]);
    const seen: Uint8Array[] = [];
    const seat = grid.relay.seat.bind(grid.relay);
    grid.relay.seat = (relayId, bearer) => {
      const answer = seat(relayId, bearer);
      if (!answer.ok) return answer;
      const take: typeof answer.seat.take = (end) =>
        answer.seat.take({
          listen: (handlers) =>
            end.listen({
              ...handlers,
              onBytes: (bytes) => {
                seen.push(bytes);
                handlers.onBytes(bytes);
              },
              onDrain: () => handlers.onDrain(),
              onClose: (cause) => handlers.onClose(cause),
            }),
          write: (bytes) => end.write(bytes),
          pause: () => end.pause(),
          resume: () => end.resume(),
          close: (reason) => end.close(reason),
        });
      return { ok: true, seat: { ...answer.seat, take } };
    };
    const arriving = accepted(members.other);
    const dialled = await members.one.carrier.dial(members.other.target, FOREVER);
    const secret = Buffer.from("the weights of a private model, in clear");
    const got = receive(await arriving, secret.length);
    dialled.listen(ignore);
    dialled.write(secret);
    expect((await got).equals(secret)).toBe(true);
    const relayed = Buffer.concat(seen);
    expect(relayed.length).toBeGreaterThan(secret.length);
    expect(relayed.includes(secret)).toBe(false);
    expect(relayed.includes(Buffer.from(members.one.publicKeyHex, "hex"))).toBe(false);
  });

  test("to a node that the coordinator puts in another's place is refused", async () => {
    const { members } = await startMembers(["one", "other", "third"]);
    members.third.carrier.onConnection(() => undefined);
    const asked = { ...members.other.target, nodeId: members.third.nodeId };
    await expect(members.one.carrier.dial(asked, FOREVER)).rejects.toMatchObject({ code: "peer-identity-mismatch" });
  });

  test("holds the sender while the other reads nothing, and everywhere within bounds", async () => {
    const { grid, members } = await startMembers(["one", "other"]);
    const arriving = accepted(members.other);
    const dialled = await members.one.carrier.dial(members.other.target, FOREVER);
    const met = await arriving;
    dialled.listen(ignore);
    const part = new Uint8Array(65_536);
    let written = 0;
    // Kernel buffers of four sockets lie between; none of them is without a bound.
    for (let turns = 0; turns < 2_000; turns++) {
      if (dialled.write(part)) written += part.length;
      else await new Promise((resolve) => setImmediate(resolve));
    }
    expect(written).toBeLessThan(64 * 1024 * 1024);
    expect(grid.relay.stats().piping).toBe(1);
    const rest = receive(met, written);
    expect((await rest).length).toBeGreaterThanOrEqual(written);
  });

  test("ends at the other end too when one end closes or its node leaves", async () => {
    const { grid, members } = await startMembers(["one", "other"]);
    let met: (connection: PeerConnection) => void = () => undefined;
    members.other.carrier.onConnection((connection) => met(connection));
    const open = async () => {
      const arriving = new Promise<PeerConnection>((resolve) => {
        met = resolve;
      });
      const dialled = await members.one.carrier.dial(members.other.target, FOREVER);
      const closed = new Promise<string>((resolve) => dialled.listen({ ...ignore, onClose: resolve }));
      return { dialled, met: await arriving, closed };
    };
    const first = await open();
    first.met.destroy();
    expect(await first.closed).toBeTypeOf("string");
    const second = await open();
    await grid.registry.remove(members.other.nodeId);
    expect(await second.closed).toBeTypeOf("string");
    expect(grid.relay.stats()).toMatchObject({ piping: 0, offered: 0 });
  });
});

describe("a relay's end", () => {
  const anOffer = async (member: Member, other: Member): Promise<RelayOffer> => member.asks.ask(other.nodeId, FOREVER);

  test("is given to the two nodes with the bearers of their sessions, once each, and to nobody else", async () => {
    const { grid, members } = await startMembers(["one", "other", "third"]);
    await members.other.carrier.close();
    const { relayId } = await anOffer(members.one, members.other);
    const bearer = (member: Member) => ({ authorization: `Bearer ${member.asks.session()?.sessionToken}` });
    expect(await knock(grid, relayId, {})).toBe("401 invalid-key");
    expect(await knock(grid, relayId, { authorization: `Bearer ${"f".repeat(64)}` })).toBe("401 invalid-key");
    expect(await knock(grid, relayId, { ...bearer(members.one), origin: "http://a.page" })).toBe("403 not-for-pages");
    expect(await knock(grid, relayId, bearer(members.third))).toBe("403 relay-not-yours");
    expect(await knock(grid, "ab".repeat(16), bearer(members.one))).toBe("404 relay-unknown");
    expect(await knock(grid, `${relayId}/../x`, bearer(members.one))).toBe("404 relay-unknown");
    expect(await knock(grid, relayId, bearer(members.one))).toBe("101");
    expect(await knock(grid, relayId, bearer(members.one))).toBe("409 relay-end-taken");
    expect(await knock(grid, relayId, bearer(members.other))).toBe("101");
  });

  test("that nobody meets ends in time, and what was offered is not open for ever", async () => {
    const { grid, members } = await startMembers(["one", "other"], { offerMsMax: 1 });
    await members.other.carrier.close();
    const dial = members.one.carrier.dial(members.other.target, FOREVER);
    await expect(dial).rejects.toMatchObject({ code: "peer-unreachable" });
    await expect.poll(() => grid.relay.stats().offered, { timeout: 10_000 }).toBe(0);
  });
});

describe("the coordinator refuses a relay by name", () => {
  const why = async (member: Member, id: string): Promise<string> => {
    try {
      await member.asks.ask(nodeId(id), FOREVER);
      return "offered";
    } catch (thrown) {
      return thrown instanceof Error ? (/: (relay-[a-z-]+):/.exec(thrown.message)?.[1] ?? thrown.message) : "?";
    }
  };

  test("to itself, to a node that is not here, and beyond the bounds of a node and of all", async () => {
    const { grid, members } = await startMembers(["one", "other", "third", "fourth"], {
      askedPerNodeMax: 2,
      perPairMax: 1,
      relaysMax: 3,
    });
    for (const { carrier } of Object.values(members)) await carrier.close();
    const { one, other, third, fourth } = members;
    expect(await why(one, one.nodeId)).toBe("relay-to-itself");
    expect(await why(one, `node_${"0".repeat(32)}`)).toBe("relay-node-offline");
    expect(await why(one, other.nodeId)).toBe("offered");
    expect(await why(other, one.nodeId)).toBe("relay-node-full");
    expect(await why(one, third.nodeId)).toBe("offered");
    expect(await why(one, fourth.nodeId)).toBe("relay-node-full");
    expect(await why(other, third.nodeId)).toBe("offered");
    expect(await why(fourth, third.nodeId)).toBe("relay-full");
    expect(grid.relay.stats().refused).toEqual({
      "relay-full": 1,
      "relay-node-full": 2,
      "relay-node-offline": 1,
      "relay-to-itself": 1,
    });
  });

  test("when the node's bytes of the day are spent, also in mid-transfer", async () => {
    const { members } = await startMembers(["one", "other"], { bytesPerDayOfNode: 200_000 });
    const arriving = accepted(members.other);
    const dialled = await members.one.carrier.dial(members.other.target, FOREVER);
    (await arriving).listen(ignore);
    const closed = new Promise<string>((resolve) => dialled.listen({ ...ignore, onClose: resolve }));
    dialled.write(randomBytes(400_000));
    await closed;
    expect(await why(members.one, members.other.nodeId)).toBe("relay-budget-spent");
    expect(await why(members.other, members.one.nodeId)).toBe("offered");
  });
});
