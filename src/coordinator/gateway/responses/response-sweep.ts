/** Removes kept responses whose time has passed while the coordinator runs, a bounded number in each transaction. */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { Clock, Timer } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { ResponseStore } from "../../../ports/response-store.ts";
import { SWEEP_MS } from "../idempotency-sweep.ts";
import { RESPONSE_BOUNDS } from "./response-bounds.ts";

/** `stop` may be called twice. */
export function startResponseSweep(deps: {
  readonly store: Pick<ResponseStore, "sweep">;
  readonly clock: Clock;
  readonly log: Log;
}): { stop(): void } {
  const { store, clock, log } = deps;
  let timer: Timer | null = null;
  let isStopped = false;
  const sweep = async () => {
    const limit = RESPONSE_BOUNDS.sweepMax;
    try {
      let removed: number = limit;
      while (removed === limit && !isStopped) {
        removed = await store.sweep({ nowMs: Math.floor(clock.wallMs()), limit });
      }
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      log.warn({ cause: describeFault(thrown) }, "sweep of kept responses put off");
    }
  };
  const schedule = () => {
    if (!isStopped) timer = clock.setTimer(SWEEP_MS, () => void sweep().finally(schedule));
  };
  schedule();
  return {
    stop: () => {
      isStopped = true;
      timer?.cancel();
    },
  };
}
