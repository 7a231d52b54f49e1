import fc from "fast-check";
import { expect, test } from "vitest";
import { cancel, EventQueue } from "./event-queue.ts";

test("events fire by time, and among equal times in the order in which they were scheduled", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { maxLength: 60 }), (times) => {
      const queue = new EventQueue(0);
      const fired: { atMs: number; order: number }[] = [];
      for (const [order, atMs] of times.entries()) queue.at(atMs, () => fired.push({ atMs, order }));
      queue.run(100);
      const sorted = times.map((atMs, order) => ({ atMs, order })).sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      expect(fired).toEqual(sorted);
    }),
  );
});

test("what was cancelled does not fire, and what lies in the past fires now", () => {
  const queue = new EventQueue(0);
  const fired: string[] = [];
  const never = queue.at(5, () => fired.push("never"));
  queue.at(10, () => {
    cancel(never);
    queue.at(3, () => fired.push(`late at ${queue.nowMs}`));
  });
  queue.at(4, () => cancel(never));
  queue.run(20);
  expect(fired).toEqual(["late at 10"]);
  expect(queue.nowMs).toBe(20);
});
