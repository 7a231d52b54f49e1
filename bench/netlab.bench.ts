/**
 * The network lab itself: how much it carries, how exact it is, and what its paths give to plain TCP and to `curl` over TLS with
 * either congestion control. Links between nodes are measured beside these figures.
 */

import type { Congestion } from "../test/netlab/lab-plan.ts";
import type { LinkSpec } from "../test/netlab/link-shape.ts";
import { netlabAbsent, startNetlab } from "../test/netlab/netlab.ts";
import { ask, ECHO_PORT, startProbe, UDP_PORTS } from "../test/netlab/probe.ts";
import { openBench } from "./lib/bench-run.ts";
import { type Baseline, measureBaseline } from "./lib/netlab-baseline.ts";
import { SCENARIOS } from "./lib/netlab-scenarios.ts";
import { spreadOf } from "./lib/quantiles.ts";

const CONGESTIONS: readonly Congestion[] = ["cubic", "bbr"];

const bench = openBench("netlab");
const absent = netlabAbsent();
if (absent === null) await measure();
else bench.say(`left out: ${absent}`);

async function measure(): Promise<void> {
  const seconds = bench.isSmoke ? 1 : 10;
  const capacity = {
    unshaped: await carry({ link: {}, bytes: bench.isSmoke ? 50e6 : 1e9 }),
    "300 Mbit/s, 40 ms": await carry({ link: { delayMs: 20, rateMbit: 300 }, bytes: bench.isSmoke ? 10e6 : 300e6 }),
    "100 Mbit/s, 40 ms, 1 % loss": await carry({
      link: { delayMs: 20, rateMbit: 100, lossShare: 0.01 },
      bytes: bench.isSmoke ? 5e6 : 100e6,
    }),
  };
  bench.say(JSON.stringify(capacity, null, 2));
  const baselines: Baseline[] = [];
  for (const scenario of bench.isSmoke ? SCENARIOS.slice(0, 1) : SCENARIOS) {
    for (const congestion of CONGESTIONS) {
      const row = await measureBaseline({ scenario, congestion, seconds });
      bench.say(tableRow(row));
      baselines.push(row);
    }
  }
  bench.keep({
    bars: [
      { name: "Mbit/s without a rate", value: capacity.unshaped.mbit, wanted: "at-least", limit: 300 },
      {
        name: "share of a link of 100 Mbit/s, 40 ms and 1 % loss that TCP with bbr fills",
        value: Number((capacity["100 Mbit/s, 40 ms, 1 % loss"].mbit / 100).toFixed(3)),
        wanted: "at-least",
        limit: 0.85,
      },
      {
        name: "packets that the emulator did not read in time",
        value: [...Object.values(capacity), ...baselines].reduce((sum, one) => sum + one.overrunPackets, 0),
        wanted: "at-most",
        limit: 0,
      },
    ],
    measured: { capacity, baselines },
  });
}

/** A download with bbr, which fills a link that loses packets; and before it, round trips of small packets on the idle link. */
async function carry({ link, bytes }: { link: LinkSpec; bytes: number }) {
  const lab = await startNetlab({
    hosts: { server: {}, client: {} },
    links: { server: {}, client: link },
    congestion: "bbr",
  });
  try {
    await startProbe(lab.host("server"));
    const { address } = lab.host("server");
    const client = lab.host("client");
    const echoes = await ask(client, { kind: "tcp", address, port: ECHO_PORT, count: bench.isSmoke ? 10 : 100 });
    const to = [{ address, port: UDP_PORTS[0] }];
    const packets = await ask(client, { kind: "udp", to, count: bench.isSmoke ? 50 : 1_000, intervalMs: 2 });
    const { mbit, bytes: received } = await ask(client, { kind: "download", address, bytes, waitMs: 60_000 });
    if (received < bytes || mbit === null) throw new Error(`${received} of ${bytes} bytes came`);
    const { late, overrunPackets } = await lab.counters();
    return {
      mbit: Math.round(mbit),
      tcpEchoMs: spreadOf(echoes.rttsMs),
      udpEchoMs: spreadOf(packets.replies.map(({ rttMs }) => rttMs)),
      late,
      overrunPackets,
    };
  } finally {
    await lab.stop();
  }
}

function tableRow(row: Baseline): string {
  const { scenario, congestion, tcpMbitPerS, curlTlsMbitPerS, echoIdleMs, echoUnderBulkMs } = row;
  const echo = ({ p50, p99 }: Baseline["echoIdleMs"]) => `${p50.toFixed(1)}/${p99.toFixed(1)} ms`;
  const figures = `tcp ${tcpMbitPerS} Mbit/s | curl ${curlTlsMbitPerS} Mbit/s | 8 KiB echo p50/p99 ${echo(echoIdleMs)} idle`;
  return `${scenario} | ${congestion} | ${figures}, ${echo(echoUnderBulkMs)} under bulk`;
}
