import { describe, expect, test } from "vitest";
import { UNREACHABLE_MS } from "../../agent/peering/link-bounds.ts";
import { openPeerNetwork } from "../../agent/peering/peer-network.ts";
import { nodeId } from "../../domain/ids.ts";
import { refuse } from "../../domain/refusal.ts";
import type { PeerLink } from "../../ports/peer-link.ts";
import { simCrypto } from "../sim-crypto.ts";
import { simLog } from "../sim-log.ts";
import { EPOCH_WALL_MS, SimClock } from "../time/clock.ts";
import { Host } from "../time/host.ts";
import { SeededRandom } from "../time/random.ts";
import { Timeline } from "../time/timeline.ts";
import { CALM_NETWORK, PacketNetwork } from "./packet-network.ts";
import { SimPeers } from "./sim-peers.ts";

const [NEAR_KEY, FAR_KEY] = ["0e".repeat(32), "0f".repeat(32)];

async function linked() {
  const timeline = new Timeline();
  const random = new SeededRandom("peers");
  const network = new PacketNetwork({ timeline, random, conditions: CALM_NETWORK });
  const tap = { onSent: () => undefined, onFrame: () => undefined, onClosed: () => undefined };
  const peers = new SimPeers({ network, coordinator: new Host("coordinator", timeline), tap });
  const crypto = simCrypto(random);
  const log = simLog(() => undefined);
  const got: string[] = [];
  const nodeOf = (name: string, keyHex: string) => {
    const host = new Host(name, timeline);
    const carriers = (["tcp", "relay"] as const).map((kind) => peers.carrier(kind, { host, keyHex }));
    const own = openPeerNetwork({ clock: new SimClock(host), random: random.fork(name), crypto, log, carriers });
    own.serve({
      admit: () => ({ ok: true, expiresAtMs: EPOCH_WALL_MS + 600_000 }),
      onFetch: async () => refuse("not-found", "nothing is served here"),
      onMessage: (message) => got.push(Buffer.from(message).toString()),
    });
    return { host, own };
  };
  const [near, far] = [nodeOf("node-0", NEAR_KEY), nodeOf("node-1", FAR_KEY)];
  const pass = (ms: number) => timeline.run(timeline.nowMs + ms, () => true);
  const target = {
    nodeId: nodeId(`node_${"0".repeat(32)}`),
    publicKeyHex: FAR_KEY,
    endpoints: { tcp: [{ host: "node-1", port: 8_421 }], hasUdp: false },
  };
  const begun: PeerLink[] = [];
  void near.own.connect(target, "credential", new AbortController().signal).then((link) => begun.push(link));
  await pass(1_000);
  const [link] = begun;
  if (link === undefined) throw new Error("a link opens within a second");
  const both = [
    ["node-0", "node-1"],
    ["node-1", "node-0"],
  ] as const;
  return { network, peers, far, got, link, pass, both };
}

describe("ways between simulated nodes", () => {
  test("two that are cut from each other go on over the coordinator", async () => {
    const { network, got, link, pass, both } = await linked();
    void link.send(Buffer.from("one"));
    await pass(100);
    expect([got, link.carrier()]).toEqual([["one"], "tcp"]);
    for (const [from, to] of both) network.cut(from, to);
    void link.send(Buffer.from("two"));
    await pass(6_000);
    expect([got, link.carrier()]).toEqual([["one", "two"], "relay"]);
  });

  test("two that cannot meet in any way lose their link, and only then", async () => {
    const { network, peers, got, link, pass, both } = await linked();
    for (const [from, to] of both) {
      network.cut(from, to);
      peers.part(from, to, true);
    }
    void link.send(Buffer.from("lost")).catch(() => undefined);
    let reason: string | null = null;
    void link.closed.then((why) => {
      reason = why;
    });
    await pass(UNREACHABLE_MS / 2);
    expect(reason).toBeNull();
    await pass(UNREACHABLE_MS);
    expect(reason).not.toBeNull();
    expect(got).toEqual([]);
  });

  test("connections that are reset are made again, and nothing is lost or doubled", async () => {
    const { peers, got, link, pass } = await linked();
    const sent = Array.from({ length: 20 }, (_, index) => `${index}`);
    for (const [at, text] of sent.entries()) {
      void link.send(Buffer.from(text));
      if (at === 10) peers.cutLinks("node-1");
    }
    await pass(3_000);
    expect(got).toEqual(sent);
  });
});
