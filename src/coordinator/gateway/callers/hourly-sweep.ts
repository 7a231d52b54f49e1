/** Removes what has expired while the coordinator runs, once an hour: a life may last for months. */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { Clock, Timer } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";

/** A small part of the time for which answers and responses are kept. */
export const SWEEP_MS = 3_600_000;

export interface Sweep {
  /** May be called twice. */
  stop(): void;
}

/** `sweep` may take several transactions and asks before each whether it is to go on; a store that fails is asked again an hour later. */
export function startHourlySweep(
  deps: { readonly clock: Clock; readonly log: Log },
  what: string,
  sweep: (nowMs: number, mayGoOn: () => boolean) => Promise<void>,
): Sweep {
  const { clock, log } = deps;
  let timer: Timer | null = null;
  let isStopped = false;
  const run = async () => {
    try {
      await sweep(Math.floor(clock.wallMs()), () => !isStopped);
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      log.warn({ cause: describeFault(thrown) }, `sweep of ${what} put off`);
    }
  };
  const schedule = () => {
    if (!isStopped) timer = clock.setTimer(SWEEP_MS, () => void run().finally(schedule));
  };
  schedule();
  return {
    stop: () => {
      isStopped = true;
      timer?.cancel();
    },
  };
}
