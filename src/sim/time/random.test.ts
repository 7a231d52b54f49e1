import { describe, expect, test } from "vitest";
import { SeededRandom } from "./random.ts";

describe("the simulator's randomness", () => {
  test("a fork depends on its label and not on what was drawn before", () => {
    const early = new SeededRandom("7");
    const fromEarly = early.fork("load").fraction();
    const late = new SeededRandom("7");
    for (let draw = 0; draw < 100; draw++) late.fraction();
    expect(late.fork("load").fraction()).toBe(fromEarly);
    expect(late.fork("faults").fraction()).not.toBe(fromEarly);
  });

  test("the draws of a seed are these on every machine and version of Node", () => {
    const random = new SeededRandom("1");
    expect([random.between(0, 999), random.between(0, 999), random.between(0, 999), random.between(0, 999)]).toEqual([
      666, 902, 517, 19,
    ]);
  });

  test("numbers of a range come about equally often, both ends included", () => {
    const random = new SeededRandom("range");
    const counts = new Array<number>(10).fill(0);
    for (let draw = 0; draw < 10_000; draw++) {
      const value = random.between(0, 9);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    for (const count of counts) expect(count).toBeGreaterThan(850);
  });

  test("bytes are as many as asked for, whatever the count", () => {
    const random = new SeededRandom("bytes");
    for (const count of [0, 1, 3, 4, 5, 32]) expect(random.bytes(count)).toHaveLength(count);
  });
});
