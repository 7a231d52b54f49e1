import { describe, expect, test } from "vitest";
import { CONNECTIONS_MAX, WIDTH_START, type WidthLook, type WidthState, widen } from "./bulk-width.ts";

const NEAR: WidthLook = {
  bytesPerSecond: 1e6,
  isBusy: true,
  isConnectionBound: true,
  isFar: false,
  lossShare: null,
  rttMs: 1,
};

const FAR = { isFar: true, rttMs: 40 };

/** Looks while the rate follows from the number of connections. */
function run(looks: number, rateOf: (count: number) => number, change: Partial<WidthLook> = {}): readonly WidthState[] {
  const states: WidthState[] = [];
  let state = WIDTH_START;
  for (let look = 0; look < looks; look++) {
    state = widen(state, { ...NEAR, ...change, bytesPerSecond: rateOf(state.count) });
    states.push(state);
  }
  return states;
}

describe("the number of bulk connections", () => {
  test("doubles to its bound while each brings its own share", () => {
    expect(run(40, (count) => count * 1e6, FAR).at(-1)?.count).toBe(CONNECTIONS_MAX);
    expect(run(40, (count) => count * 1e6).at(-1)?.count).toBe(2);
  });

  test("goes back to one, and rests, where more bring nothing", () => {
    const states = run(20, () => 1e8);
    expect(states.at(-1)?.count).toBe(1);
    expect(states.filter(({ phase }) => phase === "settle")).toHaveLength(1);
  });

  test("stops where growth stops to pay", () => {
    expect(run(40, (count) => Math.min(count, 4) * 1e6, FAR).at(-1)?.count).toBe(4);
  });

  test("does not grow for who does not ask for more", () => {
    expect(run(40, (count) => count * 1e6, { isConnectionBound: false }).at(-1)?.count).toBe(1);
  });

  test("is all soon on a far way whose loss holds each one down", () => {
    const far = { isFar: true, rttMs: 40, lossShare: 0.01 };
    expect(run(2, (count) => count * 350_000, far).at(-1)?.count).toBe(CONNECTIONS_MAX);
  });

  test("is not all at once on a far way that only begins slowly", () => {
    const far = { ...NEAR, isFar: true, rttMs: 40, lossShare: 0.01 };
    const begun = widen(WIDTH_START, { ...far, bytesPerSecond: 300_000 });
    expect(begun.count).toBe(4);
    let state = begun;
    for (let look = 0; look < 40; look++) {
      state = widen(state, { ...far, bytesPerSecond: 11e6 });
      expect(state.count).toBeLessThanOrEqual(8);
    }
    expect(state.count).toBe(4);
  });

  test("stays small on a far way where loss does not hold them down", () => {
    const far = { isFar: true, rttMs: 40, lossShare: 0.01 };
    expect(run(10, () => 11e6, far).at(-1)?.count).toBe(4);
  });

  test("is one again when nothing moved for a while", () => {
    let state = run(40, (count) => count * 1e6).at(-1) ?? WIDTH_START;
    for (let look = 0; look < 30; look++) state = widen(state, { ...NEAR, isBusy: false, bytesPerSecond: 0 });
    expect(state.count).toBe(1);
  });
});
