/** Weights and chains share a node's server and its links. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SharedPeers, sharePeers } from "../src/agent/peer-server.ts";
import { openPeerNetwork } from "../src/agent/peering/peer-network.ts";
import { nodeId } from "../src/domain/ids.ts";
import type { PeerTarget } from "../src/domain/peer.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { PeerFetchAnswer, PeerLink, PeerNetwork } from "../src/ports/peer-link.ts";
import { simCrypto } from "../src/sim/sim-crypto.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { MemoryNet } from "./support/memory-carrier.ts";

const KEYS = ["0a".repeat(32), "0b".repeat(32)] as const;
const signal = new AbortController().signal;
const bytes = (text: string): Uint8Array => Buffer.from(text);

let timeline: Timeline;
let networks: PeerNetwork[];
let shared: SharedPeers[];
let heard: string[];
let needed: boolean;

beforeEach(() => {
  timeline = new Timeline();
  const host = new Host("both", timeline);
  const clock = new SimClock(host);
  const random = new SeededRandom("server");
  const net = new MemoryNet({ delayMs: () => 5, after: (delayMs, fire) => void host.after(delayMs, fire) });
  networks = KEYS.map((key) =>
    openPeerNetwork({
      clock,
      random,
      crypto: simCrypto(random),
      log: simLog(() => undefined),
      carriers: [net.carrier("tcp", key)],
    }),
  );
  shared = networks.map(sharePeers);
  heard = [];
  needed = true;
  for (const peers of shared) {
    peers.weights.serve({
      admit: (credential) => (credential === "grant" ? admitted() : refuse("invalid-key", "no grant")),
      onFetch: () => Promise.resolve(answer("weights")),
      onMessage: () => heard.push("weights"),
    });
    peers.serveChains({
      admit: (credential) => (credential === "chain" ? admitted() : null),
      onFetch: (request) => (request[0] === 0x53 ? Promise.resolve(answer("chains!")) : null),
      onMessage: (message) => heard.push(Buffer.from(message).toString()),
      needs: () => needed,
    });
  }
});
afterEach(async () => {
  await Promise.all(networks.map((network) => network.close()));
});

const admitted = () => ({ ok: true, expiresAtMs: Number.MAX_SAFE_INTEGER }) as const;
const answer = (text: string): PeerFetchAnswer => ({
  ok: true,
  totalBytes: 7,
  read: (offset, length) => Promise.resolve(bytes(text).subarray(offset, offset + length)),
  close: () => undefined,
});

async function settled<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const done = promise.finally(() => {
    isSettled = true;
  });
  done.catch(() => undefined); // told by the second await
  while (!isSettled) await timeline.run(timeline.nowMs + 5, () => true);
  return await done;
}

function targetOf(index: 0 | 1): PeerTarget {
  const endpoints = { tcp: [{ host: "192.0.2.1", port: 1 }], hasUdp: false };
  return { nodeId: nodeId(`node_${String(index).repeat(32)}`), publicKeyHex: KEYS[index], endpoints };
}

const dial = (from: 0 | 1, credential: string, network = networks[from]): Promise<PeerLink> => {
  if (network === undefined) throw new Error("two networks");
  return settled(network.connect(targetOf(from === 0 ? 1 : 0), credential, signal));
};

async function fetched(link: PeerLink, request: Uint8Array): Promise<string> {
  const parts: Uint8Array[] = [];
  const all = (async () => {
    for await (const part of link.fetch(request, { signal, totalBytes: 7, bytesPerSecondMin: 1 })) parts.push(part);
  })();
  await settled(all);
  return Buffer.concat(parts).toString();
}

describe("a node's server for others", () => {
  test("lets in by either right, and by no other", async () => {
    await dial(0, "chain");
    await dial(0, "grant");
    await expect(dial(1, "neither")).rejects.toMatchObject({ code: "peer-refused" });
  });

  test("gives each its own requests, and messages to chains", async () => {
    const link = await dial(0, "grant");
    expect(await fetched(link, Uint8Array.of(0x53))).toBe("chains!");
    expect(await fetched(link, Uint8Array.of(1))).toBe("weights");
    void link.send(bytes("a frame"));
    await timeline.run(timeline.nowMs + 100, () => true);
    expect(heard).toEqual(["a frame"]);
  });

  test("keeps a link that chains need when those who fetch weights end it", async () => {
    const weights = await dial(0, "grant", shared[0]?.weights);
    weights.close("too slow");
    expect(networks[0]?.open(KEYS[1])).not.toBeNull();
    needed = false;
    weights.close("too slow");
    expect(networks[0]?.open(KEYS[1])).toBeNull();
  });

  test("holds links that both ends opened to each other at the same time", async () => {
    const [one, two] = [dial(0, "chain"), dial(1, "chain")];
    const links = await Promise.all([one, two]);
    for (const [at, link] of links.entries()) void link.send(bytes(`from ${at}`));
    await timeline.run(timeline.nowMs + 60_000, () => true);
    expect(heard.toSorted()).toEqual(["from 0", "from 1"]);
    expect(links.map((link) => link.carrier())).toEqual(["tcp", "tcp"]);
  });
});
