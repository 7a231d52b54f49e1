/** The lease desk on a store that is slow, fails and loses answers, in virtual time; and over the real matching index. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { IndexSlots } from "../src/coordinator/leases/index-slots.ts";
import { LeaseDesk } from "../src/coordinator/leases/lease-desk.ts";
import type { DurableLease, LeasePart } from "../src/domain/durable-lease.ts";
import { modelId, type NodeId, replicaId } from "../src/domain/ids.ts";
import type { Outcome } from "../src/domain/refusal.ts";
import { MatchIndex } from "../src/scheduler/matching/match-index.ts";
import { type MatchRequest, UNCONSTRAINED } from "../src/scheduler/matching/match-request.ts";
import { CALM_STORE, chaoticStore, type StoreConditions } from "../src/sim/store/chaotic-store.ts";
import { createMemoryDisk } from "../src/sim/store/memory-disk.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { FirstFit, type GangAsk } from "./support/first-fit.ts";
import { MembershipGrid } from "./support/membership-grid.ts";
import { expectSlotsRight, offers } from "./support/store-contract-leases.ts";
import { madeId, nodeIdOf } from "./support/store-samples.ts";

class DeskWorld extends MembershipGrid {
  readonly disk = createMemoryDisk();
  conditions: StoreConditions = CALM_STORE;
  readonly kept: MemoryStore;
  readonly slots: FirstFit;
  readonly expired: DurableLease[] = [];
  readonly desk: LeaseDesk<GangAsk>;
  #asked = 0;

  constructor(options: { nodes: number; slots: number }) {
    super();
    const host = this.host("desk");
    const clock = new SimClock(host);
    const inner = new MemoryStore({ writeLatencyMs: 0 }, { clock, disk: this.disk });
    const random = this.random.fork("chaos");
    this.kept = inner;
    const store = chaoticStore({ inner, host, random, conditions: () => this.conditions });
    this.slots = new FirstFit(options.nodes, options.slots);
    const onExpired = (lease: DurableLease) => this.expired.push(lease);
    this.desk = new LeaseDesk({ store: store.leases, clock, log: this.log, slots: this.slots, onExpired });
  }

  async open(nodes: number, slots: number): Promise<void> {
    await this.kept.leases.offer(offers(nodes, slots));
    await this.settled(this.desk.start());
  }

  ask(nodes = 1, ttlMs = 600_000): Promise<Outcome<DurableLease>> {
    const number = ++this.#asked;
    return this.desk.lease({ leaseId: madeId("lease", number), holderId: `task_${number}`, ttlMs, nodes });
  }
}

async function worldOf(nodes: number, slots: number): Promise<DeskWorld> {
  const world = new DeskWorld({ nodes, slots });
  await world.open(nodes, slots);
  return world;
}

describe("the lease desk", () => {
  test("answers each caller after the commit that holds his lease, and refuses what fits nowhere", async () => {
    const world = await worldOf(2, 2);
    const outcomes = await world.settled(Promise.all(Array.from({ length: 6 }, () => world.ask())));
    expect(outcomes.map((outcome) => (outcome.ok ? "ok" : outcome.reason.code))).toEqual([
      ...Array.from({ length: 4 }, () => "ok"),
      "no-capacity",
      "no-capacity",
    ]);
    expect(await expectSlotsRight(world.kept)).toEqual(
      outcomes.flatMap((outcome) => (outcome.ok ? [outcome.value] : [])),
    );
  });

  test("refuses a lease of no time, or of no whole number of it, and grants those that were asked for beside it", async () => {
    const world = await worldOf(2, 2);
    const asks = [600_000, 0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e300, 600_000].map((ttlMs) =>
      world.ask(1, ttlMs),
    );
    const codes = (await world.settled(Promise.all(asks))).map((outcome) => (outcome.ok ? "ok" : outcome.reason.code));
    expect(codes).toEqual(["ok", ...Array.from({ length: 6 }, () => "invalid-request"), "ok"]);
    await expectSlotsRight(world.kept);
  });

  test("gives an ended lease's slots to the next", async () => {
    const world = await worldOf(1, 1);
    const first = await world.settled(world.ask());
    expect((await world.settled(world.ask())).ok).toBe(false);
    if (first.ok) expect(await world.settled(world.desk.end(first.value))).toBe(true);
    expect((await world.settled(world.ask())).ok).toBe(true);
    if (first.ok) expect(await world.settled(world.desk.end(first.value))).toBe(false);
    expect(await expectSlotsRight(world.kept)).toHaveLength(1);
  });

  test("grants a gang on all its nodes or on none", async () => {
    const world = await worldOf(3, 1);
    const [gang, other] = await world.settled(Promise.all([world.ask(3), world.ask(1)]));
    expect([gang?.ok, other?.ok]).toEqual([true, false]);
    expect(gang?.ok === true ? gang.value.parts : []).toHaveLength(3);
  });

  test("goes elsewhere when the store knows a node to be full or gone, and gives up after three", async () => {
    const world = await worldOf(5, 1);
    // Another life took nodes 1 and 2 after this desk had looked.
    const parts = (node: number) => [{ nodeId: nodeIdOf(node), nodeEpoch: 1, slots: 1 }];
    const times = { grantedAtMs: 1, endsAtMs: 1e15 };
    const taken = [1, 2].map((node) => ({
      leaseId: madeId("lease", 900 + node),
      holderId: "x",
      parts: parts(node),
      ...times,
    }));
    await world.kept.leases.grant(taken);
    const found = await world.settled(world.ask());
    expect(found.ok ? found.value.parts : []).toEqual(parts(3));
    await world.kept.leases.offer([4, 5].map((node) => ({ nodeId: nodeIdOf(node), nodeEpoch: 2, slots: 1 })));
    const lost = await world.settled(world.ask());
    expect(lost).toMatchObject({
      ok: false,
      reason: { code: "no-capacity", message: expect.stringContaining("3 nodes") },
    });
    expect(world.slots.free()).toEqual([1, 1, 0, 1, 1]);
  });

  test("ends leases whose time has passed, and tells of them; a renewed one lives on", async () => {
    const world = await worldOf(1, 3);
    const outcomes = await world.settled(Promise.all([world.ask(1, 5_000), world.ask(1, 5_000), world.ask(1, 60_000)]));
    const [short, renewed] = outcomes.flatMap((outcome) => (outcome.ok ? [outcome.value] : []));
    if (renewed !== undefined) expect(await world.settled(world.desk.renew(renewed, 60_000))).toBe(true);
    await world.run(8_000);
    expect(world.expired.map(({ leaseId }) => leaseId)).toEqual([short?.leaseId]);
    expect(world.slots.free()).toEqual([1]);
    expect(await expectSlotsRight(world.kept)).toHaveLength(2);
  });

  test("holds after a start what an earlier life granted", async () => {
    const world = await worldOf(1, 2);
    await world.settled(world.ask());
    const next = new FirstFit(1, 2);
    const { clock, log } = world;
    const desk = new LeaseDesk<GangAsk>({ store: world.kept.leases, clock, log, slots: next });
    await world.settled(desk.start());
    expect(next.free()).toEqual([1]);
    desk.stop();
  });

  test("law: on a store that fails and loses answers, what was acknowledged is live, nothing is leased twice, and in the end nothing is held for nobody", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(9), { minLength: 5, maxLength: 60 }), async (steps) => {
        const world = await worldOf(4, 2);
        world.conditions = { ...CALM_STORE, refusedProbability: 0.15, answerLostProbability: 0.15 };
        const acknowledged = new Map<string, DurableLease>();
        const ends: Promise<unknown>[] = [];
        for (const step of steps) {
          const [oldest] = acknowledged.values();
          if (step < 3 && oldest !== undefined) {
            acknowledged.delete(oldest.leaseId);
            const retried = async (): Promise<unknown> => world.desk.end(oldest).catch(retried);
            ends.push(retried());
          } else {
            ends.push(
              world.ask(1 + (step % 2)).then((outcome) => {
                if (outcome.ok) acknowledged.set(outcome.value.leaseId, outcome.value);
              }),
            );
          }
          if (step > 6) await world.run(step * 40);
          const live = new Set((await expectSlotsRight(world.kept)).map(({ leaseId }) => leaseId));
          for (const leaseId of acknowledged.keys()) expect(live).toContain(leaseId);
        }
        world.conditions = CALM_STORE;
        await world.run(5_000);
        await world.settled(Promise.all(ends));
        const live = await expectSlotsRight(world.kept);
        expect(live.map(({ leaseId }) => leaseId)).toEqual([...acknowledged.keys()].sort());
        expect(world.slots.free()).toEqual(
          (await world.kept.leases.nodes()).map(({ slots, slotsUsed }) => slots - slotsUsed),
        );
      }),
      { numRuns: 25 },
    );
  });
});

describe("slots by the matching index", () => {
  const request: MatchRequest = {
    modelId: modelId("batch"),
    tokensNeeded: 1,
    remainingMs: 60_000,
    excludedNodeIds: new Set(),
    hint: null,
    callerRegion: null,
    constraints: UNCONSTRAINED,
    seed: 1,
  };

  test("are found until all are held, leave out avoided nodes, and forget what a node had under an older epoch", () => {
    const index = new MatchIndex();
    const slots = new IndexSlots(index);
    for (const node of [1, 2]) {
      const nodeId = nodeIdOf(node);
      const unknown = { region: null, owner: null, network: null, gpuClass: null, trust: null, rttMs: null };
      const nothing = {
        priceMicroUsdPerHour: null,
        decodeTokPerSecond: null,
        stayChancePerHour: null,
        gramsCo2PerHour: null,
      };
      index.upsertNode({
        ...unknown,
        ...nothing,
        nodeId,
        availability: "takes-work",
        vramUsableBytes: 1,
        vramFreeBytes: 1,
      });
      const id = replicaId(`rep_${String(node).padStart(26, "0")}`);
      const size = { isReady: true, slots: 2, slotsLeased: 0, contextTokens: 9, layersCached: 1 };
      index.upsertReplica({ ...size, replicaId: id, nodeId, modelId: request.modelId });
      slots.offer({ nodeId, nodeEpoch: 1, replicaId: id });
    }
    const none = new Set<NodeId>();
    expect(slots.find({ request }, new Set([nodeIdOf(1)]))).toEqual([{ nodeId: nodeIdOf(2), nodeEpoch: 1, slots: 1 }]);
    const held: (readonly LeasePart[])[] = [];
    for (let parts = slots.find({ request }, none); parts !== null; parts = slots.find({ request }, none)) {
      slots.hold(parts);
      held.push(parts);
    }
    expect(held).toHaveLength(4);
    const [first = []] = held;
    slots.release(first);
    expect(slots.find({ request }, none)).toEqual(first);
    slots.hold(first);
    slots.offer({ nodeId: nodeIdOf(1), nodeEpoch: 2, replicaId: replicaId(`rep_${"1".padStart(26, "0")}`) });
    for (const parts of held) slots.release(parts);
    expect(slots.find({ request }, new Set([nodeIdOf(2)]))).toEqual([{ nodeId: nodeIdOf(1), nodeEpoch: 2, slots: 1 }]);
  });
});
