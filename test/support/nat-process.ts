/**
 * One process of a grid behind NATs: the coordinator's side (registry, HTTPS, relay, bootstrap nodes), or a node's (membership and carriers).
 * Orders come as JSON lines on stdin, answers go as JSON lines to stdout. Real parts all: only the work that nodes do is left out.
 *
 * Run as `node nat-process.ts coordinator '{"host":…}'` or `node nat-process.ts node '{"url":…}'`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { RelayCarrier } from "../../src/adapters/peer-relay/relay-carrier.ts";
import { openTcpCarrier } from "../../src/adapters/peer-tcp/tcp-carrier.ts";
import { openUdpCarrier } from "../../src/adapters/peer-udp/udp-carrier.ts";
import { openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import { assert } from "../../src/domain/assert.ts";
import { describeFault } from "../../src/domain/fault.ts";
import { nodeId } from "../../src/domain/ids.ts";
import type { PeerCarrier, PeerConnection } from "../../src/ports/peer-carrier.ts";
import type { PeerNetwork } from "../../src/ports/peer-link.ts";
import { SILENT_LOG, startRelayGrid } from "./relay-grid.ts";
import { startRelayNode } from "./relay-node.ts";

const coordinatorSchema = z.object({ host: z.string(), port: z.number().int(), hasUdp: z.boolean() });
const nodeSchema = z.object({
  name: z.string(),
  url: z.string(),
  certificateSha256: z.string().nullable(),
  gridId: z.string(),
  joinToken: z.string(),
  bootstrap: z.array(z.object({ host: z.string(), port: z.number() })),
  /** A link over all carriers, instead of the carriers one by one. */
  hasLink: z.boolean(),
});
const orderSchema = z.object({
  carrier: z.enum(["udp", "relay", "link"]),
  nodeId: z.string(),
  publicKeyHex: z.string(),
  tcp: z.array(z.object({ host: z.string(), port: z.number() })),
  bulkBytes: z.number().int(),
  /** Of a link: when so many bytes came it says so, and from there on measures anew how long nothing came. */
  marks: z.array(z.number().int()).default([]),
});

/** Repeats of a prime length, so that bytes that came to a wrong place do not fit; twice, so that any part of it is at hand. */
const PATTERN_BYTES = 65_537;
const PATTERN = Buffer.alloc(PATTERN_BYTES * 6);
for (let at = 0; at < PATTERN.length; at++) PATTERN[at] = ((at % PATTERN_BYTES) * 2_654_435_761) >>> 13;

function contents(offset: number, length: number): Uint8Array {
  const from = offset % PATTERN_BYTES;
  assert(from + length <= PATTERN.length, `at most ${PATTERN.length - PATTERN_BYTES} bytes are read at once`);
  return PATTERN.subarray(from, from + length);
}

const say = (line: Readonly<Record<string, unknown>>): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

const [, , role, settings = "{}"] = process.argv;
if (role === "coordinator") await coordinator(coordinatorSchema.parse(JSON.parse(settings)));
else await node(nodeSchema.parse(JSON.parse(settings)));

async function coordinator(options: z.infer<typeof coordinatorSchema>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "fallow-nat-"));
  const grid = await startRelayGrid({ ...options, tlsFolder: folder, bindHost: "0.0.0.0" });
  rmSync(folder, { recursive: true });
  const { url, certificateSha256, gridId, bootstrap } = grid;
  say({ event: "ready", url, certificateSha256, gridId, bootstrap, joinToken: await grid.joinToken(8) });
}

async function node(options: z.infer<typeof nodeSchema>): Promise<void> {
  const { keyPair, asks, publicKeyHex, nodeId: id } = await startRelayNode(options);
  const relay = new RelayCarrier(keyPair, asks);
  const udp =
    options.bootstrap.length === 0
      ? null
      : await openUdpCarrier({ keyPair, bootstrap: options.bootstrap, port: 0, bindHost: "0.0.0.0" });
  await udp?.listening;
  const tcp = options.hasLink ? await openTcpCarrier({ keyPair, host: "0.0.0.0", port: 0 }) : null;
  const network =
    tcp === null
      ? null
      : servedNetwork(openPeerNetwork({ ...systemPorts(), carriers: [tcp, ...(udp === null ? [] : [udp]), relay] }));
  if (network === null) for (const carrier of [udp, relay]) carrier?.onConnection(answerAll);
  say({
    event: "online",
    nodeId: id,
    publicKeyHex,
    hasUdp: udp?.endpoints().hasUdp ?? false,
    tcp: tcp?.endpoints().tcp ?? [],
  });
  for await (const line of createInterface({ input: process.stdin })) {
    const order = orderSchema.parse(JSON.parse(line));
    if (network !== null) {
      await fetchOverLink(network, { ...order, hasUdp: udp?.endpoints().hasUdp ?? false });
      continue;
    }
    const carrier: PeerCarrier | null = order.carrier === "udp" ? udp : relay;
    if (carrier === null) say({ event: "dialled", carrier: order.carrier, ok: false, why: "no carrier", ms: 0 });
    else await dial(carrier, order);
  }
}

function systemPorts() {
  return { clock: new SystemClock(), random: new SystemRandom(), crypto: new NodeCrypto(), log: SILENT_LOG };
}

