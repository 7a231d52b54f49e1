/**
 * The server that the agent starts for its owner: there while some engine uses it, started again when it ends by itself, gone when the last engine
 * is closed, so that a machine whose owner is back has its memory back.
 *
 * | state   | used           | ended by itself      | last use closed | start fails        |
 * | ------- | -------------- | -------------------- | --------------- | ------------------ |
 * | stopped | running        | -                    | -               | -                  |
 * | running | running        | waiting, with a pause | stopped         | waiting            |
 * | waiting | waiting        | -                    | stopped         | waiting, for longer |
 */
import { describeFault } from "../../domain/fault.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { LaunchedServer, ServerLauncher } from "../../ports/server-launcher.ts";
import { backoffMs } from "../../scheduler/retries/backoff.ts";

export interface KeptServerPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly launcher: ServerLauncher;
}

/** A server loads weights for minutes and fails at the end of it; a minute between two tries spares the disk. */
const RESTART_BACKOFF = { baseMs: 500, capMs: 60_000 };
/** After so long without a crash the next one is a new story. */
const STEADY_MS = 120_000;
/** Longer than a replica waits before it is loaded again. */
const KEPT_MS = 60_000;

export class KeptServer {
  readonly #ports: KeptServerPorts;
  #run: { readonly abort: AbortController; readonly ended: Promise<void> } | null = null;
  #uses = 0;
  #server: LaunchedServer | null = null;
  #lastEnd: string | null = null;
  #starts = 0;

  constructor(ports: KeptServerPorts) {
    this.#ports = ports;
  }

  /** Why it ended last by itself, with its last words; null while it never did. */
  get lastEnd(): string | null {
    return this.#lastEnd;
  }

  get processId(): number | null {
    return this.#server?.processId ?? null;
  }

  /** How often it was started. */
  get starts(): number {
    return this.#starts;
  }

  /** It is started, if it does not run; whoever called says `leave` later, once. */
  use(): void {
    this.#uses += 1;
    this.#start();
  }

  /** With `keeps` it goes on for who comes next, for `KEPT_MS`. */
  async leave({ keeps }: { readonly keeps: boolean }): Promise<void> {
    this.#uses = Math.max(0, this.#uses - 1);
    if (this.#uses > 0) return;
    if (!keeps) return await this.stop();
    this.#ports.clock.setTimer(KEPT_MS, () => {
      if (this.#uses === 0) void this.stop();
    });
  }

  /** Resolves when it is gone. May be called twice. */
  async stop(): Promise<void> {
    const run = this.#run;
    this.#run = null;
    run?.abort.abort();
    await run?.ended;
  }

  #start(): void {
    if (this.#run !== null) return;
    const abort = new AbortController();
    this.#run = { abort, ended: this.#keep(abort.signal) };
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, random, log, launcher } = this.#ports;
    let failures = 0;
    while (!signal.aborted) {
      const startedAtMs = clock.monoMs();
      try {
        this.#starts += 1;
        const server = await launcher.start();
        this.#server = server;
        const stop = () => void server.stop();
        signal.addEventListener("abort", stop, { once: true });
        if (signal.aborted) stop();
        this.#lastEnd = await server.exited;
        signal.removeEventListener("abort", stop);
      } catch (thrown) {
        this.#lastEnd = describeFault(thrown);
      } finally {
        this.#server = null;
      }
      if (signal.aborted) return;
      failures = clock.monoMs() - startedAtMs >= STEADY_MS ? 1 : failures + 1;
      const waitMs = backoffMs({ failures: failures - 1, draw: random.fraction() }, RESTART_BACKOFF);
      log.warn({ cause: this.#lastEnd, failures, waitMs }, "server ended and is started again");
      await pause(clock, waitMs, signal);
    }
  }
}
