/**
 * One end of a link between nodes, for benches over the network lab.
 *
 *     peer-link-process.ts serve '{"address": ...}'   serves bytes and echoes messages; prints its key and port
 *     peer-link-process.ts ask '{"address": ...}'     measures, and prints the result as its last line
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { openTcpCarrier } from "../../src/adapters/peer-tcp/tcp-carrier.ts";
import { startBootstrapNodes } from "../../src/adapters/peer-udp/bootstrap.ts";
import { openUdpCarrier } from "../../src/adapters/peer-udp/udp-carrier.ts";
import { openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import { nodeId } from "../../src/domain/ids.ts";
import type { HostPort } from "../../src/domain/peer.ts";
import { refuse } from "../../src/domain/refusal.ts";
import { toHex } from "../../src/market/hex.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import type { Log } from "../../src/ports/log.ts";
import type { PeerCarrier, PeerConnection } from "../../src/ports/peer-carrier.ts";
import type { PeerLink, PeerServer } from "../../src/ports/peer-link.ts";
import {
  type PeerLinkQuestion,
  type PeerLinkServer,
  peerLinkQuestionSchema,
  peerLinkServerSchema,
} from "./peer-link-run.ts";
import { spreadOf } from "./quantiles.ts";

const BOOTSTRAP_PORT = 8_420;
const PIECE_BYTES = 1024 * 1024;
const ECHO_BYTES = 8 * 1024;
const ECHOES_WARM = 3;
const RSS_LOOK_MS = 250;
/** Of the transfer whose connections are all cut at once. */
const CUT_AFTER_MS = 2_500;
const MS_PER_S = 1_000;
const CREDENTIAL = "bench";
/** As the swarm does it: chunks of 1 MiB, several at once. */
const CHUNK_BYTES = 1024 * 1024;
const CHUNKS_AT_ONCE = 24;
const NODE = nodeId(`node_${"0".repeat(32)}`);

const silent: Log = {
  debug: (fields, event) => {
    if (process.env["FALLOW_BENCH_VERBOSE"] !== undefined) console.error(event, fields);
  },
  info: () => undefined,
  warn: (fields, event) => console.error(event, fields),
  error: (fields, event) => console.error(event, fields),
  child: () => silent,
};

const [role, question] = process.argv.slice(2);
if (role === "serve") await serve(peerLinkServerSchema.parse(JSON.parse(question ?? "")));
else {
  console.log(JSON.stringify(await measure(peerLinkQuestionSchema.parse(JSON.parse(question ?? "")))));
  process.exit(0);
}

async function openNetwork({
  keyPair,
  bootstrap,
}: {
  readonly keyPair: KeyPair;
  readonly bootstrap: readonly HostPort[];
}) {
  const crypto = new NodeCrypto();
  const tcp = await openTcpCarrier({ keyPair, host: "0.0.0.0", port: 0 });
  const udp =
    bootstrap.length === 0 ? null : await openUdpCarrier({ keyPair, bootstrap, port: tcp.port, bindHost: "0.0.0.0" });
  await udp?.listening;
  // What a carrier that is cut does to a link: every connection ends at once, at both ends.
  const open = new Set<PeerConnection>();
  const cut = () => {
    for (const connection of open) connection.destroy();
    open.clear();
  };
  const carriers: readonly PeerCarrier[] = udp === null ? [tcp] : [tcp, udp];
  for (const carrier of carriers) {
    const dial = carrier.dial.bind(carrier);
    carrier.dial = async (target, signal) => {
      const connection = await dial(target, signal);
      open.add(connection);
      return connection;
    };
  }
  const ports = { clock: new SystemClock(), random: new SystemRandom(), crypto, log: silent, carriers };
  return { network: openPeerNetwork(ports), tcp, cut };
}

/** The server of the bytes runs the bootstrap nodes as well, as a coordinator would. */
async function serve({ address, hasUdp }: PeerLinkServer): Promise<void> {
  const crypto = new NodeCrypto();
  const [keyPair, clientPair] = [crypto.generateKeyPair(), crypto.generateKeyPair()];
  const nodes = hasUdp
    ? await startBootstrapNodes({ publicHost: address, firstPort: BOOTSTRAP_PORT, bindHost: "0.0.0.0" })
    : null;
  for (const { publicKey } of [keyPair, clientPair]) nodes?.admit(toHex(publicKey));
  const bootstrap = nodes?.addresses ?? [];
  const { network, tcp } = await openNetwork({ keyPair, bootstrap });
  const piece = Buffer.alloc(PIECE_BYTES, 7);
  network.serve({
    admit: (credential) =>
      credential === CREDENTIAL
        ? { ok: true, expiresAtMs: Date.now() + 3_600_000 }
        : refuse("invalid-key", "not the bench's credential"),
    // The request is the length that is wanted, as text.
    onFetch: async (request) => ({
      ok: true,
      totalBytes: Number(Buffer.from(request).toString().split(" ")[0]),
      read: async (_offset, length) => piece.subarray(0, length),
      close: () => undefined,
    }),
    onMessage: (message, link) => void link.send(message),
  });
  const ready = { port: tcp.port, keyHex: toHex(keyPair.publicKey), clientSeedHex: toHex(clientPair.seed), bootstrap };
  console.log(JSON.stringify(ready));
}