/** Admits everybody, and has as many bytes as are asked for. */
function servedNetwork(network: PeerNetwork): PeerNetwork {
  network.serve({
    admit: () => ({ ok: true, expiresAtMs: Date.now() + 3_600_000 }),
    onFetch: async (request) => ({
      ok: true,
      totalBytes: Number(Buffer.from(request).toString()),
      read: async (offset, length) => contents(offset, length),
      close: () => undefined,
    }),
    onMessage: () => undefined,
  });
  return network;
}

async function fetchOverLink(
  network: PeerNetwork,
  order: z.infer<typeof orderSchema> & { readonly hasUdp: boolean },
): Promise<void> {
  const startedMs = performance.now();
  const signal = AbortSignal.timeout(60_000);
  const endpoints = { tcp: order.tcp, hasUdp: true };
  try {
    const target = { nodeId: nodeId(order.nodeId), publicKeyHex: order.publicKeyHex, endpoints };
    const link = await network.connect(target, "a credential", signal);
    const openMs = performance.now() - startedMs;
    const began = link.carrier();
    let firstByteMs: number | null = null;
    const options = { signal, totalBytes: order.bulkBytes, bytesPerSecondMin: 1 };
    let received = 0;
    let isIntact = true;
    let lastMs = startedMs;
    const pauses: number[] = [];
    for await (const part of link.fetch(Buffer.from(String(order.bulkBytes)), options)) {
      const nowMs = performance.now();
      firstByteMs ??= nowMs - startedMs;
      if (pauses.length > 0) pauses.push(Math.max(pauses.pop() ?? 0, nowMs - lastMs));
      lastMs = nowMs;
      isIntact &&= Buffer.compare(part, contents(received, part.length)) === 0;
      received += part.length;
      if (received < (order.marks[pauses.length] ?? Number.POSITIVE_INFINITY)) continue;
      pauses.push(0);
      say({ event: "mark", received, carrier: link.carrier() });
    }
    const seconds = (performance.now() - startedMs - (firstByteMs ?? 0)) / 1_000;
    say({
      event: "dialled",
      carrier: "link",
      ok: received === order.bulkBytes && isIntact,
      pausesMs: pauses.map(Math.round),
      openMs,
      firstByteMs,
      bytesPerSecond: received / seconds,
      remote: `${began} to ${link.carrier()}`,
      peerKeyHex: link.peerKeyHex,
    });
    link.close("measured");
  } catch (thrown) {
    say({
      event: "dialled",
      carrier: "link",
      ok: false,
      ms: performance.now() - startedMs,
      why: describeFault(thrown),
    });
  }
}

/** Sends back the first byte, and a byte at the end of each MiB. */
function answerAll(connection: PeerConnection): void {
  let count = 0;
  connection.listen({
    onBytes: (bytes) => {
      const isFirst = count === 0;
      const before = Math.floor(count / 1_048_576);
      count += bytes.length;
      const after = Math.floor(count / 1_048_576);
      if (isFirst || after > before) connection.write(new Uint8Array((isFirst ? 1 : 0) + after - before));
    },
    onDrain: () => undefined,
    onClose: () => undefined,
  });
}

async function dial(carrier: PeerCarrier, order: z.infer<typeof orderSchema>): Promise<void> {
  const startedMs = performance.now();
  const target = {
    nodeId: nodeId(order.nodeId),
    publicKeyHex: order.publicKeyHex,
    endpoints: { tcp: [], hasUdp: true },
  };
  try {
    const connection = await carrier.dial(target, new AbortController().signal);
    const openMs = performance.now() - startedMs;
    const { firstByteMs, bytesPerSecond } = await measure(connection, { startedMs, bulkBytes: order.bulkBytes });
    say({
      event: "dialled",
      carrier: carrier.kind,
      ok: true,
      openMs,
      firstByteMs,
      bytesPerSecond,
      remote: connection.remote,
      peerKeyHex: connection.peerKeyHex,
    });
    connection.destroy();
  } catch (thrown) {
    say({
      event: "dialled",
      carrier: carrier.kind,
      ok: false,
      ms: performance.now() - startedMs,
      why: describeFault(thrown),
    });
  }
}

async function measure(
  connection: PeerConnection,
  { startedMs, bulkBytes }: { readonly startedMs: number; readonly bulkBytes: number },
): Promise<{ readonly firstByteMs: number; readonly bytesPerSecond: number | null }> {
  let answers = 0;
  let next = watched();
  let drained = watched();
  connection.listen({
    onBytes: (bytes) => {
      answers += bytes.length;
      next.resolve();
      next = watched();
    },
    onDrain: () => drained.resolve(),
    onClose: (cause) => {
      next.reject(new Error(cause));
      drained.reject(new Error(cause));
    },
  });
  connection.write(new Uint8Array(1));
  await next.promise;
  const firstByteMs = performance.now() - startedMs;
  if (bulkBytes === 0) return { firstByteMs, bytesPerSecond: null };
  const bulkMs = performance.now();
  const part = new Uint8Array(65_536);
  for (let sent = 0; sent < bulkBytes; sent += part.length) {
    if (connection.write(part)) continue;
    await drained.promise;
    drained = watched();
  }
  while (answers < 1 + Math.floor((1 + bulkBytes) / 1_048_576)) await next.promise;
  return { firstByteMs, bytesPerSecond: (bulkBytes / (performance.now() - bulkMs)) * 1_000 };
}

/** Its rejection may come when nobody waits. */
function watched(): PromiseWithResolvers<void> {
  const made = Promise.withResolvers<void>();
  made.promise.catch(() => undefined);
  return made;
}
