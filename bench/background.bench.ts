/**
 * What background sequences do to others inside one engine, without a coordinator: times to the first token of requests that come one every tenth of a
 * second, in blocks that take turns: alone, beside background sequences that never end, and beside as many ordinary ones, which is what they would be
 * without the rule of `inference/batch-policy.ts`. Of each wait it tells two parts by the kernel's books: what the engine computed until then, which is
 * the rule's doing, and how long it was ready and had no core, which is the doing of whatever else runs on the machine. The bar is on the first.
 *
 *   npm run bench -- background [--smoke]
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, EngineSequence } from "../src/ports/engine.ts";
import { engineHost, loadTiny, taskOf } from "../test/support/engine-fixture.ts";
import { openBench } from "./lib/bench-run.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("background");
const ROUNDS = bench.isSmoke ? 1 : 8;
const REQUESTS = bench.isSmoke ? 3 : 15;
const GAP_MS = 100;
const SEQUENCES = 8;
const TOKENS = 8;
const BAR = 1.2;

const engine = await loadTiny(engineHost(), { sequencesMax: 16 });
let salt = 0;
const promptOf = (length: number) => {
  salt += 1;
  return [1, ...Array.from({ length: length - 1 }, (_, at) => 300 + ((at * 37 + salt * 101) % 1500))];
};

interface Wait {
  readonly firstTokenMs: number;
  readonly computedMs: number;
  readonly withoutCoreMs: number;
}

/** Of the engine's only thread: time on a core and time without one, in ms. */
function spentMs(on: Engine): { computed: number; withoutCore: number } {
  const [ran = "0", waited = "0"] = readFileSync(`/proc/${on.info.processId}/schedstat`, "utf8").split(" ");
  return { computed: Number(ran) / 1e6, withoutCore: Number(waited) / 1e6 };
}

/** Resolves at its end. */
function firstToken(on: Engine): Promise<Wait> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    const before = spentMs(on);
    let wait: Wait | null = null;
    on.generate(taskOf({ tokenIds: promptOf(24), tokensMax: TOKENS, ignoreStopTokens: true }), (event) => {
      if (event.kind === "tokens") {
        if (wait !== null) return;
        const after = spentMs(on);
        const computedMs = after.computed - before.computed;
        const withoutCoreMs = after.withoutCore - before.withoutCore;
        wait = { firstTokenMs: performance.now() - startMs, computedMs, withoutCoreMs };
      } else if (event.kind === "failed" || wait === null) reject(new Error(JSON.stringify(event)));
      else resolve(wait);
    });
  });
}

/** So many sequences at all times, each followed by another; `stop` ends them. */
function load(on: Engine, isBackground: boolean): { stop(): void } {
  const running = new Set<EngineSequence>();
  let isStopped = false;
  const begin = () => {
    const task = taskOf({ tokenIds: promptOf(24), tokensMax: 64, ignoreStopTokens: true, isBackground });
    const sequence = on.generate(task, (event) => {
      if (event.kind === "tokens" || isStopped) return;
      running.delete(sequence);
      begin();
    });
    running.add(sequence);
  };
  for (let at = 0; at < SEQUENCES; at++) begin();
  return {
    stop: () => {
      isStopped = true;
      for (const sequence of running) sequence.abort();
    },
  };
}

const KINDS = ["alone", "background", "ordinary"] as const;
const times: Record<(typeof KINDS)[number], Wait[]> = { alone: [], background: [], ordinary: [] };
for (let round = 0; round < ROUNDS; round++) {
  for (const kind of KINDS) {
    const beside = kind === "alone" ? null : load(engine, kind === "background");
    await sleep(GAP_MS);
    for (let at = 0; at < REQUESTS; at++) {
      times[kind].push(await firstToken(engine));
      // Not in step with the others.
      await sleep(GAP_MS + (at % 7));
    }
    beside?.stop();
    await sleep(GAP_MS);
  }
}
await engine.close();

const round = (value: number) => Number(value.toFixed(2));
const told = (kind: (typeof KINDS)[number]) => {
  const of = (what: keyof Wait) => {
    const all = times[kind].map((wait) => wait[what]);
    return { p50: round(quantile(all, 0.5)), p95: round(quantile(all, 0.95)) };
  };
  return { firstTokenMs: of("firstTokenMs"), computedMs: of("computedMs"), withoutCoreMs: of("withoutCoreMs") };
};
const [alone, background, ordinary] = [told("alone"), told("background"), told("ordinary")];
bench.keep({
  bars: [
    {
      name: "p95 of what an engine computes until a first token, beside background over alone",
      value: round(background.computedMs.p95 / alone.computedMs.p95),
      wanted: "at-most",
      limit: BAR,
    },
  ],
  measured: { sequences: SEQUENCES, requests: ROUNDS * REQUESTS, alone, background, ordinary },
});
process.exit(0);
