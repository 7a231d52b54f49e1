/**
 * What the forecasts are worth, on the traces of `../shared/traces`: survival of nodes (Brier score by horizon, reliability curve),
 * caches of models (hit rate between LRU and the clairvoyant optimum, bytes staged for a cold start avoided), demand (WAPE, MASE,
 * pinball). Protocols: docs/forecast.md. A smoke run, or a machine without the traces, plays what it has and keeps nothing.
 */
import { HOUR_MS } from "../src/scheduler/forecast/life-table.ts";
import { Reliability } from "../src/scheduler/forecast/survival-score.ts";
import { openBench } from "./lib/bench-run.ts";
import { belady, forecast, gdsf, lfu, lru, type ReplayPolicy, replay } from "./lib/forecast/cache-replay.ts";
import { QUANTILES, scoreDemand } from "./lib/forecast/demand-table.ts";
import { type ModelRequest, readModelRequests } from "./lib/forecast/model-requests.ts";
import { readSpotSeries, type SpotSeries } from "./lib/forecast/spot-series.ts";
import {
  climatology,
  learnFirstHalves,
  lifeCoverage,
  persistence,
  scoreSecondHalves,
  survival,
} from "./lib/forecast/survival-table.ts";

const bench = openBench("forecast");
const HORIZONS = [
  { hours: 1, bar: 0.086 },
  { hours: 4, bar: 0.13 },
  { hours: 12, bar: 0.119 },
];
/** LRU's hit rate as given, with the clairvoyant optimum's. */
const SLOTS = [
  { slots: 5, lru: 0.722, belady: 0.838 },
  { slots: 10, lru: 0.88, belady: 0.934 },
  { slots: 20, lru: 0.954, belady: 0.975 },
];
const MARGINS = [0.5, 0.3, 0.2, 0.1];
/** Lives of nodes: the spot series' nodes that stayed an hour stay about so much longer. */
const LIFE_HOURS = [4, 12];
const LIFE_QUANTILES = [0.1, 0.25, 0.5];
/** Of the requests, in a smoke run: enough to go through every line. */
const SMOKE_REQUESTS = 1_500;

const series = readSpotSeries();
const requests = readModelRequests();
if (series === null || requests === null) {
  bench.say("left out: ../shared/traces is not on this machine (docs/forecast.md names the sources)");
} else {
  const played = bench.isSmoke ? requests.slice(0, SMOKE_REQUESTS) : requests;
  const nodes = survivalFigures(series);
  const caches = cacheFigures(played);
  const demand = demandFigures(played);
  bench.keep({
    bars: [
      ...nodes.horizons.map(({ hours, brier, bar }) => ({
        name: `Brier score at ${hours} h, second halves`,
        value: brier,
        wanted: "at-most" as const,
        limit: bar,
      })),
      ...caches.uniform.map(({ slots, hitRate, lruHitRate }) => ({
        name: `hit rate with ${slots} slots against LRU's ${lruHitRate}`,
        value: hitRate,
        wanted: "at-least" as const,
        limit: SLOTS.find((given) => given.slots === slots)?.lru ?? 1,
      })),
      { name: "demand, MASE", value: demand.mase, wanted: "at-most", limit: 1 },
    ],
    measured: { nodes, caches, demand },
  });
}