async function measure(asked: PeerLinkQuestion): Promise<unknown> {
  const { bootstrap } = asked;
  const keyPair = new NodeCrypto().keyPairFrom(Buffer.from(asked.clientSeedHex, "hex"));
  const { network, cut } = await openNetwork({ keyPair, bootstrap });
  let onEcho: () => void = () => undefined;
  const nobody: PeerServer = {
    admit: () => refuse("invalid-key", "this end only asks"),
    onFetch: async () => refuse("not-found", "this end only asks"),
    onMessage: () => onEcho(),
  };
  network.serve(nobody);
  const endpoints = { tcp: [{ host: asked.address, port: asked.port }], hasUdp: bootstrap.length > 0 };
  const startMs = performance.now();
  const link = await network.connect(
    { nodeId: NODE, publicKeyHex: asked.keyHex, endpoints },
    CREDENTIAL,
    AbortSignal.timeout(20_000),
  );
  const connectMs = performance.now() - startMs;
  if (asked.slowBytesPerS !== undefined)
    return await readSlowly(link, { bytesPerS: asked.slowBytesPerS, seconds: asked.seconds });
  if (asked.isCut === true) return await cutOnce(link, cut, asked.seconds * MS_PER_S);
  const ms = asked.seconds * MS_PER_S;
  const bulk = asked.isBulk ? runBulk(link, ms) : null;
  const echoMs = asked.isEchoing
    ? spreadOf(
        await echoes(link, ms, (settle) => {
          onEcho = settle;
        }),
      )
    : null;
  const moved = (await bulk) ?? null;
  return {
    connectMs: round(connectMs),
    echoMs,
    ...moved,
    quality: link.quality(),
    rssMb: round(process.memoryUsage.rss() / 1e6),
  };
}

/** Chunks one after the other in as many lanes as the swarm has; from the moment of asking. */
async function runBulk(link: PeerLink, ms: number, onPart: () => void = () => undefined) {
  const ending = new AbortController();
  const { signal } = ending;
  const startMs = performance.now();
  let bytes = 0;
  let chunks = 0;
  const perSecond: number[] = Array(Math.ceil(ms / MS_PER_S) + 1).fill(0);
  const totalBytes = CHUNK_BYTES;
  const lane = async () => {
    while (!signal.aborted) {
      const request = Buffer.from(`${totalBytes} ${chunks++}`);
      for await (const part of link.fetch(request, { signal, totalBytes, bytesPerSecondMin: 1 })) {
        onPart();
        bytes += part.length;
        const second = Math.floor((performance.now() - startMs) / MS_PER_S);
        perSecond[second] = (perSecond[second] ?? 0) + part.length;
      }
    }
  };
  const lanes = Promise.allSettled(Array.from({ length: CHUNKS_AT_ONCE }, lane));
  await sleep(ms);
  const tookMs = performance.now() - startMs;
  ending.abort(new Error("the measurement is over"));
  await lanes;
  return {
    mbitPerS: Number(((bytes * 8) / MS_PER_S / tookMs).toFixed(2)),
    mbitBySecond: perSecond.map((one) => round((one * 8) / 1e6)),
  };
}

/** One fetch by a reader with a pace of its own: what both ends hold does not grow with what was moved. */
async function readSlowly(link: PeerLink, asked: { readonly bytesPerS: number; readonly seconds: number }) {
  const totalBytes = asked.bytesPerS * asked.seconds;
  const baseMb = process.memoryUsage.rss() / 1e6;
  let mostMb = baseMb;
  const timer = setInterval(() => {
    mostMb = Math.max(mostMb, process.memoryUsage.rss() / 1e6);
  }, RSS_LOOK_MS);
  const startMs = performance.now();
  let bytes = 0;
  const options = { signal: new AbortController().signal, totalBytes, bytesPerSecondMin: 1 };
  for await (const part of link.fetch(Buffer.from(`${totalBytes} slow`), options)) {
    bytes += part.length;
    const aheadMs = (bytes / asked.bytesPerS) * MS_PER_S - (performance.now() - startMs);
    if (aheadMs > 1) await sleep(aheadMs);
  }
  clearInterval(timer);
  const mbitPerS = round((bytes * 8) / MS_PER_S / (performance.now() - startMs));
  return { connectMs: 0, echoMs: null, mbitPerS, quality: null, bytes, rssMb: round(mostMb), rssBaseMb: round(baseMb) };
}

/** Bulk in lanes; in the middle all connections end. How long nothing came is what the cut cost. */
async function cutOnce(link: PeerLink, cut: () => void, ms: number) {
  let lastAtMs = performance.now();
  let cutAtMs = 0;
  let costMs = 0;
  const moved = runBulk(link, ms, () => {
    const nowMs = performance.now();
    if (cutAtMs > 0 && costMs === 0 && nowMs - lastAtMs > 30) costMs = nowMs - cutAtMs;
    lastAtMs = nowMs;
  });
  await sleep(CUT_AFTER_MS);
  cutAtMs = performance.now();
  cut();
  const { mbitPerS } = await moved;
  return { connectMs: 0, echoMs: null, mbitPerS, quality: null, rssMb: 0, cutCostMs: round(costMs) };
}

async function echoes(link: PeerLink, ms: number, expect: (settle: () => void) => void): Promise<readonly number[]> {
  const message = Buffer.alloc(ECHO_BYTES, 3);
  const times: number[] = [];
  const endMs = performance.now() + ms;
  for (let index = 0; performance.now() < endMs; index++) {
    const startMs = performance.now();
    const came = new Promise<void>((resolve) => expect(resolve));
    await link.send(message);
    await came;
    if (index >= ECHOES_WARM) times.push(performance.now() - startMs);
    await sleep(5);
  }
  return times;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}
