/**
 * What group commit saves: the same settlements one after the other and 16 at a time, on SQLite with synchronous=FULL, in
 * one run, in alternating blocks, so that a busy machine slows both; with the writing thread that the coordinator uses, and
 * without. Beside it: what one settlement waits for, and for how long the event loop stands still.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../src/adapters/store-sql/sqlite-thread.ts";
import { assert } from "../src/domain/assert.ts";
import { keyId, modelId, nodeId, receiptId, requestId, sha256Hex, tenantId } from "../src/domain/ids.ts";
import { microUsd } from "../src/domain/money.ts";
import { holdTransfer } from "../src/market/hold.ts";
import { houseCredit } from "../src/market/house.ts";
import { settlementOf } from "../src/market/settle.ts";
import type { Settlement, Store } from "../src/ports/store.ts";
import { openBench } from "./lib/bench-run.ts";
import { quantile } from "./lib/quantiles.ts";

const AT_ONCE = 16;
const TENANT = tenantId(`ten_${"0".repeat(26)}`);
const bench = openBench("store");
const blocks = bench.isSmoke ? 2 : 20;
const perBlock = AT_ONCE * (bench.isSmoke ? 2 : 10);

interface Series {
  readonly waitsMs: number[];
  totalMs: number;
  settlements: number;
}

interface Measured {
  readonly store: Store;
  readonly alone: Series;
  readonly grouped: Series;
  /** Time between turns of the event loop while groups were settled, beyond the millisecond that was asked for. */
  readonly stallsMs: number[];
}

const folder = mkdtempSync(join(tmpdir(), "fallow-bench-store-"));
const threaded = await opened(openThreadedSqliteStore({ path: join(folder, "threaded.db"), nowMs: 1 }));
const local = await opened(openSqliteStore({ path: join(folder, "local.db"), nowMs: 1 }));
let next = 0;
for (let block = 0; block < blocks; block++) {
  for (const one of [threaded, local]) {
    await run({ store: one.store, series: one.alone, atOnce: 1 });
    const watch = watchLoop(one.stallsMs);
    await run({ store: one.store, series: one.grouped, atOnce: AT_ONCE });
    watch.stop();
  }
}
await Promise.all([threaded.store.close(), local.store.close()]);
rmSync(folder, { recursive: true });

const measured = { threaded: figures(threaded), local: figures(local) };
bench.say(JSON.stringify(measured, null, 2));
bench.keep({
  bars: [
    {
      name: `${AT_ONCE} settlements at once against one by one`,
      value: measured.threaded.ratio,
      wanted: "at-least",
      limit: 1.5,
    },
    {
      name: "p99 stall of the event loop, without the writing thread against with it",
      value: Number((measured.local.stallP99Ms / measured.threaded.stallP99Ms).toFixed(1)),
      wanted: "at-least",
      limit: 3,
    },
  ],
  measured,
});

async function opened(opening: Promise<Store>): Promise<Measured> {
  const store = await opening;
  const credit = houseCredit({ tenantId: TENANT, creditId: "bench", amountMicroUsd: microUsd(10 ** 12), atMs: 1 });
  await store.ledger.apply([credit]);
  const series = (): Series => ({ waitsMs: [], totalMs: 0, settlements: 0 });
  return { store, alone: series(), grouped: series(), stallsMs: [] };
}

function figures({ alone, grouped, stallsMs }: Measured) {
  const rounded = (value: number) => Number(value.toFixed(2));
  const rate = (series: Series) => (series.settlements / series.totalMs) * 1_000;
  const waits = ({ waitsMs }: Series) => ({
    p50Ms: rounded(quantile(waitsMs, 0.5)),
    p99Ms: rounded(quantile(waitsMs, 0.99)),
  });
  return {
    settlements: alone.settlements + grouped.settlements,
    alonePerSecond: Math.round(rate(alone)),
    groupedPerSecond: Math.round(rate(grouped)),
    ratio: rounded(rate(grouped) / rate(alone)),
    alone: waits(alone),
    grouped: waits(grouped),
    stallP99Ms: rounded(quantile(stallsMs, 0.99)),
  };
}

function watchLoop(stallsMs: number[]): { stop(): void } {
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    stallsMs.push(Math.max(0, nowMs - lastMs - 1));
    lastMs = nowMs;
  }, 1);
  return { stop: () => clearInterval(timer) };
}

/** One block of settlements, `atOnce` of them in the air. Their holds are written before and not measured. */
async function run(block: { store: Store; series: Series; atOnce: number }): Promise<void> {
  const { store, series, atOnce } = block;
  const numbers = Array.from({ length: perBlock }, () => next++);
  const settlements = await Promise.all(numbers.map((number) => held(store, number)));
  const startMs = performance.now();
  for (let first = 0; first < settlements.length; first += atOnce) {
    await Promise.all(
      settlements.slice(first, first + atOnce).map(async (settlement) => {
        const askedMs = performance.now();
        const outcome = await store.receipts.settle(settlement);
        assert(outcome.ok, "a settlement of an open hold is taken");
        series.waitsMs.push(performance.now() - askedMs);
      }),
    );
  }
  series.totalMs += performance.now() - startMs;
  series.settlements += perBlock;
}

/** A request of two nodes, as after a failover: the usual largest batch of postings. */
async function held(into: Store, number: number): Promise<Settlement> {
  const digits = String(number).padStart(26, "0");
  const request = {
    requestId: requestId(`req_${digits}`),
    tenantId: TENANT,
    heldMicroUsd: microUsd(2_000),
    price: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 2_000_000 },
    promptTokens: 500,
    attempts: [0, 1].map((node) => ({
      nodeId: nodeId(`node_${String(node).padStart(32, "0")}`),
      acknowledgedTokens: 100,
      hasFinished: node === 1,
    })),
    atMs: 1_700_000_000_000,
  };
  await into.ledger.apply([holdTransfer({ ...request, amountMicroUsd: request.heldMicroUsd })]);
  const { costMicroUsd, transfers } = settlementOf(request);
  const receipt = {
    receiptId: receiptId(`rcpt_${digits}`),
    requestId: request.requestId,
    tenantId: TENANT,
    keyId: keyId(`key_${"0".repeat(26)}`),
    modelId: modelId("tiny"),
    tier: "default" as const,
    promptTokens: 500,
    outputTokens: 200,
    costMicroUsd,
    createdAtMs: 1_700_000_000_000,
    // As long as a receipt of two signed attempts.
    bodyJson: JSON.stringify({ number, filler: "x".repeat(3_000) }),
    leafSha256: sha256Hex(number.toString(16).padStart(64, "0")),
  };
  return { transfers, receipt };
}
