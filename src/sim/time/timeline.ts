/**
 * Virtual time. One event fires, every promise reaction that it caused runs to its end, then the next event fires: by time,
 * and among equal times in the order in which they were scheduled. JavaScript gives the rest of determinism for free, as
 * long as nothing else in the process brings macrotasks in: no timer, socket, file or worker is used below this room.
 *
 * A `quiet` event touches no promise and no code under test (a packet that is acknowledged inside the network): it is
 * fired without the drain and without the checkers.
 */
import { setImmediate as drained } from "node:timers/promises";
import { assert } from "../../domain/assert.ts";

export interface Scheduled {
  /** May be called twice, and after it fired. */
  cancel(): void;
}

interface Entry {
  readonly atMs: number;
  readonly order: number;
  readonly isQuiet: boolean;
  fire: (() => void) | null;
}

/** Events that wait at the same time; more means that something schedules without an end. */
export const TIMELINE_ENTRIES_MAX = 100_000;

export class Timeline {
  readonly #heap: Entry[] = [];
  #nowMs = 0;
  #scheduled = 0;
  #fired = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many events fired so far. */
  get fired(): number {
    return this.#fired;
  }

  get waiting(): number {
    return this.#heap.length;
  }

  at(atMs: number, fire: () => void, options: { isQuiet?: boolean } = {}): Scheduled {
    assert(Number.isFinite(atMs), `${atMs} is a time`);
    assert(this.#heap.length < TIMELINE_ENTRIES_MAX, `at most ${TIMELINE_ENTRIES_MAX} events wait`);
    const entry: Entry = {
      atMs: Math.max(atMs, this.#nowMs),
      order: this.#scheduled++,
      isQuiet: options.isQuiet ?? false,
      fire,
    };
    push(this.#heap, entry);
    return {
      cancel: () => {
        entry.fire = null;
      },
    };
  }

  after(delayMs: number, fire: () => void, options: { isQuiet?: boolean } = {}): Scheduled {
    return this.at(this.#nowMs + Math.max(0, delayMs), fire, options);
  }

  /** Fires everything up to `untilMs`. `afterEach` runs after each event that was not quiet; it stops the run by false. */
  async run(untilMs: number, afterEach: () => Promise<boolean> | boolean): Promise<void> {
    await drained();
    for (let next = this.#heap[0]; next !== undefined && next.atMs <= untilMs; next = this.#heap[0]) {
      pop(this.#heap);
      const fire = next.fire;
      if (fire === null) continue;
      this.#nowMs = next.atMs;
      next.fire = null;
      this.#fired += 1;
      fire();
      if (next.isQuiet) continue;
      await drained();
      if (!(await afterEach())) return;
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.length;
  heap.push(entry);
  while (at > 0) {
    const parentAt = (at - 1) >> 1;
    const parent = heap[parentAt];
    if (parent === undefined || isBefore(parent, entry)) break;
    heap[at] = parent;
    at = parentAt;
  }
  heap[at] = entry;
}

function pop(heap: Entry[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    const leftAt = at * 2 + 1;
    const left = heap[leftAt];
    if (left === undefined) break;
    const right = heap[leftAt + 1];
    const isRight = right !== undefined && isBefore(right, left);
    const child = isRight ? right : left;
    if (isBefore(last, child)) break;
    heap[at] = child;
    at = isRight ? leftAt + 1 : leftAt;
  }
  heap[at] = last;
}
