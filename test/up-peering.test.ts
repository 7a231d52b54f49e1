/** What `fallow up` gives nodes so that they reach each other: the composed program, over TLS, as other machines meet it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RelayCarrier } from "../src/adapters/peer-relay/relay-carrier.ts";
import { openUdpCarrier } from "../src/adapters/peer-udp/udp-carrier.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";
import { decodeJoinCode } from "../src/wire/join-code.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { type RelayNode, startRelayNode } from "./support/relay-node.ts";

const FOREVER = new AbortController().signal;
let grid: Grid;

beforeAll(async () => {
  grid = await startGrid({ args: ["--host", "0.0.0.0", "--no-agent", "--no-lan"] });
}, 120_000);
afterAll(() => grid.stop());

function join(joinCode: string, name: string): Promise<RelayNode> {
  const code = decodeJoinCode(joinCode);
  if (!code.ok) throw new Error(code.reason.message);
  const { urls, token, certificateSha256, gridId } = code.value;
  const [url = ""] = urls;
  return startRelayNode({ name, url, certificateSha256, gridId, joinToken: token });
}

describe("a grid beyond this machine", () => {
  test("tells nodes of its four bootstrap nodes and its relay, and both carry bytes", { timeout: 60_000 }, async () => {
    const [one, other] = await Promise.all([join(grid.joinCode, "one"), join(grid.joinCode, "other")]);
    const { peering } = one.welcome;
    expect(peering?.hasRelay).toBe(true);
    expect(peering?.bootstrap).toHaveLength(4);
    expect(new Set(peering?.bootstrap.map(({ host }) => host)).size).toBe(1);
    expect(peering?.observedHost).toBe(peering?.bootstrap[0]?.host);
    const bootstrap = peering?.bootstrap ?? [];
    const open = ({ keyPair }: RelayNode) => openUdpCarrier({ keyPair, bootstrap, port: 0, bindHost: "0.0.0.0" });
    const udp = [await open(one), await open(other)] as const;
    await Promise.all(udp.map(({ listening }) => listening));
    const relay = [new RelayCarrier(one.keyPair, one.asks), new RelayCarrier(other.keyPair, other.asks)] as const;
    const target = { nodeId: other.nodeId, publicKeyHex: other.publicKeyHex, endpoints: { tcp: [], hasUdp: true } };
    for (const [near, far] of [udp, relay]) {
      far.onConnection((connection) => {
        connection.listen({ ...IGNORE, onBytes: (bytes) => void connection.write(bytes) });
      });
      const connection = await near.dial(target, FOREVER);
      expect(await echo(connection)).toBe(`hello over ${near.kind}`);
    }
    for (const carrier of [...udp, ...relay]) await carrier.close();
    for (const node of [one, other]) await node.stop();
  });
});

const IGNORE = { onBytes: () => undefined, onDrain: () => undefined, onClose: () => undefined };

async function echo(connection: PeerConnection): Promise<string> {
  const text = `hello over ${connection.carrier}`;
  const heard = new Promise<string>((resolve) => {
    let parts = "";
    connection.listen({
      ...IGNORE,
      onBytes: (bytes) => {
        parts += Buffer.from(bytes).toString();
        if (parts.length >= text.length) resolve(parts);
      },
    });
  });
  connection.write(Buffer.from(text));
  return heard;
}
