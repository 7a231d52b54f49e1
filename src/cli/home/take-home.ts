/** Locks a home for a program that works in it, or says who does already. */

import { SystemClock } from "../../adapters/clock-system/system-clock.ts";
import { pause } from "../../ports/clock.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import type { HomeFolder } from "./home-folder.ts";
import { type HomeLock, takeLock } from "./home-lock.ts";
import { readRunFile, UP_LOCK } from "./run-file.ts";

const AGENT_LOCK = "agent.lock";
const RETRY_MS = 100;

export function takeGridHome(home: HomeFolder): HomeLock {
  const lock = takeLock(home.at(UP_LOCK));
  if (lock !== null) return lock;
  const run = readRunFile(home);
  const who = run === null ? "another process" : `process ${run.pid}`;
  const where = run?.url == null ? "which is starting" : `at ${run.url}`;
  throw new CliError(`a grid runs in ${home.path} already: ${who}, ${where}`, {
    exitCode: EXIT.refused,
    code: "home-in-use",
    fix: `use that grid, stop it (kill ${run?.pid ?? "PID"}), or choose another home with --home`,
  });
}

/**
 * An agent whose coordinator was killed ends a moment after it, so the lock may be held a little longer by the agent of the
 * life before: waits up to `waitMs`.
 */
export async function takeAgentHome(
  home: HomeFolder,
  options: { waitMs: number; signal: AbortSignal },
): Promise<HomeLock> {
  const clock = new SystemClock();
  const endMs = clock.monoMs() + options.waitMs;
  for (;;) {
    const lock = takeLock(home.at(AGENT_LOCK));
    if (lock !== null) return lock;
    if (options.signal.aborted || clock.monoMs() >= endMs) {
      throw new CliError(`another agent works in ${home.path}`, {
        exitCode: EXIT.refused,
        code: "home-in-use",
        fix: "stop it (`fallow up` has an agent of its own), or choose another home with --home",
      });
    }
    // The timer does not keep the process alive, and nothing else may be running yet.
    const awake = setInterval(() => undefined, RETRY_MS);
    await pause(clock, RETRY_MS, options.signal);
    clearInterval(awake);
  }
}
