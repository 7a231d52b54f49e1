/**
 * Writes that are asked for at once are carried out in groups by the SQL store and one after the other by the memory store:
 * the answers and the books must be the same, whatever the mix.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import { microUsd } from "../src/domain/money.ts";
import { voidTransfer } from "../src/market/hold.ts";
import { closeIdOf } from "../src/market/ledger.ts";
import { releaseTransfer } from "../src/market/release.ts";
import type { Store } from "../src/ports/store.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { anApiKey, aTenant, credit, settlementFor } from "./support/store-samples.ts";

type Step =
  | { readonly kind: "hold" | "settle" | "void" | "release" | "credit" | "malformed"; readonly request: number }
  | { readonly kind: "name" | "count"; readonly request: number };

const anyStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("hold", "hold", "settle", "settle", "void", "release", "credit", "malformed", "name", "count"),
  request: fc.nat(5),
});

async function carriedOut(store: Store, { kind, request }: Step): Promise<unknown> {
  const { hold, transfers, receipt } = settlementFor(request, { costMicroUsd: 40 + request });
  const [held] = hold;
  const share = transfers.find((transfer) => transfer.reason === "node-share");
  if (held === undefined || share === undefined) throw new Error("a settlement has a hold and a share");
  switch (kind) {
    case "hold":
      return store.ledger.apply(hold);
    case "settle":
      return store.receipts.settle({ transfers, receipt });
    case "void":
      return store.ledger.apply([voidTransfer(held, 60)]);
    case "release":
      return store.ledger.apply([{ ...releaseTransfer(share, 70), transferId: closeIdOf(share.transferId) }]);
    case "credit":
      return store.ledger.apply([credit(aTenant(1).tenantId, 100 + (request % 2))]);
    case "malformed":
      return store.ledger.apply([...hold, { ...held, amountMicroUsd: microUsd(0) }]);
    case "name":
      return store.meta.set("name", String(request));
    case "count":
      return store.meta.increment("count");
  }
}

async function outcomes(store: Store, rounds: readonly (readonly Step[])[]): Promise<unknown> {
  await store.tenants.create(aTenant(1));
  await store.keys.create(anApiKey(1));
  const answers: unknown[] = [];
  for (const round of rounds) {
    const settled = await Promise.allSettled(round.map((step) => carriedOut(store, step)));
    answers.push(settled.map((one) => (one.status === "fulfilled" ? one.value : String(one.reason))));
  }
  return {
    answers,
    accounts: await store.ledger.accounts(),
    transfers: await store.ledger.transfers({ limit: 1_000 }),
    openHolds: await store.ledger.openHolds(),
    heldShares: await store.ledger.heldShares({ beforeMs: 1_000, limit: 1_000 }),
    receipts: await store.receipts.list({ limit: 1_000 }),
    spent: await store.keys.spent(anApiKey(1).keyId),
    name: await store.meta.get("name"),
  };
}

test("groups give the answers and the books that single writes give", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-group-"));
  let files = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(anyStep, { minLength: 1, maxLength: 12 }), { maxLength: 5 }), async (rounds) => {
      const sqlite = await openSqliteStore({ path: join(folder, `${files++}.db`), nowMs: 1 });
      const memory = new MemoryStore({ writeLatencyMs: 0 }, { clock: new SystemClock() });
      try {
        expect(await outcomes(sqlite, rounds)).toEqual(await outcomes(memory, rounds));
      } finally {
        await sqlite.close();
      }
    }),
    { numRuns: 60 },
  );
  await rm(folder, { recursive: true });
});
