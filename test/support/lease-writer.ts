/**
 * A process that takes and ends durable leases as fast as it can, through the desk, and says on standard output what was
 * acknowledged: `granted LEASE EPOCH`, `ended LEASE`. It is there to be killed. Arguments: `sqlite PATH FIRST` or `postgres URL FIRST`.
 */
import { writeSync } from "node:fs";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { openPostgresStore } from "../../src/adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../../src/adapters/store-sql/sqlite-thread.ts";
import { LeaseDesk } from "../../src/coordinator/leases/lease-desk.ts";
import type { Log } from "../../src/ports/log.ts";
import { FirstFit, type GangAsk } from "./first-fit.ts";
import { madeId } from "./store-samples.ts";

export const KILL_NODES = 8;
export const KILL_SLOTS = 6;
const CALLERS = 32;

/** Written at once and by the process itself: what is said was acknowledged before. A full pipe is waited for. */
function say(line: string): void {
  for (;;) {
    try {
      writeSync(1, `${line}\n`);
      return;
    } catch (cause) {
      if (!(cause instanceof Error && "code" in cause && cause.code === "EAGAIN")) throw cause;
    }
  }
}

if (process.argv[2] !== undefined) await write(process.argv.slice(2));

async function write([kind, place, firstText]: readonly string[]): Promise<void> {
  if (place === undefined || firstText === undefined) throw new Error("lease-writer KIND PLACE FIRST");
  const store =
    kind === "sqlite"
      ? await openThreadedSqliteStore({ path: place, nowMs: 1 })
      : await openPostgresStore({ url: place, nowMs: 1 });
  const quiet = () => undefined;
  const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => log };
  const slots = new FirstFit(KILL_NODES, KILL_SLOTS);
  const desk = new LeaseDesk<GangAsk>({ store: store.leases, clock: new SystemClock(), log, slots });
  await desk.start();
  let next = Number(firstText);
  const caller = async (): Promise<void> => {
    for (;;) {
      const number = next++;
      const ask = {
        leaseId: madeId("lease", number),
        holderId: `task_${number}`,
        ttlMs: 3_600_000,
        nodes: 1 + (number % 3),
      };
      const granted = await desk.lease(ask);
      if (!granted.ok) {
        // Full of what earlier lives left: the oldest of those makes room.
        const [oldest] = await store.leases.live({ after: null, limit: 1 });
        if (oldest !== undefined) say(`ending ${oldest.leaseId}`);
        if (oldest !== undefined && (await desk.end(oldest))) say(`ended ${oldest.leaseId}`);
        continue;
      }
      say(`granted ${granted.value.leaseId} ${granted.value.epoch}`);
      if (number % 4 === 0) continue;
      say(`ending ${granted.value.leaseId}`);
      await desk.end(granted.value);
      say(`ended ${granted.value.leaseId}`);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
}
