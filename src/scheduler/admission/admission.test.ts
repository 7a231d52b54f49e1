import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import { SERVICE_TIERS, type ServiceTier } from "../../domain/tier.ts";
import { type QueueEntry, WaitingRoom } from "./admission.ts";

const MODEL = modelId("tiny");
const entry = (name: string, tier: ServiceTier, more: Partial<QueueEntry> = {}): QueueEntry => ({
  entryId: name,
  tier,
  modelId: MODEL,
  tenantId: "one",
  queuedAtMs: 0,
  shareCost: 1,
  ...more,
});
const names = (entries: readonly QueueEntry[]) => entries.map(({ entryId }) => entryId);

describe("the waiting room", () => {
  test("serves moved streams, then priority, default and flex, a tenant's own first come first served", () => {
    const room = new WaitingRoom<QueueEntry>();
    const tiers = ["flex", "default", "priority", "default"] as const;
    for (const [at, tier] of tiers.entries()) room.enter(entry(`${tier} ${at}`, tier, { queuedAtMs: at }));
    room.enterMoved(entry("moved", "flex"));
    expect(names(room.inOrder())).toEqual(["moved", "priority 2", "default 1", "default 3", "flex 0"]);
  });

  test("a preempted stream goes on before its tier, and not before the tiers above", () => {
    const room = new WaitingRoom<QueueEntry>();
    room.enter(entry("priority", "priority"));
    room.enter(entry("default", "default"));
    room.enter(entry("flex", "flex"));
    room.enterPreempted(entry("preempted flex", "flex", { queuedAtMs: 9 }));
    room.enterPreempted(entry("preempted default", "default", { queuedAtMs: 9 }));
    const order = ["priority", "preempted default", "default", "preempted flex", "flex"];
    expect(names(room.inOrder())).toEqual(order);
  });

  test("turns away when a tier is full, but never a moved or a preempted stream, and other tiers are not affected", () => {
    const room = new WaitingRoom<QueueEntry>({ lengthMax: 1 });
    expect(room.enter(entry("first", "default"))).toBe("entered");
    expect(room.enter(entry("second", "default"))).toBe("tier-full");
    expect(room.enter(entry("other", "flex"))).toBe("entered");
    room.enterMoved(entry("moved", "default"));
    room.enterPreempted(entry("preempted", "default"));
    expect(room.size).toBe(4);
    expect(room.all()).toHaveLength(4);
  });

  test("one tenant cannot fill a tier: the last quarter is for others", () => {
    const room = new WaitingRoom<QueueEntry>({ lengthMax: 8 });
    const entrances = Array.from({ length: 8 }, (_, at) => room.enter(entry(`greedy ${at}`, "default")));
    expect(entrances.filter((entrance) => entrance === "entered")).toHaveLength(6);
    expect(entrances.at(-1)).toBe("tenant-full");
    expect(room.enter(entry("modest", "default", { tenantId: "two" }))).toBe("entered");
    expect(room.enter(entry("greedy flex", "flex"))).toBe("entered");
  });

  test("an entry that left is in no queue, and may leave twice", () => {
    const room = new WaitingRoom<QueueEntry>();
    const one = entry("one", "default");
    for (const enter of [() => room.enter(one), () => room.enterMoved(one), () => room.enterPreempted(one)]) {
      enter();
      room.leave(one);
      room.leave(one);
      expect(room.inOrder()).toEqual([]);
    }
    expect(room.enter(one)).toBe("entered");
  });

  test("law: nobody of a lower tier is served before a new request of a higher one", () => {
    const arrivals = fc.array(fc.tuple(fc.constantFrom(...SERVICE_TIERS), fc.constantFrom("a", "b")), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(arrivals, (drawn) => {
        const room = new WaitingRoom<QueueEntry>();
        for (const [at, [tier, tenantId]] of drawn.entries()) room.enter(entry(String(at), tier, { tenantId }));
        const order = room.inOrder();
        expect(order).toHaveLength(drawn.length);
        const ranks = order.map(({ tier }) => SERVICE_TIERS.indexOf(tier));
        expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
        for (const [at, one] of order.entries()) expect(new Set(room.before(one))).toEqual(new Set(order.slice(0, at)));
      }),
    );
  });
});

describe("background work", () => {
  test("waits behind every tier, also after it lost its node or its slot", () => {
    const room = new WaitingRoom<QueueEntry>();
    room.enterMoved(entry("moved background", "flex", { isBackground: true, queuedAtMs: 1 }));
    room.enterPreempted(entry("preempted background", "flex", { isBackground: true, queuedAtMs: 2 }));
    room.enter(entry("background", "flex", { isBackground: true }));
    room.enter(entry("flex", "flex", { queuedAtMs: 5 }));
    room.enter(entry("priority", "priority", { queuedAtMs: 6 }));
    const order = ["priority", "flex", "moved background", "preempted background", "background"];
    expect(names(room.inOrder())).toEqual(order);
    expect(names(room.before(entry("another", "flex")))).not.toContain("background");
  });

  test("has a queue of its own, so that it takes no place of flex", () => {
    const room = new WaitingRoom<QueueEntry>({ lengthMax: 1 });
    expect(room.enter(entry("one", "flex", { isBackground: true }))).toBe("entered");
    expect(room.enter(entry("two", "flex", { isBackground: true }))).toBe("tier-full");
    expect(room.enter(entry("three", "flex"))).toBe("entered");
    expect(room.hasAny("flex")).toBe(true);
  });
});
