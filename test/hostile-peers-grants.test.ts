/** Grants over real connections: each is good once, for one fetcher, one holder and one time, on whatever connection it is shown. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { openTcpCarrier, type TcpCarrier } from "../src/adapters/peer-tcp/tcp-carrier.ts";
import { CoordinatorLine } from "../src/agent/cache/swarm/coordinator-line.ts";
import { GrantDesk } from "../src/agent/cache/swarm/grant-desk.ts";
import { type LinkedPeerNetwork, openPeerNetwork } from "../src/agent/peering/peer-network.ts";
import { toHex } from "../src/domain/hex.ts";
import { nodeId, sha256Hex } from "../src/domain/ids.ts";
import { type FetchGrant, GRANT_TTL_MS } from "../src/domain/peer.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import { grantJson, grantSigningText } from "../src/wire/fetch-grant.ts";
import { SILENT_LOG } from "./support/relay-grid.ts";

const WEIGHTS = sha256Hex("ab".repeat(32));
const crypto = new NodeCrypto();
const [clock, random] = [new SystemClock(), new SystemRandom()];
const ID = nodeId(`node_${"0".repeat(32)}`);
const [grid, holder, fetcher, thief] = [0, 1, 2, 3].map(() => crypto.generateKeyPair());

let tcp: TcpCarrier;
let network: LinkedPeerNetwork;
const others: LinkedPeerNetwork[] = [];

beforeEach(async () => {
  tcp = await openTcpCarrier({ keyPair: key(holder), host: "127.0.0.1", port: 0 });
  network = openPeerNetwork({ clock, random, crypto, log: SILENT_LOG, carriers: [tcp] });
  const line = new CoordinatorLine(clock);
  line.up({
    gridId: "grid-1",
    nodeId: ID,
    welcome: {
      type: "welcome",
      nodeId: ID,
      boot: 1,
      heartbeatMs: 1_000,
      sessionToken: "s".repeat(32),
      coordinatorTimeMs: Math.floor(clock.wallMs()),
      gridPublicKey: toHex(key(grid).publicKey),
    },
    keyPair: key(holder),
    send: () => undefined,
    bufferedBytes: () => 0,
  });
  const desk = new GrantDesk({ crypto, line, gridId: () => line.gridId }, key(holder));
  network.serve({
    admit: (credential, peerKeyHex) => {
      const admission = desk.admit(credential, peerKeyHex);
      return admission.ok ? { ok: true, expiresAtMs: admission.grant.expiresAtMs } : admission;
    },
    onFetch: async () => refuse("not-found", "nothing is here"),
    onMessage: () => undefined,
  });
});
afterEach(async () => {
  for (const other of others.splice(0)) await other.close();
  await network.close();
});

function key(pair: KeyPair | undefined): KeyPair {
  if (pair === undefined) throw new Error("four keys were made");
  return pair;
}

function grant(change: Partial<FetchGrant> = {}, signer = grid): string {
  const issuedAtMs = Math.ceil(clock.wallMs());
  const json = grantJson({
    version: 1,
    grantId: toHex(random.bytes(16)),
    gridId: "grid-1",
    weightsSha256: WEIGHTS,
    fetcherKeyHex: toHex(key(fetcher).publicKey),
    holderKeyHex: toHex(key(holder).publicKey),
    issuedAtMs,
    expiresAtMs: issuedAtMs + GRANT_TTL_MS,
    ...change,
  });
  const signature = toHex(key(signer).sign(new TextEncoder().encode(grantSigningText(json))));
  return JSON.stringify({ grantJson: json, signature });
}

/** A node's own network, whose link to the holder opens with the grant: what came of it. */
async function shown(credential: string, keyPair = fetcher): Promise<string> {
  const carrier = await openTcpCarrier({ keyPair: key(keyPair), host: "127.0.0.1", port: 0 });
  const own = openPeerNetwork({ clock, random, crypto, log: SILENT_LOG, carriers: [carrier] });
  others.push(own);
  const endpoints = { tcp: [{ host: "127.0.0.1", port: tcp.port }], hasUdp: false };
  const target = { nodeId: ID, publicKeyHex: toHex(key(holder).publicKey), endpoints };
  try {
    await own.connect(target, credential, new AbortController().signal);
    return "admitted";
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown ? `${String(thrown.code)}: ${thrown.message}` : String(thrown);
  }
}

test("a grant opens one link: shown again on another connection, or by a node that stole it, it is refused by name", async () => {
  const credential = grant();
  expect(await shown(credential, thief)).toMatch(/^peer-refused: .*not for /);
  expect(await shown(credential)).toBe("admitted");
  expect(await shown(credential)).toMatch(/^peer-refused: .*was taken before/);
  expect(await shown(credential, thief)).toMatch(/^peer-refused: .*not for /);
  expect(network.breaches().refused).toBe(3);
});

test.each([
  ["expired", () => grant({ issuedAtMs: 1, expiresAtMs: 1 + GRANT_TTL_MS }), /expired/],
  ["of another grid", () => grant({ gridId: "grid-2" }), /of the grid grid-2/],
  ["of another signer", () => grant({}, thief), /did not sign/],
  ["for another holder", () => grant({ holderKeyHex: toHex(key(thief).publicKey) }), /not to this node/],
  [
    "from before the holder's start",
    () => grant({ issuedAtMs: Math.floor(clock.wallMs()) - 5_000 }),
    /before this node's start/,
  ],
  ["of no form", () => "{}", /is no grant/],
])("a grant that is %s opens no link, and is refused by name", async (_, credential, why) => {
  const answer = await shown(credential());
  expect(answer).toMatch(/^peer-refused: /);
  expect(answer).toMatch(why);
  expect(network.open(toHex(key(fetcher).publicKey))).toBeNull();
});
