/**
 * Virtual time for a simulation that has no promises in it: a binary heap of callbacks, by time and then by order of scheduling.
 * The deterministic world's timeline drains promises after each event; here a day of a grid is a million events, so nothing is
 * awaited. A handle that was cancelled stays in the heap until its time and is passed over.
 */
import { assert } from "../../../domain/assert.ts";

export interface QueuedEvent {
  readonly atMs: number;
  readonly order: number;
  fire: (() => void) | null;
}

/** More waiting events than this means that something schedules without an end. */
export const EVENTS_MAX = 2_000_000;

export class EventQueue {
  readonly #heap: QueuedEvent[] = [];
  #nowMs: number;
  #scheduled = 0;

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** A time in the past fires now, after what is already due. */
  at(atMs: number, fire: () => void): QueuedEvent {
    assert(Number.isFinite(atMs), `${atMs} is a time`);
    assert(this.#heap.length < EVENTS_MAX, `at most ${EVENTS_MAX} events wait`);
    const event: QueuedEvent = { atMs: Math.max(atMs, this.#nowMs), order: this.#scheduled++, fire };
    this.#push(event);
    return event;
  }

  after(delayMs: number, fire: () => void): QueuedEvent {
    return this.at(this.#nowMs + delayMs, fire);
  }

  /** Fires everything that is due up to and at `untilMs`. */
  run(untilMs: number): void {
    for (let next = this.#heap[0]; next !== undefined && next.atMs <= untilMs; next = this.#heap[0]) {
      this.#pop();
      if (next.fire === null) continue;
      this.#nowMs = next.atMs;
      next.fire();
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  #push(event: QueuedEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || isBefore(parent, event)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      const left = heap[at * 2 + 1];
      if (left === undefined) break;
      const right = heap[at * 2 + 2];
      const child = right !== undefined && isBefore(right, left) ? right : left;
      if (isBefore(last, child)) break;
      heap[at] = child;
      at = child === right ? at * 2 + 2 : at * 2 + 1;
    }
    heap[at] = last;
  }
}

export function cancel(event: QueuedEvent | null): void {
  if (event !== null) event.fire = null;
}

function isBefore(a: QueuedEvent, b: QueuedEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
