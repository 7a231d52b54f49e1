/**
 * Durable leases per second, end to end: from an accepted ask through the matching index and the desk to the committed lease,
 * and back to the caller. Each lease is also ended, in the same stream of commits, so that the pool neither fills nor idles.
 * On SQLite (WAL, synchronous=FULL, in its writing thread, as the coordinator runs it) and on a PostgreSQL server that the
 * bench starts (fsync and synchronous_commit on), with 10,000 and 100,000 nodes. The disk's own fsync is measured beside it.
 *
 * The anchor is Nomad's published 2,000,000 containers on 6,100 hosts in 22 min 14 s, about 1,500 a second. That is other
 * hardware and a scheduler that also starts what it places: the bar says that leases are not what will hold this grid up, no more.
 */
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { openPostgresStore } from "../src/adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../src/adapters/store-sql/sqlite-thread.ts";
import type { IndexAsk } from "../src/coordinator/leases/index-slots.ts";
import { type LeaseAsk, LeaseDesk } from "../src/coordinator/leases/lease-desk.ts";
import { assert } from "../src/domain/assert.ts";
import { leaseId } from "../src/domain/ids.ts";
import type { Log } from "../src/ports/log.ts";
import type { Store } from "../src/ports/store.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { postgresAbsent, startPostgres } from "../test/support/postgres.ts";
import { openBench } from "./lib/bench-run.ts";
import { type LeasePool, makeLeasePool } from "./lib/lease-pool.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("leases");
const NODES = bench.isSmoke ? [1_000] : [10_000, 100_000];
const CALLERS = bench.isSmoke ? [64] : [1, 64, 1_024, 4_096];
const RUN_MS = bench.isSmoke ? 400 : 4_000;
const WARM_MS = bench.isSmoke ? 100 : 1_000;
const FSYNCS = bench.isSmoke ? 20 : 300;
const PAGE_BYTES = 4_096;
const NOMAD_PER_SECOND = 1_500;

let asked = 0;
const quiet = () => undefined;
const QUIET: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => QUIET };
const folder = mkdtempSync(join(tmpdir(), "fallow-bench-leases-"));
const fsyncMs = measureFsync();
bench.say(`fsync of ${PAGE_BYTES} bytes: ${JSON.stringify(fsyncMs)}`);
const clock = new SystemClock();
const measured: Record<string, unknown> = { fsyncMs, anchorPerSecond: NOMAD_PER_SECOND };
const best = { sqlite: 0, postgres: 0 };

for (const nodes of NODES) {
  const path = join(folder, `leases-${nodes}.db`);
  await series("sqlite", nodes, await openThreadedSqliteStore({ path, nowMs: 1 }));
}
const absent = postgresAbsent();
if (absent === null) {
  const server = await startPostgres();
  for (const nodes of NODES) {
    await series("postgres", nodes, await openPostgresStore({ url: await server.createDatabase(), nowMs: 1 }));
  }
  await server.stop();
} else bench.say(`PostgreSQL is left out: ${absent}`);
rmSync(folder, { recursive: true });

bench.keep({
  bars: [
    {
      name: "durable leases per second, on the better store",
      value: Math.max(best.sqlite, best.postgres),
      wanted: "at-least",
      limit: 5 * NOMAD_PER_SECOND,
    },
  ],
  measured,
});

async function series(kind: "sqlite" | "postgres", nodes: number, store: Store): Promise<void> {
  const random = new SeededRandom(`leases/${nodes}`);
  const pool = makeLeasePool(random, nodes);
  for (let at = 0; at < pool.offers.length; at += 1_024) await store.leases.offer(pool.offers.slice(at, at + 1_024));
  for (const callers of CALLERS) {
    const one = await run({ store, pool, callers, random });
    measured[`${kind} ${nodes} nodes ${callers} callers`] = one;
    bench.say(`${kind}, ${nodes} nodes, ${callers} at once: ${JSON.stringify(one)}`);
    best[kind] = Math.max(best[kind], one.leasesPerSecond);
  }
  const live = await store.leases.live({ after: null, limit: 10 });
  assert(live.length === 0, "every lease was ended");
  await store.close();
}

async function run(options: { store: Store; pool: LeasePool; callers: number; random: SeededRandom }) {
  const { store, pool, callers, random } = options;
  const desk = new LeaseDesk<LeaseAsk & IndexAsk>({ store: store.leases, clock, log: QUIET, slots: pool.slots });
  await desk.start();
  const waitsMs: number[] = [];
  let refused = 0;
  const startMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const caller = async (): Promise<void> => {
    for (;;) {
      const askedMs = performance.now();
      if (askedMs - startMs >= WARM_MS + RUN_MS) return;
      const number = asked++;
      const ask = { leaseId: idOf(number), holderId: `task_${number}`, ttlMs: 600_000, request: pool.draw(random) };
      const outcome = await desk.lease(ask);
      if (!outcome.ok) {
        refused += 1;
        continue;
      }
      if (askedMs - startMs >= WARM_MS) waitsMs.push(performance.now() - askedMs);
      await desk.end(outcome.value);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const { user, system } = process.cpuUsage(cpuBefore);
  desk.stop();
  const rounded = (value: number) => Number(value.toFixed(2));
  const cpuSeconds = (user + system) / 1e6;
  return {
    leasesPerSecond: Math.round((waitsMs.length / RUN_MS) * 1_000),
    p50Ms: rounded(quantile(waitsMs, 0.5)),
    p99Ms: rounded(quantile(waitsMs, 0.99)),
    /** Of this process, its writing thread included; PostgreSQL's own processes are not. A busy machine changes it little. */
    leasesPerCpuSecond: Math.round((waitsMs.length / cpuSeconds) * ((WARM_MS + RUN_MS) / RUN_MS)),
    coresUsed: rounded(cpuSeconds / ((WARM_MS + RUN_MS) / 1_000)),
    refused,
  };
}

function idOf(number: number) {
  return leaseId(`lease_${String(number).padStart(26, "0")}`);
}

function measureFsync(): { p50: number; p99: number } {
  const file = openSync(join(folder, "fsync"), "w");
  const page = new Uint8Array(PAGE_BYTES);
  const timesMs: number[] = [];
  for (let count = 0; count < FSYNCS; count++) {
    writeSync(file, page, 0, PAGE_BYTES, count * PAGE_BYTES);
    const startMs = performance.now();
    fsyncSync(file);
    timesMs.push(performance.now() - startMs);
  }
  closeSync(file);
  const rounded = (value: number) => Number(value.toFixed(3));
  return { p50: rounded(quantile(timesMs, 0.5)), p99: rounded(quantile(timesMs, 0.99)) };
}
