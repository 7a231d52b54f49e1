/**
 * Links between nodes beside what everybody has, on the same path in the same run: one plain TCP connection, and `curl` over TLS. Bulk, small
 * messages idle and under bulk, what a cut costs, and what memory 5 GB to a slow reader takes. Needs the network lab (root on Linux).
 *
 *   npm run bench -- peer-link [--smoke] [--seconds 6] [--only "40 ms"]
 */
import { parseArgs } from "node:util";
import type { Congestion } from "../test/netlab/lab-plan.ts";
import { netlabAbsent } from "../test/netlab/netlab.ts";
import { startCarrierLab } from "../test/support/carrier-lab.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { type Baseline, measureIn } from "./lib/netlab-baseline.ts";
import { SCENARIOS, type Scenario, startPathLab } from "./lib/netlab-scenarios.ts";
import { measurePeerLink, type PeerLinkMeasured } from "./lib/peer-link-run.ts";

const { values: asked } = parseArgs({
  options: { smoke: { type: "boolean", default: false }, seconds: { type: "string" }, only: { type: "string" } },
});

const CONGESTIONS: readonly Congestion[] = ["cubic", "bbr"];
const LOSSY_SCENARIO = "40 ms, 100 Mbit/s, 1 % loss";
const TIMES_CUBIC_MIN = 10;
const SHARE_OF_BBR_MIN = 0.7;
const MESSAGE_ROUND_TRIPS_MAX = 3;
const SHARE_OF_CURL_MIN = 0.5;
const MEMORY_MB_MAX = 150;
const CUT_MS_MAX = 2_000;
const MIB = 1024 * 1024;
const SLOW_BYTES_PER_S = asked.smoke ? 20e6 : 125e6;
const SLOW_SECONDS = asked.smoke ? 1 : 40;

const bench = openBench("peer-link");
const seconds = Number(asked.seconds ?? (asked.smoke ? 1 : 6));

interface Row {
  readonly scenario: Scenario;
  readonly baseline: Baseline;
  readonly bulk: PeerLinkMeasured;
  readonly idle: PeerLinkMeasured;
  readonly both: PeerLinkMeasured;
}

const absent = netlabAbsent();
if (absent === null) await measure();
else bench.say(`left out: ${absent}`);

async function measure(): Promise<void> {
  const rows: Row[] = [];
  for (const scenario of chosen()) {
    for (const congestion of scenario.link === null ? CONGESTIONS.slice(0, 1) : CONGESTIONS) {
      const row = await measureRow(scenario, congestion);
      rows.push(row);
      bench.say(line(row));
    }
  }
  const cut = await inLab(LOSSY_SCENARIO, (lab) =>
    measurePeerLink(lab, { seconds: 6, isBulk: true, isEchoing: false, isCut: true }),
  );
  bench.say(`a cut of every connection cost ${cut.cutCostMs} ms`);
  const carrierCuts = asked.smoke ? null : await cutCarriers();
  const slow = await inLab("LAN", (lab) =>
    measurePeerLink(lab, { seconds: SLOW_SECONDS, isBulk: true, isEchoing: false, slowBytesPerS: SLOW_BYTES_PER_S }),
  );
  const grown = {
    readerMb: slow.rssMb - (slow.rssBaseMb ?? 0),
    serverMb: (slow.serverRssMb ?? 0) - (slow.serverRssBaseMb ?? 0),
  };
  bench.say(`${slow.bytes} bytes to a slow reader: memory grew by ${JSON.stringify(grown)} MB`);
  bench.keep({
    bars: [
      ...rows.flatMap(barsOf),
      {
        name: "ms that a cut of every connection cost",
        value: cut.cutCostMs ?? 0,
        wanted: "at-most",
        limit: CUT_MS_MAX,
      },
      ...(carrierCuts === null ? [] : cutBars(carrierCuts)),
      { name: "MB over base, slow reader", value: Math.round(grown.readerMb), wanted: "at-most", limit: MEMORY_MB_MAX },
      { name: "MB over base, its server", value: Math.round(grown.serverMb), wanted: "at-most", limit: MEMORY_MB_MAX },
    ],
    measured: {
      seconds,
      rows: rows.map(({ scenario, ...rest }) => ({ scenario: scenario.name, ...rest })),
      cut,
      carrierCuts,
      slow,
    },
  });
}

interface CarrierCuts {
  /** What carried the messages at each mark. */
  readonly carriers: readonly (string | null)[];
  /** The longest time without a byte after TCP fell silent, and after UDP did too. */
  readonly pausesMs: readonly number[];
}

