/** The SQL store's leases against the memory store's, which carry out the same law: same answers, same books. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import type { Store } from "../src/ports/store.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { anyLeaseStep, carriedOutLeaseStep, type LeaseStep, offers } from "./support/store-contract-leases.ts";

async function outcomes(store: Store, rounds: readonly (readonly LeaseStep[])[]): Promise<unknown> {
  await store.leases.offer(offers(3, 4));
  const answers: unknown[] = [];
  for (const round of rounds) answers.push(await Promise.all(round.map((step) => carriedOutLeaseStep(store, step))));
  return {
    answers,
    live: await store.leases.live({ after: null, limit: 100 }),
    nodes: await store.leases.nodes(),
  };
}

test("any steps give the same answers and the same books", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-leases-"));
  let files = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(anyLeaseStep, { maxLength: 8 }), { maxLength: 5 }), async (rounds) => {
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
