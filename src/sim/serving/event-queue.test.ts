import fc from "fast-check";
import { expect, test } from "vitest";
import { EventQueue } from "./event-queue.ts";

const eventArb = fc.tuple(
  fc.integer({ min: 0, max: 9 }),
  fc.integer({ min: 0, max: 3 }),
  fc.integer({ min: 0, max: 99 }),
);

test("events come by time, kind and subject, whatever the order in which they were scheduled", () => {
  fc.assert(
    fc.property(fc.array(eventArb, { maxLength: 300 }), (events) => {
      const queue = new EventQueue();
      for (const [timeS, kind, subject] of events) queue.push(timeS, kind, subject, 0);
      const popped: [number, number, number][] = [];
      while (queue.pop()) popped.push([queue.timeS, queue.kind, queue.subject]);
      expect(popped).toEqual(events.toSorted((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]));
    }),
  );
});

test("the queue grows beyond its first room and tells the next time", () => {
  const queue = new EventQueue();
  expect(queue.nextTimeS).toBe(Number.POSITIVE_INFINITY);
  for (let at = 5000; at > 0; at--) queue.push(at, 0, at, at);
  expect(queue.length).toBe(5000);
  expect(queue.nextTimeS).toBe(1);
  queue.pop();
  expect([queue.subject, queue.epoch, queue.nextTimeS]).toEqual([1, 1, 2]);
});
