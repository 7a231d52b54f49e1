/** Removes kept answers that have expired: each may have megabytes. */
import type { Clock } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { IdempotencyStore } from "../../../ports/store.ts";
import { type Sweep, startHourlySweep } from "./hourly-sweep.ts";

export function startIdempotencySweep(deps: {
  readonly store: Pick<IdempotencyStore, "sweep">;
  readonly clock: Clock;
  readonly log: Log;
}): Sweep {
  return startHourlySweep(deps, "kept answers", async (nowMs) => {
    await deps.store.sweep({ nowMs, isStart: false });
  });
}
