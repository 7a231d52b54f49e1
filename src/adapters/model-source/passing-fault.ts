/** Something that may pass (a cut connection, a busy server): whoever meets it waits and tries again, and gives up after a while. */
import { setTimeout as sleep } from "node:timers/promises";
import { describeFault, FallowError } from "../../domain/fault.ts";

export class PassingFault extends Error {
  override readonly name = "PassingFault";
  /** What the server asked for; null when it said nothing. */
  readonly retryAfterMs: number | null;
  constructor(message: string, more: { cause?: unknown; retryAfterMs?: number | null } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.retryAfterMs = more.retryAfterMs ?? null;
  }
}

export interface Patience {
  /** Pauses before each further try; as many tries as there are. */
  readonly delaysMs: readonly number[];
  /** A server that asks for more is not worth waiting for: the operator is told. */
  readonly retryAfterMsMax: number;
}

/** Some three minutes in all: a router's restart. A job that gave up goes on where it was when it is asked to. */
export const PATIENCE: Patience = {
  delaysMs: [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000],
  retryAfterMsMax: 600_000,
};

/** While somebody looks on and nothing is there yet: a name with a slip, or a machine without a network, is told within half a minute. */
export const FIRST_PATIENCE: Patience = { delaysMs: [1_000, 2_000, 4_000, 8_000], retryAfterMsMax: 600_000 };

/** A look at a source before its bytes. */
export interface Look {
  readonly signal: AbortSignal;
  readonly patience: Patience;
  readonly onWait: (why: string) => void;
}

/** One run of tries; `passed` begins it anew when something came of it. */
export class Tries {
  readonly #patience: Patience;
  readonly #onWait: (why: string) => void;
  #failed = 0;

  constructor(patience: Patience, onWait: (why: string) => void = () => undefined) {
    this.#patience = patience;
    this.#onWait = onWait;
  }

  passed(): void {
    this.#failed = 0;
  }

  /** Resolves when it is time to try again; throws what is final, and `model-source-unreachable` when patience is over. */
  async wait(thrown: unknown, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!(thrown instanceof PassingFault)) throw thrown;
    const delayMs = this.#patience.delaysMs[this.#failed];
    const asked = thrown.retryAfterMs ?? 0;
    if (delayMs === undefined || asked > this.#patience.retryAfterMsMax) {
      const tries = `${this.#failed + 1} ${this.#failed === 0 ? "try" : "tries"}`;
      throw new FallowError("model-source-unreachable", `${describeFault(thrown)}; given up after ${tries}`, {
        data: { tries: this.#failed + 1, retryAfterMs: thrown.retryAfterMs },
        cause: thrown,
      });
    }
    this.#failed++;
    const pauseMs = Math.max(delayMs, asked);
    this.#onWait(`${thrown.message}; trying again in ${Math.ceil(pauseMs / 1_000)} s`);
    await sleep(pauseMs, undefined, { signal });
  }
}
