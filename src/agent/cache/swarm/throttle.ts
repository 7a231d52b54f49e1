/**
 * Holds one direction of transfers to what `scheduler/distribution/transfer-limits.ts` allows: who wants to move bytes takes them here
 * first. The limits are asked for each time, so that quiet hours begin and end in the middle of a transfer.
 */
import { type Clock, pause } from "../../../ports/clock.ts";
import {
  allowTransfer,
  freshTransferState,
  isQuietHour,
  PIECE_BYTES,
  spendTransfer,
  type TransferLimits,
  type TransferState,
} from "../../../scheduler/distribution/transfer-limits.ts";

/** One that is held back looks again after at most so long: the owner's clock may have jumped. */
const LOOK_MS_MAX = 1_000;

export class Throttle {
  readonly #clock: Clock;
  readonly #limits: () => TransferLimits;
  #state: TransferState;
  #isYielding = false;

  constructor(clock: Clock, limits: () => TransferLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#state = freshTransferState(clock.wallMs());
  }

  /** Nothing moves, for longer than a bucket takes to fill. */
  get isShut(): boolean {
    const limits = this.#limits();
    if (this.#isYielding || limits.bytesPerSecondMax === 0) return true;
    return limits.quietBytesPerSecondMax === 0 && isQuietHour(limits, Math.max(0, this.#clock.wallMs()));
  }

  /** Null when nothing is held back by a rate. */
  get bytesPerSecondMax(): number | null {
    return this.#limits().bytesPerSecondMax;
  }

  yields(isYielding: boolean): void {
    this.#isYielding = isYielding;
  }

  /** Resolves when so many bytes may move. Rejects at the abort. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const now = { nowMs: this.#clock.wallMs(), isYielding: this.#isYielding };
      const { allowedBytes, waitMs, state } = allowTransfer(this.#limits(), this.#state, now);
      this.#state = state;
      if (allowedBytes >= Math.min(bytes, PIECE_BYTES)) {
        // A larger piece overdraws, and what comes next waits for it.
        if (Number.isFinite(allowedBytes)) this.#state = spendTransfer(state, bytes);
        return;
      }
      await pause(this.#clock, Math.min(LOOK_MS_MAX, waitMs ?? LOOK_MS_MAX), signal);
    }
  }
}
