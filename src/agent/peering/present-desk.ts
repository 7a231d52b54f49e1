/** Credentials over an open link: those presented that wait for the other's answer, and how many of the other's are looked at. */
import { FallowError } from "../../domain/fault.ts";
import type { Clock } from "../../ports/clock.ts";
import type { WireRefusal } from "../../wire/peer-frame-bytes.ts";
import { GREETING_MS_MAX, PRESENTS_BURST_MAX, PRESENTS_PER_SECOND_MAX } from "./link-bounds.ts";

const OPEN_MAX = 64;

export class PresentDesk {
  readonly #clock: Clock;
  readonly #open = new Map<number, { resolve(): void; reject(fault: FallowError): void }>();
  #nextId = 1;
  #mayCome = PRESENTS_BURST_MAX;
  #cameAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#cameAtMs = clock.monoMs();
  }

  /** False when the other presents more than it can need. */
  mayCome(): boolean {
    const nowMs = this.#clock.monoMs();
    const gained = ((nowMs - this.#cameAtMs) / 1_000) * PRESENTS_PER_SECOND_MAX;
    this.#cameAtMs = nowMs;
    this.#mayCome = Math.min(PRESENTS_BURST_MAX, this.#mayCome + gained) - 1;
    return this.#mayCome >= 0;
  }

  /** Resolves when the other takes it. Rejects: `peer-refused`, `peer-unreachable` without an answer in time, `peer-overloaded`, `cancelled`. */
  async present(show: (id: number) => void, signal: AbortSignal): Promise<void> {
    if (this.#open.size >= OPEN_MAX) {
      throw new FallowError("peer-overloaded", `${OPEN_MAX} credentials wait for an answer`);
    }
    const id = this.#nextId++;
    const fail = (fault: FallowError) => this.#open.get(id)?.reject(fault);
    const late = new FallowError("peer-unreachable", `no answer to a credential within ${GREETING_MS_MAX} ms`);
    const deadline = this.#clock.setTimer(GREETING_MS_MAX, () => fail(late));
    const onAbort = () => fail(new FallowError("cancelled", "presenting was cancelled", { cause: signal.reason }));
    try {
      await new Promise<void>((resolve, reject) => {
        this.#open.set(id, { resolve, reject });
        signal.addEventListener("abort", onAbort, { once: true });
        if (signal.aborted) onAbort();
        else show(id);
      });
    } finally {
      deadline.cancel();
      signal.removeEventListener("abort", onAbort);
      this.#open.delete(id);
    }
  }

  onPresented(id: number): null {
    this.#open.get(id)?.resolve();
    return null;
  }

  onRefused(id: number, { code, message, retryAfterMs }: WireRefusal): null {
    this.#open.get(id)?.reject(new FallowError("peer-refused", message, { data: { code, retryAfterMs } }));
    return null;
  }

  fail(fault: FallowError): void {
    for (const { reject } of this.#open.values()) reject(fault);
  }
}
