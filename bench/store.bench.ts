/**
 * What group commit saves: the same settlements one after the other and 16 at a time, on SQLite with synchronous=FULL, in
 * one run, in alternating blocks, so that a busy machine slows both. Beside it: what one settlement waits for, and for how
 * long the event loop stands still, because SQLite runs in the coordinator's thread.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
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
const NS_PER_MS = 1e6;
const TENANT = tenantId(`ten_${"0".repeat(26)}`);
const bench = openBench("store");
const blocks = bench.isSmoke ? 2 : 20;
const perBlock = AT_ONCE * (bench.isSmoke ? 2 : 10);

interface Series {
  readonly waitsMs: number[];
  totalMs: number;
  settlements: number;
}

const folder = mkdtempSync(join(tmpdir(), "fallow-bench-store-"));
const store = await openSqliteStore({ path: join(folder, "fallow.db"), nowMs: 1 });
const credit = houseCredit({ tenantId: TENANT, creditId: "bench", amountMicroUsd: microUsd(10 ** 12), atMs: 1 });
await store.ledger.apply([credit]);
const alone: Series = { waitsMs: [], totalMs: 0, settlements: 0 };
const grouped: Series = { waitsMs: [], totalMs: 0, settlements: 0 };
const loopDelay = monitorEventLoopDelay({ resolution: 1 });
let next = 0;
for (let block = 0; block < blocks; block++) {
  await run(alone, 1);
  loopDelay.enable();
  await run(grouped, AT_ONCE);
  loopDelay.disable();
}
await store.close();
rmSync(folder, { recursive: true });

const rate = (series: Series) => Math.round((series.settlements / series.totalMs) * 1_000);
const waits = (series: Series) => ({
  p50Ms: Number(quantile(series.waitsMs, 0.5).toFixed(2)),
  p99Ms: Number(quantile(series.waitsMs, 0.99).toFixed(2)),
});
const ratio = Number((rate(grouped) / rate(alone)).toFixed(2));
const measured = {
  settlements: alone.settlements + grouped.settlements,
  alonePerSecond: rate(alone),
  groupedPerSecond: rate(grouped),
  alone: waits(alone),
  grouped: waits(grouped),
  loopDelayGroupedP99Ms: Number((loopDelay.percentile(99) / NS_PER_MS).toFixed(2)),
};
bench.say(JSON.stringify(measured, null, 2));
bench.keep({
  bars: [{ name: `${AT_ONCE} settlements at once against one by one`, value: ratio, wanted: "at-least", limit: 1.5 }],
  measured,
});

/** One block of settlements, `atOnce` of them in the air. Their holds are written before and not measured. */
async function run(series: Series, atOnce: number): Promise<void> {
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
