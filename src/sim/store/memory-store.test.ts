import { describe, expect, test } from "vitest";
import { FallowError } from "../../domain/fault.ts";
import { SimClock } from "../time/clock.ts";
import { Host } from "../time/host.ts";
import { Timeline } from "../time/timeline.ts";
import { MemoryStore } from "./memory-store.ts";

function world(writeLatencyMs: number) {
  const timeline = new Timeline();
  const clock = new SimClock(new Host("coordinator", timeline));
  const store = new MemoryStore({ writeLatencyMs }, { clock });
  const reopened = () => new MemoryStore({ writeLatencyMs }, { clock, disk: store.disk });
  const pass = (ms: number) => timeline.run(timeline.nowMs + ms, () => true);
  return { timeline, store, reopened, pass };
}

describe("a memory store", () => {
  test("acknowledges a write only after its latency on the clock", async () => {
    const { store, pass } = world(10);
    const seen: string[] = [];
    const writing = store.meta.set("a", "1").then(() => seen.push("acknowledged"));
    await pass(9);
    expect(seen).toEqual([]);
    expect(await store.meta.get("a")).toBeNull();
    await pass(2);
    await writing;
    expect(await store.meta.get("a")).toBe("1");
  });

  test("loses what was not acknowledged when it crashes, and never answers for it", async () => {
    const { store, reopened, pass } = world(10);
    const answers: string[] = [];
    const note = (name: string) => () => answers.push(name);
    void store.meta.set("first", "1").then(note("first"), note("first failed"));
    await pass(5);
    void store.meta.set("second", "2").then(note("second"), note("second failed"));
    await pass(6);
    store.crash();
    void store.meta.get("first").then(note("read"), note("read failed"));
    void store.meta.set("third", "3").then(note("third"), note("third failed"));
    await pass(100);
    expect(answers).toEqual(["first"]);
    const next = reopened();
    expect([await next.meta.get("first"), await next.meta.get("second")]).toEqual(["1", null]);
  });

  test("may have written what it never acknowledged", async () => {
    const { store, reopened, pass } = world(10);
    let answers = 0;
    for (const name of ["a", "b", "c"]) {
      void store.meta.set(name, "kept").then(() => {
        answers++;
      });
    }
    store.crash({ appliedWrites: 2 });
    await pass(100);
    const next = reopened();
    expect(answers).toBe(0);
    expect([await next.meta.get("a"), await next.meta.get("b"), await next.meta.get("c")]).toEqual([
      "kept",
      "kept",
      null,
    ]);
  });

  test("fails writes with the fault that it was given until it is repaired, and reads on", async () => {
    const { store } = world(0);
    await store.meta.set("a", "1");
    store.breakWith(new FallowError("disk-full", "the disk is full"));
    await expect(store.meta.set("a", "2")).rejects.toMatchObject({ code: "disk-full" });
    expect(await store.meta.get("a")).toBe("1");
    store.breakWith(null);
    await store.meta.set("a", "3");
    expect(await store.meta.get("a")).toBe("3");
  });

  test("closes after the writes that wait", async () => {
    const { store, reopened, pass } = world(10);
    void store.meta.set("a", "1");
    const closing = store.close();
    await pass(30);
    await closing;
    expect(await reopened().meta.get("a")).toBe("1");
  });
});
