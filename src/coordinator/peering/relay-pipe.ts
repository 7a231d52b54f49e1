/**
 * Bytes between two ends, both ways. An end is read while the other takes what comes and the rates allow it; what was read is passed on at
 * once, so a pipe holds no more than its ends' own buffers. Whichever end closes, the other is closed too.
 */
import type { Timer } from "../../ports/clock.ts";
import type { RelayEnd } from "../../ports/relay.ts";

export interface PipeMeter {
  /** Counts bytes that the end at `from` sent, and answers how long it must wait with the next; null ends the pipe. */
  take(bytes: number, from: 0 | 1): number | null;
  setTimer(delayMs: number, fire: () => void): Timer;
  onEnd(cause: string): void;
}

interface Side {
  readonly end: RelayEnd;
  /** Why it is not read. */
  isOtherFull: boolean;
  rate: Timer | null;
}

export class RelayPipe {
  readonly #sides: readonly [Side, Side];
  readonly #meter: PipeMeter;
  #isOver = false;

  constructor(ends: readonly [RelayEnd, RelayEnd], meter: PipeMeter) {
    this.#meter = meter;
    this.#sides = [
      { end: ends[0], isOtherFull: false, rate: null },
      { end: ends[1], isOtherFull: false, rate: null },
    ];
    this.#listen(0);
    this.#listen(1);
  }

  close(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const side of this.#sides) {
      side.rate?.cancel();
      side.end.close(reason);
    }
    this.#meter.onEnd(reason);
  }

  #listen(from: 0 | 1): void {
    const side = this.#sides[from];
    const other = this.#sides[from === 0 ? 1 : 0];
    side.end.listen({
      onBytes: (bytes) => {
        if (this.#isOver) return;
        const waitMs = this.#meter.take(bytes.length, from);
        if (waitMs === null) return this.close("relay-budget-spent");
        if (!other.end.write(bytes)) side.isOtherFull = true;
        if (waitMs > 0) {
          side.rate?.cancel();
          side.rate = this.#meter.setTimer(waitMs, () => {
            side.rate = null;
            this.#readMaybe(side);
          });
        }
        if (side.isOtherFull || side.rate !== null) side.end.pause();
      },
      onDrain: () => {
        other.isOtherFull = false;
        this.#readMaybe(other);
      },
      onClose: (cause) => this.close(cause),
    });
  }

  #readMaybe(side: Side): void {
    if (!this.#isOver && !side.isOtherFull && side.rate === null) side.end.resume();
  }
}
