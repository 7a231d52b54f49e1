/**
 * Ctrl-C and SIGTERM: the first asks for a clean stop, the second ends at once. A clean stop ends with 0, because stopping is
 * what was asked for; the second signal ends with 130 (or 143), as shells expect of a program that was cut off.
 */
export interface StopSignals {
  /** Aborts at the first signal. */
  readonly signal: AbortSignal;
  /** Asks for a stop from within, e.g. when the channel to the parent closed. */
  request(why: string): void;
  dispose(): void;
}

/**
 * One Ctrl-C may arrive twice: the terminal sends it to every process of the group, and npm passes its own on to us. What comes
 * so soon after the first is the same key press.
 */
const SAME_PRESS_MS = 500;
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export function onStopSignals(announce: (name: string) => void): StopSignals {
  const controller = new AbortController();
  let firstAtMs = 0;
  const handlers = Object.entries(SIGNALS).map(([name, exitCode]) => {
    const handler = () => {
      if (controller.signal.aborted) {
        if (performance.now() - firstAtMs > SAME_PRESS_MS) process.exit(exitCode);
        return;
      }
      firstAtMs = performance.now();
      announce(name);
      controller.abort(new Error(name));
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  return {
    signal: controller.signal,
    request: (why) => controller.abort(new Error(why)),
    dispose: () => {
      for (const [name, handler] of handlers) process.off(name, handler);
    },
  };
}