function survivalFigures(all: readonly SpotSeries[]) {
  const { model, score } = learnFirstHalves(all);
  const { isSeasonal } = model;
  bench.say(
    `survival: ${all.length} series; the hour of the week ${isSeasonal ? "has" : "has no"} say after the first halves`,
  );
  bench.say("horizon  base rate  climatology  persistence  age    age x hour");
  const horizons = HORIZONS.map(({ hours, bar }) => {
    const reliability = new Reliability();
    const base = scoreSecondHalves(all, hours, (one) => climatology(one, hours));
    const figures = {
      hours,
      bar,
      baseRate: rounded(base.baseRate, 3),
      climatology: rounded(base.brier),
      persistence: rounded(scoreSecondHalves(all, hours, persistence).brier),
      byAge: rounded(scoreSecondHalves(all, hours, (one) => survival(one, model, false)).brier),
      byAgeAndHour: rounded(scoreSecondHalves(all, hours, (one) => survival(one, model, true)).brier),
      brier: rounded(scoreSecondHalves(all, hours, (one) => survival(one, model, isSeasonal), reliability).brier),
    };
    const { baseRate, byAge, byAgeAndHour } = figures;
    bench.say(
      `${hours} h`.padEnd(9) +
        [baseRate, figures.climatology, figures.persistence, byAge, byAgeAndHour]
          .map((value) => String(value).padEnd(12))
          .join(""),
    );
    const curve = reliability.curve().map(({ forecasts, meanChance, stayedShare }) => ({
      forecasts,
      meanChance: rounded(meanChance, 3),
      stayedShare: rounded(stayedShare, 3),
    }));
    return { ...figures, curve };
  });
  for (const { hours, curve } of horizons) {
    bench.say(`reliability at ${hours} h (told: came true, of how many)`);
    for (const bin of curve)
      bench.say(`  ${bin.meanChance.toFixed(3)}: ${bin.stayedShare.toFixed(3)}  ${bin.forecasts}`);
  }
  const coverage = LIFE_QUANTILES.map((quantile) => ({
    quantile,
    leftWithin: rounded(lifeCoverage(all, model, quantile), 3),
  }));
  bench.say(`remaining life: ${coverage.map((row) => `q${row.quantile} held for ${row.leftWithin}`).join(", ")}`);
  const learnedBrier = score.reliability.map((scored) => rounded(scored.brier() ?? Number.NaN));
  return { series: all.length, isSeasonal, horizons, coverage, learnedBrier };
}

function cacheFigures(played: readonly ModelRequest[]) {
  bench.say(`caches: ${played.length} requests`);
  bench.say("slots  LRU    LFU+adm  LFU    GDSF   value  value+tenants  Belady  of the gap  rest only");
  const one = () => 1;
  const run = (policy: ReplayPolicy, slots: number) =>
    replay(played, policy, { room: slots, bytesOf: one, stageMargin: null });
  const uniform = [3, ...SLOTS.map(({ slots }) => slots)].map((slots) => {
    const base = run(lru(), slots);
    const ours = run(forecast({ usesTenants: true }), slots);
    const best = run(belady(played), slots);
    const figures = {
      slots,
      lruHitRate: rounded(base.hitRate),
      lfuAdmissionHitRate: rounded(run(lfu(true), slots).hitRate),
      lfuHitRate: rounded(run(lfu(false), slots).hitRate),
      gdsfHitRate: rounded(run(gdsf(one), slots).hitRate),
      withoutTenantsHitRate: rounded(run(forecast({ usesTenants: false }), slots).hitRate),
      hitRate: rounded(ours.hitRate),
      beladyHitRate: rounded(best.hitRate),
      gapClosed: rounded((ours.hitRate - base.hitRate) / (best.hitRate - base.hitRate), 3),
      gapClosedOfRest: rounded(
        (ours.hitRateOfRest - base.hitRateOfRest) / (best.hitRateOfRest - base.hitRateOfRest),
        3,
      ),
      coldStartsAvoided: base.misses - ours.misses,
      lruHitRateOfRest: rounded(base.hitRateOfRest),
      hitRateOfRest: rounded(ours.hitRateOfRest),
    };
    const {
      slots: _,
      coldStartsAvoided: __,
      lruHitRateOfRest,
      hitRateOfRest,
      gapClosed,
      gapClosedOfRest,
      ...rates
    } = figures;
    const cells = Object.values(rates)
      .map((rate) => rate.toFixed(4))
      .join("  ");
    bench.say(
      `${String(slots).padEnd(5)} ${cells}   ${gapClosed}   ${lruHitRateOfRest} -> ${hitRateOfRest} (${gapClosedOfRest})`,
    );
    return figures;
  });
  return {
    uniform: uniform.filter(({ slots }) => slots > 3),
    slots3: uniform[0],
    staging: stagingFigures(played),
    sized: sizedFigures(played),
  };
}

