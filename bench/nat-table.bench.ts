/**
 * How two nodes behind NATs reach each other, and how soon: the grid of test/support/nat-grid.ts in the lab, with 40 ms between the nodes, 25 ms from each
 * to the one coordinator, and 100 Mbit/s. First the carriers one by one, with nothing else in between; then a link over all of them (TCP, UDP and relay
 * are tried one after the other with a stagger), which fetches bytes as weights are fetched: the time from the wish for it to the first byte, what it
 * began on and what it ended on. The relay's speed is told for the 100 Mbit/s line, and without bounds on loopback.
 */
import { RelayCarrier } from "../src/adapters/peer-relay/relay-carrier.ts";
import type { PeerConnection } from "../src/ports/peer-carrier.ts";
import type { Egress, NatKind } from "../test/netlab/nat-rules.ts";
import { netlabAbsent } from "../test/netlab/netlab.ts";
import { type Dialled, startNatGrid } from "../test/support/nat-grid.ts";
import { startRelayGrid } from "../test/support/relay-grid.ts";
import { startRelayNode } from "../test/support/relay-node.ts";
import { openBench } from "./lib/bench-run.ts";
import { quantile } from "./lib/quantiles.ts";

interface Side {
  readonly kind: NatKind;
  readonly egress?: Egress;
}

const bench = openBench("nat-table");
const ROUNDS = bench.isSmoke ? 1 : 3;
const BULK_BYTES = bench.isSmoke ? 1_048_576 : 16 * 1_048_576;
/** Long enough for a link that began on the relay to move over. */
const LINK_BYTES = 3 * BULK_BYTES;
const LOOPBACK_BYTES = bench.isSmoke ? 4 * 1_048_576 : 512 * 1_048_576;
/** The one that is dialled, and the one that dials. */
const PAIRS: readonly (readonly [Side, Side])[] = [
  [{ kind: "cone" }, { kind: "cone" }],
  [{ kind: "full-cone" }, { kind: "random" }],
  [{ kind: "cone" }, { kind: "random" }],
  [{ kind: "random" }, { kind: "cone" }],
  [{ kind: "random" }, { kind: "random" }],
  [{ kind: "cone", egress: "udp-blocked" }, { kind: "cone" }],
  [{ kind: "cone", egress: "tcp443-only" }, { kind: "cone" }],
  [
    { kind: "random", egress: "tcp443-only" },
    { kind: "random", egress: "tcp443-only" },
  ],
];

const absent = netlabAbsent();
const rows = [];
if (absent === null) for (const pair of PAIRS) rows.push(await row(pair));
else bench.say(`the table is left out: ${absent}`);
const relayLoopbackMbPerCpuSecond = await relayOnLoopback();
bench.say(
  `relay on loopback, both nodes and the coordinator in one process: ${relayLoopbackMbPerCpuSecond} MB per CPU-second`,
);
bench.keep({
  bars: [
    {
      name: "pairs that reach each other",
      value: rows.filter(({ reached }) => reached === ROUNDS).length,
      wanted: "at-least",
      limit: rows.length,
    },
    {
      name: "slowest median time to the first byte, ms",
      value: Math.max(0, ...rows.map(({ linkFirstByteMs }) => linkFirstByteMs ?? Number.POSITIVE_INFINITY)),
      wanted: "at-most",
      limit: 2_000,
    },
  ],
  measured: { rounds: ROUNDS, rows, relayLoopbackMbPerCpuSecond },
});

