import fc from "fast-check";
import { expect, test } from "vitest";
import { WaveGate, waveShare } from "./wave-gate.ts";

test("no other size of wave loses less, by the sum of empty places and time in convoys", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.1, max: 20, noNaN: true }),
      fc.double({ min: 0.05, max: 5, noNaN: true }),
      fc.integer({ min: 10, max: 1000 }),
      (promptS, stepS, outputTokensMean) => {
        const lossOf = (share: number): number => share / 2 + promptS / (share * outputTokensMean * stepS);
        const share = waveShare({ promptS, stepS, outputTokensMean });
        expect(share).toBeLessThanOrEqual(0.5);
        for (const other of [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]) {
          expect(lossOf(share)).toBeLessThanOrEqual(lossOf(other) + 1e-9);
        }
      },
    ),
  );
});

test("the gate opens after a wave's worth of ends, or when nothing is left in flight", () => {
  const gate = new WaveGate();
  expect(gate.isOpen).toBe(true);
  gate.shut(2.5);
  for (const inFlight of [9, 8]) {
    gate.ended(inFlight);
    expect(gate.isOpen).toBe(false);
  }
  gate.ended(7);
  expect(gate.isOpen).toBe(true);
  gate.shut(100);
  gate.ended(0);
  expect(gate.isOpen).toBe(true);
});
