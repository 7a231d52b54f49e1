/** Removes kept responses whose time has passed, a bounded number in each transaction. */
import type { Clock } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { ResponseStore } from "../../../ports/response-store.ts";
import { type Sweep, startHourlySweep } from "../callers/hourly-sweep.ts";
import { RESPONSE_BOUNDS } from "./response-bounds.ts";

export function startResponseSweep(deps: {
  readonly store: Pick<ResponseStore, "sweep">;
  readonly clock: Clock;
  readonly log: Log;
}): Sweep {
  const limit: number = RESPONSE_BOUNDS.sweepMax;
  return startHourlySweep(deps, "kept responses", async (nowMs, mayGoOn) => {
    let removed = limit;
    while (removed === limit && mayGoOn()) removed = await deps.store.sweep({ nowMs, limit });
  });
}
