/**
 * What was asked for and is not safe on the disk yet, of all models and suppliers together: so much a killed agent fetches again, and no more. Far
 * suppliers do not count here, since their lines would run dry; of them what is on the line is lost.
 */
import type { Clock } from "../../../ports/clock.ts";

/** One chunk of the usual size. Near suppliers are within `FAR_RTT_MS`, and this in 20 ms is 400 Mbit/s. */
const ASKED_BYTES_MAX = 1024 * 1024;
/** From this round trip on a supplier is far. */
export const FAR_RTT_MS = 20;
/**
 * One that takes longer keeps nobody else waiting: so no line is held to less than 10 MB/s, on a busy machine that answers late either. With 1,000 five nodes that
 * started together on two cores took 1.58 times a download, with 100 they take 1.46 (`npm run bench -- weights-swarm`).
 */
const LATE_MS = 100;
/** With more in the queue nothing further is begun. */
const WAITING_MAX = 4;

interface Waiting {
  readonly bytes: number;
  admit(): void;
}

export class AskedBytes {
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  #usedBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get isCrowded(): boolean {
    return this.#waiting.length >= WAITING_MAX;
  }

  /** Resolves when so many may be asked for, in the order of asking, with what gives them back; that may be called twice. Rejects at the abort. */
  take(bytes: number, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const waiting: Waiting = {
        bytes,
        admit: () => {
          signal.removeEventListener("abort", onAbort);
          resolve(this.#lend(bytes));
        },
      };
      const onAbort = () => {
        const at = this.#waiting.indexOf(waiting);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal.reason);
        this.#admit();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiting);
      this.#admit();
    });
  }

  /** One may always go, however large. */
  #admit(): void {
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      if (this.#usedBytes > 0 && this.#usedBytes + next.bytes > ASKED_BYTES_MAX) return;
      this.#waiting.shift();
      this.#usedBytes += next.bytes;
      next.admit();
    }
  }

  #lend(bytes: number): () => void {
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      this.#usedBytes -= bytes;
      this.#admit();
    };
    const timer = this.#clock.setTimer(LATE_MS, over);
    return over;
  }
}
