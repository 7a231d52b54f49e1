import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId, replicaId } from "../../domain/ids.ts";
import { SERVICE_TIERS, type ServiceTier } from "../../domain/tier.ts";
import { PrefixHints } from "../matching/prefix-hints.ts";
import { RETRY_BURST, RetryBudget } from "../retries/retry-budget.ts";
import { type QueueEntry, ServiceTimes, WaitingRoom } from "./admission.ts";

const MODEL = modelId("tiny");
interface Named extends QueueEntry {
  readonly name: string;
}
const entry = (name: string, tier: ServiceTier): Named => ({ name, tier, modelId: MODEL });

describe("the waiting room", () => {
  test("serves moved streams, then priority, default and flex, each first come first served", () => {
    const room = new WaitingRoom<Named>();
    const tiers = ["flex", "default", "priority", "default"] as const;
    for (const [at, tier] of tiers.entries()) room.enter(entry(`${tier} ${at}`, tier));
    room.enterMoved(entry("moved", "flex"));
    expect(room.inOrder().map(({ name }) => name)).toEqual(["moved", "priority 2", "default 1", "default 3", "flex 0"]);
  });

  test("turns away when a tier is full, but never a moved stream, and other tiers are not affected", () => {
    const room = new WaitingRoom<Named>({ lengthMax: 1 });
    expect(room.enter(entry("first", "default"))).toBe(true);
    expect(room.enter(entry("second", "default"))).toBe(false);
    expect(room.enter(entry("other", "flex"))).toBe(true);
    room.enterMoved(entry("moved", "default"));
    expect(room.size).toBe(3);
  });

  test("an entry that left is in no queue, and may leave twice", () => {
    const room = new WaitingRoom<Named>();
    const one = entry("one", "default");
    room.enter(one);
    room.leave(one);
    room.leave(one);
    expect(room.inOrder()).toEqual([]);
    expect(room.enter(one)).toBe(true);
  });

  test("law: whoever enters first of a tier is served first", () => {
    const arrivals = fc.array(fc.constantFrom(...SERVICE_TIERS), { maxLength: 40 });
    fc.assert(
      fc.property(arrivals, (tiers) => {
        const room = new WaitingRoom<Named>();
        const entries = tiers.map((tier, at) => entry(String(at), tier));
        for (const one of entries) room.enter(one);
        for (const tier of SERVICE_TIERS) {
          const served = room.inOrder().filter((one) => one.tier === tier);
          expect(served).toEqual(entries.filter((one) => one.tier === tier));
        }
        expect(room.size).toBe(entries.length);
      }),
    );
  });
});

describe("retry-after", () => {
  test("is the queue's length times the mean service time over the slots", () => {
    const times = new ServiceTimes();
    for (let count = 0; count < 50; count++) times.record(MODEL, 4_000);
    expect(times.retryAfterMs({ modelId: MODEL, before: 15, slots: 4 })).toBe(16_000);
  });

  test("is never shorter than a second nor longer than two minutes", () => {
    const times = new ServiceTimes();
    expect(times.retryAfterMs({ modelId: MODEL, before: 0, slots: 64 })).toBe(1_000);
    expect(times.retryAfterMs({ modelId: MODEL, before: 10_000, slots: 0 })).toBe(120_000);
  });
});

describe("the retry budget", () => {
  test("lets a burst through at once, then spaces retries out", () => {
    const budget = new RetryBudget(0);
    const atMs = Array.from({ length: RETRY_BURST + 2 }, () => budget.take(0));
    expect(atMs.slice(0, RETRY_BURST).every((at) => at === 0)).toBe(true);
    expect(atMs.slice(RETRY_BURST)).toEqual([50, 100]);
  });

  test("refills with time, up to the burst", () => {
    const budget = new RetryBudget(0);
    for (let count = 0; count < RETRY_BURST; count++) budget.take(0);
    expect(budget.take(1_000)).toBe(1_000);
    for (let count = 0; count < RETRY_BURST; count++) expect(budget.take(1e9)).toBe(1e9);
    expect(budget.take(1e9)).toBeGreaterThan(1e9);
  });
});

describe("prefix hints", () => {
  const A = replicaId(`rep_${"0".repeat(26)}`);
  const B = replicaId(`rep_${"1".repeat(26)}`);
  const turn = (length: number) => Array.from({ length }, (_, at) => (at * 31) % 97);

  test("the next turn of a conversation finds the replica of the turn before", () => {
    const hints = new PrefixHints();
    hints.remember(MODEL, turn(100), A);
    expect(hints.find(MODEL, turn(200))).toBe(A);
    expect(hints.find(modelId("other"), turn(200))).toBeNull();
    expect(hints.find(MODEL, turn(31))).toBeNull();
  });

  test("the longest head that was seen wins", () => {
    const hints = new PrefixHints();
    hints.remember(MODEL, turn(200), A);
    hints.remember(MODEL, [...turn(64), ...Array.from({ length: 64 }, () => 5)], B);
    expect(hints.find(MODEL, turn(300))).toBe(A);
    expect(hints.find(MODEL, turn(64))).toBe(B);
  });
});