/** Over all three carriers: TCP falls silent between the nodes, then UDP. Bytes are compared by the one who fetches. */
async function cutCarriers(): Promise<CarrierCuts> {
  await using lab = await startCarrierLab({ delayMs: 20, rateMbit: 100, lossShare: 0.01 }, "cubic");
  const carriers: (string | null)[] = [];
  const mark = (bytes: number, next: () => Promise<void>) => ({
    bytes,
    onMark: async (carrier: string | null) => {
      carriers.push(carrier);
      await next();
    },
  });
  const fetched = await lab.fetch(18 * MIB, [
    mark(6 * MIB, () => lab.drop("tcp")),
    mark(14 * MIB, () => lab.drop("udp")),
    mark(17 * MIB, async () => undefined),
  ]);
  if (!fetched.ok) throw new Error(`the fetch over cut carriers failed: ${fetched.why}`);
  const pausesMs = (fetched.pausesMs ?? []).slice(0, 2);
  bench.say(`TCP silent, then UDP: nothing came for ${pausesMs.join(" and ")} ms, on ${carriers.join(", ")}`);
  return { carriers, pausesMs };
}

function cutBars({ pausesMs }: CarrierCuts): readonly Bar[] {
  return ["TCP", "UDP as well"].map((what, index) => ({
    name: `ms without a byte when ${what} fell silent`,
    value: pausesMs[index] ?? 0,
    wanted: "at-most",
    limit: CUT_MS_MAX,
  }));
}

function chosen(): readonly Scenario[] {
  if (asked.smoke) return SCENARIOS.slice(0, 1);
  const { only } = asked;
  return only === undefined ? SCENARIOS : SCENARIOS.filter(({ name }) => name.includes(only));
}

async function measureRow(scenario: Scenario, congestion: Congestion): Promise<Row> {
  const lab = await startPathLab(scenario, congestion);
  try {
    const baseline = await measureIn(lab, { scenario, congestion, seconds });
    const bulk = await measurePeerLink(lab, { seconds, isBulk: true, isEchoing: false });
    const idle = await measurePeerLink(lab, { seconds, isBulk: false, isEchoing: true });
    const both = await measurePeerLink(lab, { seconds, isBulk: true, isEchoing: true });
    return { scenario, baseline, bulk, idle, both };
  } finally {
    await lab.stop();
  }
}

async function inLab<T>(name: string, use: (lab: Awaited<ReturnType<typeof startPathLab>>) => Promise<T>): Promise<T> {
  const scenario = SCENARIOS.find((one) => one.name === name);
  if (scenario === undefined) throw new Error(`there is no scenario ${name}`);
  const lab = await startPathLab(scenario, "cubic");
  try {
    return await use(lab);
  } finally {
    await lab.stop();
  }
}

function barsOf({ scenario, baseline, bulk, both }: Row): readonly Bar[] {
  const name = `${scenario.name}, ${baseline.congestion}`;
  const mbit = bulk.mbitPerS ?? 0;
  if (scenario.name === LOSSY_SCENARIO) {
    const isCubic = baseline.congestion === "cubic";
    return [
      {
        name: `${name}: bulk, times one TCP connection`,
        value: round(mbit / baseline.tcpMbitPerS),
        wanted: "at-least",
        limit: isCubic ? TIMES_CUBIC_MIN : SHARE_OF_BBR_MIN,
      },
      {
        name: `${name}: p99 of small messages under bulk, in round trips`,
        value: round((both.echoMs?.p99 ?? 0) / scenario.rttMs),
        wanted: "at-most",
        limit: MESSAGE_ROUND_TRIPS_MAX,
      },
    ];
  }
  if (scenario.link !== null) return [];
  const limit = SHARE_OF_CURL_MIN;
  return [
    {
      name: `${name}: bulk, share of curl over TLS`,
      value: round(mbit / baseline.curlTlsMbitPerS),
      wanted: "at-least",
      limit,
    },
  ];
}

function line({ scenario, baseline, bulk, idle, both }: Row): string {
  const spread = (one: { readonly p50: number; readonly p99: number } | null) =>
    one === null ? "-" : `${round(one.p50)} / ${round(one.p99)}`;
  return [
    `| ${scenario.name} | ${baseline.congestion} | ${baseline.tcpMbitPerS} | ${baseline.curlTlsMbitPerS} | ${bulk.mbitPerS}`,
    `| ${spread(baseline.echoIdleMs)} | ${spread(baseline.echoUnderBulkMs)}`,
    `| ${spread(idle.echoMs)} | ${spread(both.echoMs)} (${both.mbitPerS}) |`,
  ].join(" ");
}

function round(value: number): number {
  return Number(value.toFixed(2));
}
