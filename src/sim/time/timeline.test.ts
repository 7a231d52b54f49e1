import { describe, expect, test } from "vitest";
import { SimClock } from "./clock.ts";
import { Host } from "./host.ts";
import { SeededRandom } from "./random.ts";
import { Timeline } from "./timeline.ts";

const goOn = () => true;

describe("virtual time", () => {
  test("events fire by time, and those of one time in the order in which they were scheduled", async () => {
    const timeline = new Timeline();
    const random = new SeededRandom("heap");
    const fired: number[] = [];
    const wanted = Array.from({ length: 500 }, (_, order) => ({ atMs: random.between(0, 40), order }));
    for (const { atMs, order } of wanted) timeline.at(atMs, () => fired.push(order));
    await timeline.run(100, goOn);
    expect(fired).toEqual([...wanted].sort((a, b) => a.atMs - b.atMs || a.order - b.order).map(({ order }) => order));
    expect(timeline.nowMs).toBe(100);
  });

  test("every promise reaction of an event runs before the next event", async () => {
    const timeline = new Timeline();
    const seen: string[] = [];
    timeline.at(1, () => {
      void (async () => {
        for (let hop = 0; hop < 50; hop++) await Promise.resolve();
        seen.push("reaction");
      })();
    });
    timeline.at(1, () => seen.push("next event"));
    await timeline.run(10, goOn);
    expect(seen).toEqual(["reaction", "next event"]);
  });

  test("a run stops after the event at which it is told to", async () => {
    const timeline = new Timeline();
    const seen: number[] = [];
    for (const atMs of [1, 2, 3]) timeline.at(atMs, () => seen.push(atMs));
    await timeline.run(10, () => seen.length < 2);
    expect(seen).toEqual([1, 2]);
  });

  test("a cancelled event does not fire, also when it is cancelled twice", async () => {
    const timeline = new Timeline();
    let isFired = false;
    const scheduled = timeline.at(5, () => {
      isFired = true;
    });
    scheduled.cancel();
    scheduled.cancel();
    await timeline.run(10, goOn);
    expect(isFired).toBe(false);
  });
});

describe("a host", () => {
  test("does nothing while frozen, and catches up in order when it is thawed", async () => {
    const timeline = new Timeline();
    const host = new Host("node-0", timeline);
    const seen: [string, number][] = [];
    host.after(10, () => seen.push(["first", timeline.nowMs]));
    host.after(20, () => seen.push(["second", timeline.nowMs]));
    timeline.at(5, () => host.freeze());
    timeline.at(50, () => host.thaw());
    await timeline.run(100, goOn);
    expect(seen).toEqual([
      ["first", 50],
      ["second", 50],
    ]);
  });

  test("that was killed never sees the events of its former life", async () => {
    const timeline = new Timeline();
    const host = new Host("node-0", timeline);
    const seen: string[] = [];
    host.after(10, () => seen.push("former"));
    host.kill({ isPowerLoss: false });
    host.restart();
    host.after(20, () => seen.push("new"));
    await timeline.run(100, goOn);
    expect(seen).toEqual(["new"]);
  });

  test("whose clock drifts fires its timers early or late, and its wall clock may be set back", async () => {
    const timeline = new Timeline();
    const host = new Host("node-0", timeline);
    const fast = new SimClock(host, { rate: 1.25, monoOffsetMs: 1_000, wallOffsetMs: 0 });
    const fired: number[] = [];
    fast.setTimer(1_000, () => fired.push(timeline.nowMs, fast.monoMs()));
    await timeline.run(2_000, goOn);
    expect(fired).toEqual([800, 2_000]);
    const before = { mono: fast.monoMs(), wall: fast.wallMs() };
    fast.stepWall(-3_600_000);
    expect(fast.monoMs()).toBe(before.mono);
    expect(fast.wallMs()).toBe(before.wall - 3_600_000);
  });
});
