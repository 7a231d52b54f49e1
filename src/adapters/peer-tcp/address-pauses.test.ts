import { expect, test } from "vitest";
import { AddressPauses } from "./address-pauses.ts";

test("an address where nobody right answered rests, longer each time, and is free again once the right one did", () => {
  const pauses = new AddressPauses(0);
  let nowMs = 0;
  const rests: number[] = [];
  for (let round = 0; round < 12; round++) {
    expect(pauses.mayDial("a:1", nowMs)).toBe(true);
    pauses.failed("a:1", nowMs);
    const fromMs = nowMs;
    while (!pauses.mayDial("a:1", nowMs)) nowMs += 1_000;
    rests.push(nowMs - fromMs);
  }
  expect(rests.slice(0, 4)).toEqual([2_000, 4_000, 8_000, 16_000]);
  expect(Math.max(...rests)).toBe(300_000);
  pauses.failed("a:1", nowMs);
  pauses.answered("a:1");
  expect(pauses.mayDial("a:1", nowMs)).toBe(true);
});

test("ever new addresses are no way round it: failures together are bounded", () => {
  const pauses = new AddressPauses(0);
  let dialled = 0;
  for (let nowMs = 0; nowMs < 60_000; nowMs += 10) {
    const address = `host:${nowMs}`;
    if (!pauses.mayDial(address, nowMs)) continue;
    dialled += 1;
    pauses.failed(address, nowMs);
  }
  expect(dialled).toBeGreaterThan(256);
  expect(dialled).toBeLessThanOrEqual(256 + 60 * 4);
});
