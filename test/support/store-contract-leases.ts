/** The part of the Store contract that is about durable leases. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DurableLease, LeaseOutcome, LeaseWant } from "../../src/domain/durable-lease.ts";
import type { Store } from "../../src/ports/store.ts";
import { madeId, nodeIdOf } from "./store-samples.ts";

/** `on`: node number, slots, node epoch. */
export function aWant(
  number: number,
  on: readonly (readonly [number, number, number?])[],
  endsAtMs = 5_000,
): LeaseWant {
  return {
    leaseId: madeId("lease", number),
    holderId: `task_${number}`,
    parts: on.map(([node, slots, nodeEpoch = 1]) => ({ nodeId: nodeIdOf(node), nodeEpoch, slots })),
    grantedAtMs: 1_000,
    endsAtMs,
  };
}

export function offers(count: number, slots: number, nodeEpoch = 1) {
  return Array.from({ length: count }, (_, at) => ({ nodeId: nodeIdOf(at + 1), nodeEpoch, slots }));
}

const codes = (outcomes: readonly LeaseOutcome[]) =>
  outcomes.map((outcome) => (outcome.ok ? (outcome.isReplay ? "replay" : "granted") : outcome.reason.code));

async function used(store: Store): Promise<readonly number[]> {
  return (await store.leases.nodes()).map(({ slotsUsed }) => slotsUsed);
}

/** What must hold whatever was done: no slot given twice, none given away for nothing. */
export async function expectSlotsRight(store: Store): Promise<readonly DurableLease[]> {
  const live = await store.leases.live({ after: null, limit: 100_000 });
  const taken = new Map<string, number>();
  for (const { nodeId, slots } of live.flatMap(({ parts }) => parts)) {
    taken.set(nodeId, (taken.get(nodeId) ?? 0) + slots);
  }
  for (const { nodeId, slots, slotsUsed } of await store.leases.nodes()) {
    expect([nodeId, slotsUsed]).toEqual([nodeId, taken.get(nodeId) ?? 0]);
    expect(slotsUsed).toBeLessThanOrEqual(slots);
  }
  expect(new Set(live.map(({ epoch }) => epoch)).size).toBe(live.length);
  return live;
}

export function describeLeaseContract(storeNow: () => Store, reopen: () => Promise<void>): void {
  describe("durable leases", () => {
    test("are granted by compare-and-swap on the nodes' epoch and slots, each with a larger epoch, and survive a restart", async () => {
      await storeNow().leases.offer(offers(2, 3));
      const outcomes = await storeNow().leases.grant([
        aWant(1, [[1, 2]]),
        aWant(2, [[1, 2]]),
        aWant(3, [[1, 1]]),
        aWant(4, [[2, 1, 9]]),
        aWant(5, [[7, 1]]),
      ]);
      expect(codes(outcomes)).toEqual(["granted", "slots-full", "granted", "node-epoch-changed", "node-unknown"]);
      await reopen();
      const live = await expectSlotsRight(storeNow());
      expect(live).toMatchObject([
        { ...aWant(1, [[1, 2]]), epoch: 1 },
        { ...aWant(3, [[1, 1]]), epoch: 2 },
      ]);
      expect(codes(await storeNow().leases.grant([aWant(6, [[2, 3]])]))).toEqual(["granted"]);
      expect((await storeNow().leases.live({ after: madeId("lease", 3), limit: 9 })).map(({ epoch }) => epoch)).toEqual(
        [3],
      );
    });

    test("over several nodes are granted on all or on none", async () => {
      await storeNow().leases.offer(offers(3, 1));
      expect(codes(await storeNow().leases.grant([aWant(1, [[2, 1]])]))).toEqual(["granted"]);
      const gang = aWant(2, [
        [1, 1],
        [2, 1],
        [3, 1],
      ]);
      expect(codes(await storeNow().leases.grant([gang]))).toEqual(["slots-full"]);
      expect(await used(storeNow())).toEqual([0, 1, 0]);
      await storeNow().leases.end([{ leaseId: madeId("lease", 1), epoch: 1 }]);
      expect(codes(await storeNow().leases.grant([gang]))).toEqual(["granted"]);
      expect(await used(storeNow())).toEqual([1, 1, 1]);
      expect(await storeNow().leases.live({ after: null, limit: 9 })).toEqual([{ ...gang, epoch: 2 }]);
    });

    test("asked for again are a replay that takes nothing, and are refused when they differ", async () => {
      await storeNow().leases.offer(offers(1, 9));
      const again = { ...aWant(1, [[1, 2]]), grantedAtMs: 1_500, endsAtMs: 9_000 };
      const outcomes = await storeNow().leases.grant([aWant(1, [[1, 2]]), again, aWant(1, [[1, 3]])]);
      expect(codes(outcomes)).toEqual(["granted", "replay", "lease-differs"]);
      const other = { ...aWant(1, [[1, 2]]), holderId: "task_other" };
      expect(codes(await storeNow().leases.grant([again, other]))).toEqual(["replay", "lease-differs"]);
      expect(await used(storeNow())).toEqual([2]);
    });

    test("end and are renewed under their own epoch only, and give their slots back once", async () => {
      await storeNow().leases.offer(offers(1, 9));
      await storeNow().leases.grant([aWant(1, [[1, 2]]), aWant(2, [[1, 3]])]);
      const one = { leaseId: madeId("lease", 1), epoch: 1 };
      const stale = { ...one, epoch: 7 };
      const renewals = [
        { ...one, endsAtMs: 8_000 },
        { ...stale, endsAtMs: 9_000 },
      ];
      expect(await storeNow().leases.renew(renewals)).toEqual([true, false]);
      expect(await storeNow().leases.renew([{ ...one, endsAtMs: 2_000 }])).toEqual([true]);
      expect((await storeNow().leases.live({ after: null, limit: 1 }))[0]?.endsAtMs).toBe(8_000);
      expect(await storeNow().leases.end([stale, one, one])).toEqual([false, true, false]);
      expect(await storeNow().leases.end([one])).toEqual([false]);
      expect(await storeNow().leases.renew([{ ...one, endsAtMs: 9_999 }])).toEqual([false]);
      expect(await used(storeNow())).toEqual([3]);
    });

    test("end by themselves when their time has passed, the earliest first", async () => {
      await storeNow().leases.offer(offers(2, 9));
      await storeNow().leases.grant([
        aWant(
          1,
          [
            [1, 1],
            [2, 1],
          ],
          3_000,
        ),
        aWant(2, [[1, 1]], 2_000),
        aWant(3, [[1, 1]], 4_000),
      ]);
      const ids = async (nowMs: number, limit: number) =>
        (await storeNow().leases.expire({ nowMs, limit })).map(({ leaseId }) => leaseId);
      expect(await ids(1_999, 10)).toEqual([]);
      expect(await ids(3_000, 1)).toEqual([madeId("lease", 2)]);
      expect(await ids(3_000, 10)).toEqual([madeId("lease", 1)]);
      expect(await used(storeNow())).toEqual([1, 0]);
    });

    test("end when one of their nodes is offered under a new epoch; an older one is ignored", async () => {
      await storeNow().leases.offer(offers(2, 4, 5));
      await storeNow().leases.grant([
        aWant(1, [
          [1, 1, 5],
          [2, 1, 5],
        ]),
        aWant(2, [[2, 1, 5]]),
      ]);
      expect(await storeNow().leases.offer([{ nodeId: nodeIdOf(1), nodeEpoch: 4, slots: 9 }])).toEqual([]);
      expect(await storeNow().leases.offer([{ nodeId: nodeIdOf(1), nodeEpoch: 5, slots: 2 }])).toEqual([]);
      const ended = await storeNow().leases.offer([{ nodeId: nodeIdOf(1), nodeEpoch: 6, slots: 3 }]);
      expect(ended.map(({ leaseId }) => leaseId)).toEqual([madeId("lease", 1)]);
      expect(await storeNow().leases.nodes()).toEqual([
        { nodeId: nodeIdOf(1), nodeEpoch: 6, slots: 3, slotsUsed: 0 },
        { nodeId: nodeIdOf(2), nodeEpoch: 5, slots: 4, slotsUsed: 1 },
      ]);
      expect(codes(await storeNow().leases.grant([aWant(3, [[1, 1, 5]]), aWant(4, [[1, 1, 6]])]))).toEqual([
        "node-epoch-changed",
        "granted",
      ]);
    });

    test("asked for by many at once never give a slot twice", async () => {
      await storeNow().leases.offer(offers(5, 3));
      const asks = Array.from({ length: 60 }, (_, at) => storeNow().leases.grant([aWant(at, [[(at % 5) + 1, 1]])]));
      const granted = (await Promise.all(asks)).flat().filter((outcome) => outcome.ok);
      expect(granted).toHaveLength(15);
      expect(await expectSlotsRight(storeNow())).toHaveLength(15);
    });
  });
}

