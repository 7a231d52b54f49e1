/**
 * How long eight streams wait when a stage of their chain is lost: its node killed, stopped, or cut off from the network; the first, the middle and
 * the last one of three; with the lost layers on another node's disk, and with a spare that has them loaded. Processes in the lab (needs root), 2 ms
 * between any two hosts. A drill of each place goes before, so that the layers are on the disk of the node that stands by.
 *
 *     npm run bench -- pipeline-recovery [--only disk|spare]
 */
import { netlabAbsent } from "../test/netlab/netlab.ts";
import { type StreamBody, streamBodies } from "../test/support/chain-streams.ts";
import { CHAIN_PLACES, type ChainPlace } from "../test/support/chain-view.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { LAB_MODEL_ID, LabChain } from "./lib/lab-chain.ts";
import { median } from "./lib/quantiles.ts";
import { CHAIN_FAULTS, type ChainFault, drillRecovery, type RecoveryTimes, settle } from "./lib/recovery-drill.ts";

const bench = openBench("pipeline-recovery");
const only = process.argv[process.argv.indexOf("--only") + 1];
const STAGES = 3;
const ROUNDS = bench.isSmoke ? 1 : 3;
const PLACES: readonly ChainPlace[] = bench.isSmoke ? ["middle"] : CHAIN_PLACES;
const FAULTS: readonly ChainFault[] = bench.isSmoke ? ["SIGKILL"] : CHAIN_FAULTS;
const RTT_MS = 2;
const STRUCK_AT = 24;
const BODIES: readonly StreamBody[] = streamBodies(8, { model: LAB_MODEL_ID, tokens: 200 });
const DISK_BAR_MS = 2_000;
const SPARE_BAR_MS = 1_000;

/** Where the lost layers are: who stands by, and how many spares the coordinator keeps. */
const WAYS = {
  disk: { nodes: STAGES + 1, spares: 0, barMs: DISK_BAR_MS, name: "on a disk" },
  spare: { nodes: 2 * STAGES, spares: STAGES, barMs: SPARE_BAR_MS, name: "in a spare" },
} as const;
type Way = keyof typeof WAYS;

interface Row extends Omit<RecoveryTimes, "streams"> {
  readonly way: Way;
  /** Median of the rounds; the others are of that round. */
  readonly byRoundMs: readonly number[];
  readonly textsSame: number;
  readonly texts: number;
}

const absent = netlabAbsent();
if (absent !== null) {
  bench.say(`left out: ${absent}`);
  process.exit(0);
}
const rows: Row[] = [];
for (const way of ["disk", "spare"] as const) {
  if (only === "disk" || only === "spare" ? only === way : true) rows.push(...(await rowsOf(way)));
}
bench.keep({
  bars: rows.length === 0 ? [] : bars(),
  measured: { stages: STAGES, rounds: ROUNDS, rttMs: RTT_MS, rows },
});
process.exit(0);

async function rowsOf(way: Way): Promise<readonly Row[]> {
  const { nodes, spares } = WAYS[way];
  await using chain = await LabChain.start({ stages: STAGES, nodes, spares, rttMs: RTT_MS, askWhole: BODIES });
  const found: Row[] = [];
  const drill = async (fault: ChainFault, place: ChainPlace) => {
    await settle(chain, { nodes, spares });
    return drillRecovery(chain, { fault, place, bodies: BODIES, struckAt: STRUCK_AT });
  };
  for (const place of PLACES) {
    await drill("SIGKILL", place);
    for (const fault of FAULTS) {
      const drills: RecoveryTimes[] = [];
      for (let round = 0; round < ROUNDS; round++) drills.push(await drill(fault, place));
      const row = rowOf({ way, chain }, drills);
      bench.say(JSON.stringify(row));
      found.push(row);
    }
  }
  return found;
}

function rowOf({ way, chain }: { way: Way; chain: LabChain }, drills: readonly RecoveryTimes[]): Row {
  const sorted = drills.toSorted((a, b) => a.lastTokenMs - b.lastTokenMs);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new Error("there was a drill");
  const { streams: _streams, ...times } = middle;
  const texts = drills.flatMap(({ streams }) => streams.map(({ text }, at) => text === chain.whole[at]?.text));
  return {
    way,
    ...times,
    survivorsFetchedBytes: drills.reduce((sum, one) => sum + one.survivorsFetchedBytes, 0),
    byRoundMs: drills.map(({ lastTokenMs }) => lastTokenMs),
    textsSame: texts.filter(Boolean).length,
    texts: texts.length,
  };
}

function bars(): readonly Bar[] {
  const atMost = (name: string, value: number, limit: number): Bar => ({ name, value, wanted: "at-most", limit });
  const recovery = (["disk", "spare"] as const).flatMap((way) => {
    const own = rows.filter((row) => row.way === way);
    return FAULTS.filter(() => own.length > 0).map((fault) => {
      const medians = own.filter((row) => row.fault === fault).map(({ byRoundMs }) => median(byRoundMs));
      const name = `ms until the last of 8 streams goes on after ${fault}, layers ${WAYS[way].name}, worst place`;
      return atMost(name, Math.max(...medians), WAYS[way].barMs);
    });
  });
  const sum = (of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);
  const lost = sum(({ texts, textsSame }) => texts - textsSame);
  return [
    ...recovery,
    atMost(
      "bytes of weights that the stages that stayed fetched, in all drills",
      sum((row) => row.survivorsFetchedBytes),
      0,
    ),
    atMost(`texts of ${sum(({ texts }) => texts)} that are not the undisturbed whole model's`, lost, 0),
  ];
}