async function row([a, b]: readonly [Side, Side]) {
  const udp: Dialled[] = [];
  const relay: Dialled[] = [];
  const link: Dialled[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    {
      await using grid = await startNatGrid({ a, b });
      if (grid.a.hasUdp && grid.b.hasUdp) udp.push(await grid.dial("udp", BULK_BYTES));
      relay.push(await grid.dial("relay", BULK_BYTES));
    }
    await using grid = await startNatGrid({ a, b }, { hasLink: true });
    link.push(await grid.dial("link", LINK_BYTES));
  }
  const figures = {
    pair: `${named(a)} / ${named(b)}`,
    direct: `${udp.filter(({ ok }) => ok).length} of ${ROUNDS}`,
    directFirstByteMs: median(udp, (one) => one.firstByteMs),
    directMbPerSecond: median(udp, (one) => (one.bytesPerSecond ?? 0) / 1e6),
    whyNot: [...new Set(udp.flatMap((one) => (one.ok ? [] : [/[A-Z]+_[A-Z_]+/.exec(one.why)?.[0] ?? one.why])))],
    relayFirstByteMs: median(relay, (one) => one.firstByteMs),
    relayMbPerSecond: median(relay, (one) => (one.bytesPerSecond ?? 0) / 1e6),
    linkFirstByteMs: median(link, (one) => one.firstByteMs),
    linkMbPerSecond: median(link, (one) => (one.bytesPerSecond ?? 0) / 1e6),
    linkCarriers: link.map((one) => (one.ok ? one.remote : one.why)),
    reached: link.filter(({ ok }) => ok).length,
  };
  bench.say(JSON.stringify(figures));
  return figures;
}

function named({ kind, egress }: Side): string {
  return egress === undefined ? kind : `${kind}, ${egress}`;
}

function median(dialled: readonly Dialled[], of: (one: Extract<Dialled, { ok: true }>) => number): number | null {
  const values = dialled.flatMap((one) => (one.ok ? [of(one)] : []));
  return values.length === 0 ? null : Math.round(quantile(values, 0.5) * 10) / 10;
}

/** Both nodes and the coordinator in this process; by its time on a processor, since other work on the machine changes that little. */
async function relayOnLoopback(): Promise<number> {
  const grid = await startRelayGrid({
    host: "127.0.0.1",
    bindHost: "127.0.0.1",
    port: 0,
    hasUdp: false,
    tlsFolder: null,
    bounds: { bytesPerSecondOfNode: 1e12, bytesPerSecondInAll: 1e12, bytesPerDayOfNode: 1e15 },
  });
  const joinToken = await grid.joinToken(2);
  const [one, other] = [
    await startRelayNode({ ...grid, name: "one", joinToken }),
    await startRelayNode({ ...grid, name: "other", joinToken }),
  ];
  const carriers = [new RelayCarrier(one.keyPair, one.asks), new RelayCarrier(other.keyPair, other.asks)] as const;
  let received = 0;
  const done = Promise.withResolvers<void>();
  carriers[1].onConnection((connection) =>
    connection.listen({
      onBytes: (bytes) => {
        received += bytes.length;
        if (received >= LOOPBACK_BYTES) done.resolve();
      },
      onDrain: () => undefined,
      onClose: (cause) => done.reject(new Error(cause)),
    }),
  );
  const target = { nodeId: other.nodeId, publicKeyHex: other.publicKeyHex, endpoints: { tcp: [], hasUdp: false } };
  const connection = await carriers[0].dial(target, new AbortController().signal);
  const before = process.cpuUsage();
  await send(connection, LOOPBACK_BYTES);
  await done.promise;
  const { user, system } = process.cpuUsage(before);
  for (const carrier of carriers) await carrier.close();
  for (const node of [one, other]) await node.stop();
  await grid.stop();
  return Math.round(LOOPBACK_BYTES / (user + system));
}

async function send(connection: PeerConnection, bytes: number): Promise<void> {
  let drained = Promise.withResolvers<void>();
  connection.listen({ onBytes: () => undefined, onDrain: () => drained.resolve(), onClose: () => drained.resolve() });
  const piece = Buffer.alloc(65_536, 7);
  for (let sent = 0; sent < bytes; sent += piece.length) {
    if (connection.write(piece)) continue;
    await drained.promise;
    drained = Promise.withResolvers();
  }
}