/** What staging adds to good eviction: on a node that stays, whose cache is full, and on nodes that come with empty disks. */
function stagingFigures(played: readonly ModelRequest[]) {
  bench.say(
    "staging: life h  slots  margin  staged  cold starts avoided  staged per avoided  wasted  hit rate without -> with",
  );
  return [null, ...LIFE_HOURS].flatMap((lifeHours) =>
    SLOTS.flatMap(({ slots }) => {
      const run = (stageMargin: number | null) => {
        const lifeMs = lifeHours === null ? null : lifeHours * HOUR_MS;
        return replay(played, forecast({ usesTenants: true }), { room: slots, bytesOf: () => 1, stageMargin, lifeMs });
      };
      const without = run(null);
      return MARGINS.map((margin) => {
        const { misses, staged, wasted, hitRate } = run(margin);
        const coldStartsAvoided = without.misses - misses;
        const stagedPerAvoided = coldStartsAvoided > 0 ? rounded(staged / coldStartsAvoided, 1) : null;
        const rates = { hitRateWithout: rounded(without.hitRate), hitRate: rounded(hitRate) };
        const figures = { lifeHours, slots, margin, staged, coldStartsAvoided, stagedPerAvoided, wasted, ...rates };
        bench.say(
          `  ${Object.values(figures)
            .map((value) => value ?? "-")
            .join("  ")}`,
        );
        return figures;
      });
    }),
  );
}

/** The trace has no sizes: each model gets one of four by its name, the same in every run. Labelled as assumed. */
function sizedFigures(played: readonly ModelRequest[]) {
  const sizes = [2e9, 4e9, 6.5e9, 13e9];
  const bytesOf = (modelId: string) =>
    sizes[(Number(modelId.replace(/\D/g, "")) * 2_654_435_761) % sizes.length] ?? 4e9;
  const meanBytes = sizes.reduce((sum, bytes) => sum + bytes, 0) / sizes.length;
  bench.say("assumed sizes (2, 4, 6.5, 13 GB by name): room  policy  hit rate  GB loaded  cold hours");
  return SLOTS.flatMap(({ slots }) => {
    const options = { room: slots * meanBytes, bytesOf, stageMargin: null };
    const policies: readonly (readonly [string, ReplayPolicy])[] = [
      ["LRU", lru()],
      ["GDSF", gdsf(bytesOf)],
      ["value", forecast({ usesTenants: true })],
    ];
    return policies.map(([name, policy]) => {
      const { hitRate, missedBytes, coldSeconds } = replay(played, policy, options);
      const figures = {
        roomGigabytes: Math.round(options.room / 1e9),
        policy: name,
        hitRate: rounded(hitRate),
        gigabytesLoaded: Math.round(missedBytes / 1e9),
        coldHours: rounded(coldSeconds / 3_600, 1),
      };
      bench.say(`  ${Object.values(figures).join("  ")}`);
      return figures;
    });
  });
}

function demandFigures(played: readonly ModelRequest[]) {
  const { ours, naiveWape, lastHourWape } = scoreDemand(played);
  const figures = {
    wape: rounded(ours.wape, 3),
    mase: rounded(ours.mase, 3),
    seasonalNaiveWape: rounded(naiveWape, 3),
    lastHourWape: rounded(lastHourWape, 3),
    pinballRatio: Object.fromEntries(
      QUANTILES.map((chance, at) => [chance, rounded(ours.pinballRatio[at] ?? Number.NaN, 3)]),
    ),
  };
  bench.say(`demand, one hour ahead: ${JSON.stringify(figures)}`);
  return figures;
}

function rounded(value: number, digits = 4): number {
  return Number(value.toFixed(digits));
}
