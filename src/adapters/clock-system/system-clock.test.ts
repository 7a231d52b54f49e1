import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { pause } from "../../ports/clock.ts";
import { SystemClock } from "./system-clock.ts";
import { SystemRandom } from "./system-random.ts";

const clock = new SystemClock();
const run = promisify(execFile);
const module = new URL("./system-clock.ts", import.meta.url).href;

describe("the system's clock", () => {
  test("fires timers in the order of their delays, not before their time", async () => {
    const startMs = clock.monoMs();
    const fired: number[] = [];
    await Promise.all([20, 5, 10].map((delayMs) => pause(clock, delayMs).then(() => fired.push(delayMs))));
    expect(fired).toEqual([5, 10, 20]);
    expect(clock.monoMs() - startMs).toBeGreaterThanOrEqual(20);
  });

  test("a cancelled timer does not fire, and may be cancelled again", async () => {
    let hasFired = false;
    const timer = clock.setTimer(1, () => {
      hasFired = true;
    });
    timer.cancel();
    timer.cancel();
    await pause(clock, 10);
    expect(hasFired).toBe(false);
  });

  test("a delay longer than a 32-bit timer can be cancelled and does not fire at once", async () => {
    let hasFired = false;
    const timer = clock.setTimer(2 ** 31 + 5, () => {
      hasFired = true;
    });
    await pause(clock, 10);
    timer.cancel();
    expect(hasFired).toBe(false);
  });

  test("a timer does not keep the process alive", async () => {
    const script = `const { SystemClock } = await import(${JSON.stringify(module)}); new SystemClock().setTimer(3_600_000, () => {}); new SystemClock().setTimer(2 ** 33, () => {});`;
    const { stderr } = await run(process.execPath, ["--input-type=module", "--eval", script]);
    expect(stderr).toBe("");
  });

  test("tells the wall's time in milliseconds since 1970", () => {
    expect(Math.abs(clock.wallMs() - Date.now())).toBeLessThan(60_000);
  });
});

describe("the system's randomness", () => {
  const random = new SystemRandom();

  test("gives as many bytes as asked, and other ones each time", () => {
    expect(random.bytes(0)).toHaveLength(0);
    expect(random.bytes(32)).toHaveLength(32);
    expect(random.bytes(32)).not.toEqual(random.bytes(32));
  });

  test("gives fractions in [0, 1) whose mean is a half", () => {
    const drawn = Array.from({ length: 20_000 }, () => random.fraction());
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...drawn)).toBeLessThan(1);
    // The standard error of the mean is 0.002: ten of them.
    expect(Math.abs(drawn.reduce((sum, one) => sum + one, 0) / drawn.length - 0.5)).toBeLessThan(0.02);
  });
});
