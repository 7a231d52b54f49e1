import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EvictionOrder, FILES_MAX } from "./eviction.ts";

const GB = 1e9;
const ids = (victims: readonly { id: string }[] | null) => victims?.map(({ id }) => id) ?? null;

describe("EvictionOrder", () => {
  test("files that are alike go in the order of their last use", () => {
    const order = new EvictionOrder();
    for (const id of ["a", "b", "c", "a"]) order.use({ id, bytes: GB });
    expect(ids(order.victims(2 * GB, new Set()))).toEqual(["b", "c"]);
  });

  test("a file that was used more stays longer, and no longer for ever", () => {
    const order = new EvictionOrder();
    for (let at = 0; at < 5; at++) order.use({ id: "old-friend", bytes: GB });
    for (let at = 0; at < 30; at++) {
      order.use({ id: `n${at}`, bytes: GB });
      const [gone] = ids(order.victims(GB, new Set())) ?? [];
      if (gone === "old-friend") return expect(at).toBeGreaterThan(2);
    }
    throw new Error("a file that nobody used for 30 rounds is still there");
  });

  test("of files used alike the one that costs least to fetch for its bytes goes first", () => {
    const order = new EvictionOrder();
    order.use({ id: "large", bytes: 40 * GB });
    order.use({ id: "small", bytes: 0.02 * GB });
    expect(ids(order.victims(1, new Set()))).toEqual(["large"]);
  });

  test("what is in use never goes, and nothing goes when it would not be enough", () => {
    const order = new EvictionOrder();
    order.use({ id: "a", bytes: GB });
    order.use({ id: "b", bytes: GB });
    expect(ids(order.victims(2 * GB, new Set(["a"])))).toBeNull();
    expect(order.bytes).toBe(2 * GB);
    expect(ids(order.victims(GB, new Set(["a"])))).toEqual(["b"]);
  });

  test("what the planner wants goes when all the rest is too little, and not before", () => {
    const order = new EvictionOrder();
    for (const id of ["wanted", "a", "b", "a", "b"]) order.use({ id, bytes: GB });
    const last = new Set(["wanted"]);
    expect(ids(order.victims(GB, new Set(), last))).toEqual(["a"]);
    expect(ids(order.victims(2 * GB, new Set(), last))).toEqual(["b", "wanted"]);
  });

  test("ranks no more files than its bound", () => {
    const order = new EvictionOrder();
    for (let at = 0; at <= FILES_MAX; at++) order.use({ id: `f${at}`, bytes: 1 });
    expect(order.bytes).toBe(FILES_MAX);
  });

  test("frees enough, and no file more than it takes", () => {
    const uses = fc.array(fc.record({ id: fc.constantFrom(..."abcdefgh"), bytes: fc.constantFrom(1, 5, 20) }));
    fc.assert(
      fc.property(uses, fc.integer({ min: 1, max: 60 }), (used, neededBytes) => {
        const order = new EvictionOrder();
        for (const file of used) order.use(file);
        const before = order.bytes;
        const victims = order.victims(neededBytes, new Set());
        if (victims === null) {
          expect(before).toBeLessThan(neededBytes);
          return;
        }
        const freed = victims.reduce((sum, { bytes }) => sum + bytes, 0);
        expect(order.bytes).toBe(before - freed);
        expect(freed).toBeGreaterThanOrEqual(neededBytes);
        expect(freed - (victims.at(-1)?.bytes ?? 0)).toBeLessThan(neededBytes);
      }),
    );
  });
});
