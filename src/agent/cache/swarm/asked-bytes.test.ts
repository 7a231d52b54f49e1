import { beforeEach, expect, test } from "vitest";
import { SimClock } from "../../../sim/time/clock.ts";
import { Host } from "../../../sim/time/host.ts";
import { Timeline } from "../../../sim/time/timeline.ts";
import { AskedBytes } from "./asked-bytes.ts";

const KIB = 1024;
const FOREVER = new AbortController().signal;
let timeline: Timeline;
let asked: AskedBytes;
beforeEach(() => {
  timeline = new Timeline();
  asked = new AskedBytes(new SimClock(new Host("node", timeline)));
});

/** In the order in which they were let go. */
function takers(sizes: readonly number[], signal = FOREVER): { let: string[]; over: Map<string, () => void> } {
  const found = { let: [] as string[], over: new Map<string, () => void>() };
  for (const [at, bytes] of sizes.entries()) {
    const name = "abcdefgh".charAt(at);
    asked.take(bytes, signal).then(
      (over) => {
        found.let.push(name);
        found.over.set(name, over);
      },
      () => undefined, // given up
    );
  }
  return found;
}
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("never more than a mebibyte is out, and who asked first goes first", async () => {
  const { let: went, over } = takers([512 * KIB, 512 * KIB, 1_024 * KIB, 16 * KIB]);
  await settled();
  expect(went).toEqual(["a", "b"]);
  expect(asked.usedBytes).toBe(1_024 * KIB);
  over.get("a")?.();
  over.get("a")?.();
  await settled();
  // The small one would fit, and waits for its turn all the same: else the large one might wait for ever.
  expect(went).toEqual(["a", "b"]);
  over.get("b")?.();
  await settled();
  expect(went).toEqual(["a", "b", "c"]);
  over.get("c")?.();
  await settled();
  expect(went).toEqual(["a", "b", "c", "d"]);
});

test("one that is larger than all goes when nothing else is out", async () => {
  const { let: went } = takers([4_096 * KIB, KIB]);
  await settled();
  expect(went).toEqual(["a"]);
});

test("one that gives up makes way for those behind it", async () => {
  const giveUp = new AbortController();
  const first = takers([512 * KIB]);
  takers([1_024 * KIB], giveUp.signal);
  const last = takers([256 * KIB]);
  await settled();
  expect([first.let, last.let]).toEqual([["a"], []]);
  giveUp.abort();
  await settled();
  expect(last.let).toEqual(["a"]);
  expect(asked.usedBytes).toBe(768 * KIB);
});

test("one that drips keeps nobody waiting for long", async () => {
  const { let: went } = takers([1_024 * KIB, 1_024 * KIB]);
  await settled();
  expect(went).toEqual(["a"]);
  await timeline.run(1_100, () => true);
  await settled();
  expect(went).toEqual(["a", "b"]);
});
