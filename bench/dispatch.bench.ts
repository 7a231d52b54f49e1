/**
 * What one request costs the coordinator's dispatch, from the gateway's call to the start that is sent to a node: over 1,000 and 10,000 nodes that
 * take every order and report nothing by themselves, while every tenth request finds that some node has changed. CPU time of the whole
 * process. Not in it: HTTP, accounts, the tokeniser, the link, the store, planning.
 */
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { UlidIds } from "../src/adapters/ids-ulid/ulid-ids.ts";
import { Dispatcher } from "../src/coordinator/dispatch/dispatcher.ts";
import type { GenerationRequest } from "../src/domain/generation.ts";
import { requestId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { openBench } from "./lib/bench-run.ts";
import { servedModels } from "./lib/obedient-roster.ts";
import { drawPlacementGrid } from "./lib/placement-grid.ts";
import { quantile } from "./lib/quantiles.ts";
import { ServingRoster } from "./lib/serving-roster.ts";

const bench = openBench("dispatch");
const sizes = bench.isSmoke ? [200] : [1_000, 10_000];
const MODELS = 20;
const BLOCKS = bench.isSmoke ? 2 : 11;
const REQUESTS_PER_BLOCK = bench.isSmoke ? 50 : 200;
const REQUESTS_PER_CHANGE = 10;

async function measure(nodes: number) {
  const clock = new SystemClock();
  const random = new SeededRandom(`bench/dispatch/${nodes}`);
  const ids = new UlidIds({ clock, random: new SystemRandom() });
  const drawn = drawPlacementGrid({ nodes, models: MODELS, seed: "dispatch" });
  const models = servedModels(drawn.models);
  const roster = new ServingRoster({ nodes: drawn.nodes, models: models.list(), clock });
  const log = simLog(() => undefined);
  const never = { plan: () => new Promise<never>(() => undefined), stop: () => Promise.resolve() };
  const crypto = new NodeCrypto();
  const ports = { gridId: "grid", boot: 1, clock, ids, crypto, log, roster, models, planner: never };
  const dispatcher = new Dispatcher(ports);
  roster.allOnline();
  const requestOf = (): GenerationRequest => {
    const { manifest } = random.pick(models.list());
    return {
      terms: {
        requestId: requestId(ids.make("req")),
        requestSha256: sha256Hex("0".repeat(64)),
        modelId: manifest.modelId,
        weightsSha256: manifest.weightsSha256,
        tier: "default",
        price: manifest.price,
        deadlineMs: 600_000,
      },
      choice: 0,
      promptTokenIds: Array.from({ length: 200 }, () => random.between(0, 30_000)),
      tokensMax: 100,
      sampling: DEFAULT_SAMPLING,
      seed: sha256Hex("0".repeat(64)),
      stopStrings: [],
      grammar: null,
      cacheScope: "0".repeat(32),
      ignoreStopTokens: false,
      topLogprobs: null,
    };
  };
  const costsUs: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    const asked = Array.from({ length: REQUESTS_PER_BLOCK }, requestOf);
    const start = process.cpuUsage();
    for (const [at, request] of asked.entries()) {
      if (at % REQUESTS_PER_CHANGE === 0) roster.changeOne(random.between(0, nodes - 1));
      dispatcher.generate(request, () => undefined);
      // Requests are admitted in a later turn of the microtasks.
      await Promise.resolve();
      await Promise.resolve();
    }
    const { user, system } = process.cpuUsage(start);
    // The first block also reads every node for the first time.
    if (block > 0) costsUs.push((user + system) / asked.length);
  }
  const { started } = dispatcher.stats();
  return { nodes, started, cpuUsP50: Math.round(quantile(costsUs, 0.5)), cpuUsMost: Math.round(Math.max(...costsUs)) };
}

const pools = [];
for (const nodes of sizes) pools.push(await measure(nodes));
bench.say(JSON.stringify(pools, null, 2));
bench.keep({ bars: [], measured: { modelsServed: MODELS, requestsPerChange: REQUESTS_PER_CHANGE, pools } });
process.exit(0);
