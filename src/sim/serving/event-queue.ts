/**
 * The simulation's future: a binary heap over typed arrays, ordered by time, then by kind, then by subject. The order never depends
 * on when an event was scheduled, so equal times have one history.
 */
import { assert } from "../../domain/assert.ts";

const FIRST_CAPACITY = 1024;
/** Ten million events under way: far beyond any run, near enough to stop a run that multiplies. */
const CAPACITY_MAX = 10_000_000;

export class EventQueue {
  #times = new Float64Array(FIRST_CAPACITY);
  #kinds = new Uint8Array(FIRST_CAPACITY);
  #subjects = new Int32Array(FIRST_CAPACITY);
  #epochs = new Int32Array(FIRST_CAPACITY);
  #length = 0;
  /** The event that `pop` took out. */
  timeS = 0;
  kind = 0;
  subject = 0;
  epoch = 0;

  get length(): number {
    return this.#length;
  }

  /** Infinity when nothing is left. */
  get nextTimeS(): number {
    return this.#length === 0 ? Number.POSITIVE_INFINITY : (this.#times[0] ?? 0);
  }

  push(timeS: number, kind: number, subject: number, epoch: number): void {
    if (this.#length === this.#times.length) this.#grow();
    let at = this.#length;
    this.#length += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(timeS, kind, subject, parent)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, timeS, kind, subject, epoch);
  }

  pop(): boolean {
    if (this.#length === 0) return false;
    this.timeS = this.#times[0] ?? 0;
    this.kind = this.#kinds[0] ?? 0;
    this.subject = this.#subjects[0] ?? 0;
    this.epoch = this.#epochs[0] ?? 0;
    this.#length -= 1;
    if (this.#length > 0) this.#sink(this.#length);
    return true;
  }

  /** Puts the event of slot `last` where the root was, and down to where it belongs. */
  #sink(last: number): void {
    const timeS = this.#times[last] ?? 0;
    const kind = this.#kinds[last] ?? 0;
    const subject = this.#subjects[last] ?? 0;
    const epoch = this.#epochs[last] ?? 0;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#length) break;
      const right = child + 1;
      if (
        right < this.#length &&
        this.#isBefore(this.#times[right] ?? 0, this.#kinds[right] ?? 0, this.#subjects[right] ?? 0, child)
      ) {
        child = right;
      }
      if (this.#isBefore(timeS, kind, subject, child)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, timeS, kind, subject, epoch);
  }

  #isBefore(timeS: number, kind: number, subject: number, other: number): boolean {
    const otherTimeS = this.#times[other] ?? 0;
    if (timeS !== otherTimeS) return timeS < otherTimeS;
    const otherKind = this.#kinds[other] ?? 0;
    if (kind !== otherKind) return kind < otherKind;
    return subject < (this.#subjects[other] ?? 0);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from] ?? 0, this.#kinds[from] ?? 0, this.#subjects[from] ?? 0, this.#epochs[from] ?? 0);
  }

  #put(at: number, timeS: number, kind: number, subject: number, epoch: number): void {
    this.#times[at] = timeS;
    this.#kinds[at] = kind;
    this.#subjects[at] = subject;
    this.#epochs[at] = epoch;
  }

  #grow(): void {
    const capacity = 2 * this.#times.length;
    assert(capacity <= CAPACITY_MAX, `events under way stay below ${CAPACITY_MAX}`);
    const times = new Float64Array(capacity);
    times.set(this.#times);
    const kinds = new Uint8Array(capacity);
    kinds.set(this.#kinds);
    const subjects = new Int32Array(capacity);
    subjects.set(this.#subjects);
    const epochs = new Int32Array(capacity);
    epochs.set(this.#epochs);
    this.#times = times;
    this.#kinds = kinds;
    this.#subjects = subjects;
    this.#epochs = epochs;
  }
}
