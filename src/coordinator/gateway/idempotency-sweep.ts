/** Removes kept answers that have expired while the coordinator runs: each may have megabytes, and a life may last for months. */
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { IdempotencyStore } from "../../ports/store.ts";

/** A small part of the day that answers are kept. */
export const SWEEP_MS = 3_600_000;

/** `stop` may be called twice. */
export function startIdempotencySweep(deps: {
  readonly store: Pick<IdempotencyStore, "sweep">;
  readonly clock: Clock;
  readonly log: Log;
}): { stop(): void } {
  const { store, clock, log } = deps;
  let timer: Timer | null = null;
  let isStopped = false;
  const sweep = async () => {
    try {
      await store.sweep({ nowMs: Math.floor(clock.wallMs()), isStart: false });
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      log.warn({ cause: describeFault(thrown) }, "sweep of kept answers put off");
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