export type LeaseStep =
  | { readonly kind: "grant"; readonly wants: readonly LeaseWant[] }
  | { readonly kind: "end" | "renew"; readonly lease: number; readonly epoch: number }
  | { readonly kind: "offer"; readonly node: number; readonly nodeEpoch: number; readonly slots: number }
  | { readonly kind: "expire"; readonly nowMs: number };

const anyPart = fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 2 }));
const anyWant: fc.Arbitrary<LeaseWant> = fc
  .record({
    number: fc.nat(9),
    on: fc.uniqueArray(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }),
    parts: fc.array(anyPart, { minLength: 3, maxLength: 3 }),
    endsAtMs: fc.integer({ min: 2_000, max: 4_000 }),
  })
  .map(({ number, on, parts, endsAtMs }) => {
    const sorted = on.sort((a, b) => a - b).map((node, at) => [node, ...(parts[at] ?? [1, 1])] as const);
    return aWant(number, sorted, endsAtMs);
  });

export const anyLeaseStep: fc.Arbitrary<LeaseStep> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("grant" as const), wants: fc.array(anyWant, { maxLength: 5 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("end", "renew"),
      lease: fc.nat(9),
      epoch: fc.integer({ min: 1, max: 12 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("offer" as const),
      node: fc.integer({ min: 1, max: 3 }),
      nodeEpoch: fc.integer({ min: 1, max: 2 }),
      slots: fc.integer({ min: 2, max: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("expire" as const), nowMs: fc.integer({ min: 2_000, max: 4_000 }) }),
  },
);

export function carriedOutLeaseStep(store: Store, step: LeaseStep): Promise<unknown> {
  switch (step.kind) {
    case "grant":
      return store.leases.grant(step.wants);
    case "end":
      return store.leases.end([{ leaseId: madeId("lease", step.lease), epoch: step.epoch }]);
    case "renew":
      return store.leases.renew([{ leaseId: madeId("lease", step.lease), epoch: step.epoch, endsAtMs: 3_500 }]);
    case "offer":
      return store.leases.offer([{ nodeId: nodeIdOf(step.node), nodeEpoch: step.nodeEpoch, slots: step.slots }]);
    case "expire":
      return store.leases.expire({ nowMs: step.nowMs, limit: 3 });
  }
}
