/**
 * What faults cost a batch: the same lines over 4 agents, once left alone and once with a SIGKILL of a random agent every 5 s and of the coordinator
 * every 30 s. Each killed process is started again at once. Both runs check that every line has one result and one charge. `--lines N` for
 * another number than 100,000.
 */
import { type BatchDrillOptions, drillBatch } from "../test/support/batch-drill.ts";
import { openBench } from "./lib/bench-run.ts";

const bench = openBench("batch");
const named = process.argv.indexOf("--lines");
const LINES = bench.isSmoke ? 200 : named === -1 ? 100_000 : Number(process.argv[named + 1]);
const AGENTS = bench.isSmoke ? 2 : 4;
const TOKENS = 8;
const AGENT_KILL_MS = 5_000;
const COORDINATOR_KILL_MS = 30_000;
/** Of the undisturbed run's throughput. */
const BAR = 0.7;

const say = (line: string) => bench.say(line);
const load: Omit<BatchDrillOptions, "agentKills" | "coordinatorKills"> = {
  lines: LINES,
  agents: AGENTS,
  tokens: TOKENS,
  seed: 1,
  say,
};
const calm = await drillBatch({ ...load, agentKills: null, coordinatorKills: null });
say(`undisturbed: ${calm.linesPerSecond.toFixed(1)} lines/s`);
const hit = await drillBatch({
  ...load,
  agentKills: { everyMs: AGENT_KILL_MS },
  coordinatorKills: { everyMs: COORDINATOR_KILL_MS },
});
say(`with faults: ${hit.linesPerSecond.toFixed(1)} lines/s`);
const ratio = hit.linesPerSecond / calm.linesPerSecond;
bench.keep({
  bars: [
    { name: "throughput with faults over without", value: Number(ratio.toFixed(3)), wanted: "at-least", limit: BAR },
  ],
  measured: { lines: LINES, agents: AGENTS, tokensPerLine: TOKENS, calm, hit },
});
process.exit(0);
