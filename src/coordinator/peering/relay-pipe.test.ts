import { describe, expect, test } from "vitest";
import type { RelayEnd, RelayEndHandlers } from "../../ports/relay.ts";
import { RelayPipe } from "./relay-pipe.ts";

/** One end in memory, driven by hand. */
class HandEnd implements RelayEnd {
  readonly written: number[] = [];
  readonly closes: string[] = [];
  hasRoom = true;
  isRead = false;
  handlers: RelayEndHandlers | null = null;

  listen(handlers: RelayEndHandlers): void {
    this.handlers = handlers;
    this.isRead = true;
  }
  write(bytes: Uint8Array): boolean {
    this.written.push(bytes.length);
    return this.hasRoom;
  }
  pause(): void {
    this.isRead = false;
  }
  resume(): void {
    this.isRead = true;
  }
  close(reason: string): void {
    this.closes.push(reason);
  }
}

function aPipe(answer: (bytes: number, from: 0 | 1) => number | null) {
  const ends = [new HandEnd(), new HandEnd()] as const;
  const timers: Array<{ readonly delayMs: number; fire: () => void; isCancelled: boolean }> = [];
  const over: string[] = [];
  const pipe = new RelayPipe(ends, {
    take: answer,
    setTimer: (delayMs, fire) => {
      const timer = { delayMs, fire, isCancelled: false };
      timers.push(timer);
      return {
        cancel: () => {
          timer.isCancelled = true;
        },
      };
    },
    onEnd: (cause) => over.push(cause),
  });
  return { pipe, ends, timers, over };
}

describe("a relayed pipe", () => {
  test("does not read an end while the other is full, and only that one", () => {
    const { ends } = aPipe(() => 0);
    const [one, other] = ends;
    other.hasRoom = false;
    one.handlers?.onBytes(new Uint8Array(10));
    expect([one.isRead, other.isRead]).toEqual([false, true]);
    other.hasRoom = true;
    other.handlers?.onDrain();
    expect([one.isRead, other.isRead]).toEqual([true, true]);
    expect(other.written).toEqual([10]);
  });

  test("does not read an end that sent more than its rate until the time that it is told", () => {
    const { ends, timers } = aPipe((bytes) => bytes);
    const [one, other] = ends;
    one.handlers?.onBytes(new Uint8Array(300));
    expect(one.isRead).toBe(false);
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([300]);
    // Room alone is not enough.
    other.handlers?.onDrain();
    expect(one.isRead).toBe(false);
    timers[0]?.fire();
    expect(one.isRead).toBe(true);
  });

  test("ends by name when the budget is spent, without passing on what was beyond it", () => {
    const { ends, over } = aPipe((bytes) => (bytes > 100 ? null : 0));
    const [one, other] = ends;
    one.handlers?.onBytes(new Uint8Array(100));
    one.handlers?.onBytes(new Uint8Array(101));
    one.handlers?.onBytes(new Uint8Array(1));
    expect(other.written).toEqual([100]);
    expect([one.closes, other.closes, over]).toEqual([
      ["relay-budget-spent"],
      ["relay-budget-spent"],
      ["relay-budget-spent"],
    ]);
  });

  test("closes the other end when one closes, once, and lets its timers go", () => {
    const { pipe, ends, timers, over } = aPipe(() => 5);
    ends[0].handlers?.onBytes(new Uint8Array(1));
    ends[0].handlers?.onClose("gone");
    ends[1].handlers?.onClose("gone too");
    pipe.close("again");
    expect(ends[1].closes).toEqual(["gone"]);
    expect(over).toEqual(["gone"]);
    expect(timers[0]?.isCancelled).toBe(true);
  });
});
