import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { kvStateFor, positionsOf, readKvState } from "./kv-state.ts";

/** A state as the library writes it: so many cells in stream `at` of `streams`, one layer of keys and mostly of transposed values. */
function stateOf(of: { cells: number; streams?: number; at?: number; first?: number; keysOnly?: true }): Uint8Array {
  const { cells, streams = 1, at = 0, first = 0 } = of;
  const words: number[] = [0xaf143cd8, at, streams];
  for (let stream = 0; stream < streams; stream++) {
    if (stream !== at) {
      words.push(0);
      continue;
    }
    words.push(cells);
    for (let position = 0; position < cells; position++) words.push(first + position, 1, at);
    words.push(1, 1);
    words.push(1, 8, 0, ...new Array<number>(2 * cells).fill(7));
    if (of.keysOnly !== true) words.push(1, 4, 3, ...new Array<number>(3 * cells).fill(9));
  }
  return new Uint8Array(Uint32Array.from(words).buffer);
}

describe("a state of keys and values", () => {
  test("says how many positions it holds, and of what shape its layers are", () => {
    expect(readKvState(stateOf({ cells: 5 }))).toMatchObject([{ cells: 5, shape: "1 1 1 8 1 4 3" }]);
  });

  test("is the same whatever slot of however many it was read from", () => {
    const from = (streams: number, at: number) => readKvState(stateOf({ cells: 3, streams, at }))?.[0];
    expect(from(8, 5)?.shape).toBe(from(1, 0)?.shape);
    expect(from(8, 5)?.bytes.length).toBe(from(1, 0)?.bytes.length);
  });

  test("is written for a context with another number of slots, and read again", () => {
    const caches = readKvState(stateOf({ cells: 4, streams: 3, at: 2 }));
    if (caches === null) throw new Error("a whole state is read");
    for (const streams of [1, 2, 16]) expect(readKvState(kvStateFor(caches, streams))).toEqual(caches);
    expect(kvStateFor(caches, 1).subarray(12)).toEqual(caches[0]?.bytes);
  });

  test("of two caches is read as two", () => {
    const one = stateOf({ cells: 2 });
    const two = new Uint8Array([...one, ...one.subarray(8)]);
    expect(readKvState(two)).toHaveLength(2);
    expect(readKvState(new Uint8Array([...two, ...one.subarray(8)]))).toBeNull();
  });

  test("of a model without values, or of a window that does not begin at 0, is read, too", () => {
    const keys = readKvState(stateOf({ cells: 4, keysOnly: true }));
    expect(keys).toMatchObject([{ cells: 4, shape: "1 1 1 8" }]);
    const seen = readKvState(stateOf({ cells: 4, first: 9 })) ?? [];
    expect(positionsOf(seen)).toEqual({ end: 13, canBeCut: false });
    expect(positionsOf(keys ?? [])).toEqual({ end: 4, canBeCut: true });
    expect(positionsOf([...seen, ...(readKvState(stateOf({ cells: 13 })) ?? [])])).toEqual({
      end: 13,
      canBeCut: false,
    });
    expect(positionsOf([...seen, ...(keys ?? [])])).toBeNull();
  });

  test("that is cut short, runs on, or has its positions out of order is none", () => {
    const whole = stateOf({ cells: 3 });
    const shape = readKvState(whole)?.[0]?.shape;
    for (let length = 0; length < whole.length; length++) {
      // Cut off behind its keys it reads as one without values, which no stage of that model has.
      expect(readKvState(whole.subarray(0, length))?.[0]?.shape).not.toBe(shape);
    }
    expect(readKvState(new Uint8Array([...whole, 0]))).toBeNull();
    const swapped = whole.slice();
    swapped.set([5, 0, 0, 0], 28);
    expect(readKvState(swapped)).toBeNull();
  });

  test("of any bytes at all is read or refused, without a throw", () => {
    const anyBytes = fc.uint8Array({ maxLength: 400 });
    const flips = fc.array(fc.tuple(fc.nat(150), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(anyBytes, flips, (bytes, changes) => {
        readKvState(bytes);
        const state = stateOf({ cells: 3, streams: 2, at: 1 });
        for (const [at, value] of changes) state[at % state.length] = value;
        const caches = readKvState(state);
        if (caches !== null) expect(caches.every(({ cells }) => cells === 3)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
