import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FairEntry, FairQueue } from "./fair-queue.ts";
import { jainIndex } from "./tenant-shares.ts";

const entry = (tenantId: string, number: number, shareCost: number, queuedAtMs = 0): FairEntry => ({
  tenantId,
  entryId: `${tenantId}/${String(number).padStart(6, "0")}`,
  queuedAtMs,
  shareCost,
});

interface Tenant {
  readonly name: string;
  readonly weight: number;
  /** Device-seconds of a request, in turn. */
  readonly costs: readonly number[];
  /** What the queue is told, as a factor of the truth. */
  readonly misjudged: number;
}

/** Device-seconds that each tenant got while all of them always wait, over `slots` slots until `seconds` have passed. */
function servedBy(tenants: readonly Tenant[], run: { slots: number; seconds: number }): readonly number[] {
  const queue = new FairQueue<FairEntry>({
    weightOf: (tenantId) => tenants.find(({ name }) => name === tenantId)?.weight ?? 1,
  });
  const asked = tenants.map(() => 0);
  const served = tenants.map(() => 0);
  const costOf = (tenant: Tenant, number: number) => tenant.costs[number % tenant.costs.length] ?? 1;
  const ask = (at: number, tenant: Tenant) => {
    const number = asked[at] ?? 0;
    asked[at] = number + 1;
    queue.enter(entry(tenant.name, number, costOf(tenant, number) * tenant.misjudged, number));
  };
  for (const [at, tenant] of tenants.entries()) for (let count = 0; count < 8; count++) ask(at, tenant);
  const freeAt = Array.from({ length: run.slots }, () => 0);
  for (;;) {
    const slot = freeAt.indexOf(Math.min(...freeAt));
    const nowS = freeAt[slot] ?? 0;
    if (nowS >= run.seconds) return served;
    const [next] = queue.inOrder();
    if (next === undefined) throw new Error("somebody always waits");
    const at = tenants.findIndex(({ name }) => name === next.tenantId);
    const tenant = tenants[at];
    if (tenant === undefined) throw new Error("every entry has its tenant");
    const trueCost = costOf(tenant, Number(next.entryId.split("/")[1]));
    queue.leave(next);
    queue.charge(next.tenantId, next.shareCost);
    queue.charge(next.tenantId, trueCost - next.shareCost);
    served[at] = (served[at] ?? 0) + trueCost;
    freeAt[slot] = nowS + trueCost;
    ask(at, tenant);
  }
}

describe("fair shares", () => {
  test("tenants of very different request sizes get the same device time: Jain's index is at least 0.95", () => {
    const tenants = [
      { name: "embeds", weight: 1, costs: [0.002], misjudged: 1 },
      { name: "chats", weight: 1, costs: [0.05, 0.3, 0.1], misjudged: 1 },
      { name: "writes", weight: 1, costs: [4, 9], misjudged: 1 },
      { name: "batches", weight: 1, costs: [30], misjudged: 1 },
    ];
    const served = servedBy(tenants, { slots: 2, seconds: 600 });
    expect(jainIndex(served)).toBeGreaterThanOrEqual(0.95);
  });

  test("also when what a request is expected to cost is ten times off, either way", () => {
    const tenants = [
      { name: "over", weight: 1, costs: [0.5], misjudged: 10 },
      { name: "right", weight: 1, costs: [1, 0.2], misjudged: 1 },
      { name: "under", weight: 1, costs: [2], misjudged: 0.1 },
    ];
    expect(jainIndex(servedBy(tenants, { slots: 1, seconds: 400 }))).toBeGreaterThanOrEqual(0.95);
  });

  test("law: shares converge to the weights, whatever the sizes", () => {
    const anyTenants = fc.array(
      fc.record({
        weight: fc.integer({ min: 1, max: 4 }),
        costs: fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 4 }),
      }),
      { minLength: 2, maxLength: 5 },
    );
    fc.assert(
      fc.property(anyTenants, fc.integer({ min: 1, max: 3 }), (drawn, slots) => {
        const tenants = drawn.map(({ weight, costs }, at) => ({
          name: `t${at}`,
          weight,
          costs: costs.map((cost) => cost / 100),
          misjudged: 1,
        }));
        const served = servedBy(tenants, { slots, seconds: 300 / slots });
        const shares = served.map((seconds, at) => seconds / (tenants[at]?.weight ?? 1));
        // Off by at most a request of each slot and the start: 2 s of 300 s over up to 20 weights.
        expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(2 * (slots + 2));
      }),
      { numRuns: 40 },
    );
  });

  test("law: nobody starves: a waiting request is served before every other tenant got a quantum and a request beyond its cost", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 500 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 4 }),
        (own, others) => {
          const queue = new FairQueue<FairEntry>();
          const victim = entry("victim", 0, own / 100);
          queue.enter(victim);
          let number = 0;
          const got = others.map(() => 0);
          for (;;) {
            for (const [at, cost] of others.entries()) {
              while (queue.waitingOf(`other${at}`) < 3) queue.enter(entry(`other${at}`, number++, cost / 100));
            }
            const [next] = queue.inOrder();
            if (next === undefined) throw new Error("somebody always waits");
            queue.leave(next);
            queue.charge(next.tenantId, next.shareCost);
            if (next === victim) break;
            const at = Number(next.tenantId.slice("other".length));
            got[at] = (got[at] ?? 0) + next.shareCost;
            for (const [of, cost] of others.entries()) {
              expect(got[of] ?? 0).toBeLessThanOrEqual(own / 100 + cost / 100 + 0.05 + 1e-9);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a tenant that used the grid alone for hours is not shut out when another comes", () => {
    const queue = new FairQueue<FairEntry>();
    for (let hour = 0; hour < 24; hour++) queue.charge("alone", 3_600);
    for (let number = 0; number < 40; number++) {
      queue.enter(entry("alone", number, 1));
      queue.enter(entry("comes", number, 1));
    }
    const order = queue.inOrder();
    const first = order.findIndex(({ tenantId }) => tenantId === "alone");
    expect(first).toBeLessThanOrEqual(11);
    expect(order.slice(first).filter(({ tenantId }) => tenantId === "comes").length).toBeGreaterThan(25);
  });

  test("absence saves nothing up", () => {
    const queue = new FairQueue<FairEntry>();
    for (let number = 0; number < 200; number++) queue.enter(entry("busy", number, 1));
    for (let count = 0; count < 100; count++) {
      const [next] = queue.inOrder();
      if (next === undefined) break;
      queue.leave(next);
      queue.charge("busy", 1);
    }
    for (let number = 0; number < 50; number++) queue.enter(entry("absent", number, 1));
    const head = queue.inOrder().slice(0, 20);
    expect(head.filter(({ tenantId }) => tenantId === "busy").length).toBeGreaterThanOrEqual(9);
  });
});

describe("the queue", () => {
  const anyEntries = fc.uniqueArray(
    fc.record({
      tenantId: fc.constantFrom("a", "b", "c"),
      entryId: fc.string({ minLength: 1, maxLength: 3 }),
      queuedAtMs: fc.integer({ min: 0, max: 3 }),
      shareCost: fc.integer({ min: 0, max: 300 }).map((cost) => cost / 100),
    }),
    { selector: ({ entryId }) => entryId, maxLength: 25 },
  );

  test("law: the order in which requests of one moment come in changes nothing", () => {
    fc.assert(
      fc.property(
        anyEntries,
        fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.integer({ min: 0, max: 2_000 })), { maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        (entries, charges, draws) => {
          const order = (list: readonly FairEntry[]) => {
            const queue = new FairQueue<FairEntry>();
            for (const [tenantId, cost] of charges) queue.charge(tenantId, cost / 100);
            for (const one of list) queue.enter(one);
            return queue.inOrder();
          };
          const shuffled = [...entries]
            .map((one) => ({ one, draw: draws.next().value }))
            .sort((a, b) => a.draw - b.draw);
          expect(order(shuffled.map(({ one }) => one))).toEqual(order(entries));
        },
      ),
    );
  });

  test("law: it is work-conserving: whoever waits is in the order, once, and each tenant's in their own order", () => {
    fc.assert(
      fc.property(anyEntries, fc.array(fc.nat(24)), (entries, leaving) => {
        const queue = new FairQueue<FairEntry>();
        for (const one of entries) queue.enter(one);
        const gone = new Set(leaving.map((at) => entries[at]).filter((one) => one !== undefined));
        for (const one of gone) expect(queue.leave(one)).toBe(true);
        const left = entries.filter((one) => !gone.has(one));
        const order = queue.inOrder();
        expect(queue.size).toBe(left.length);
        expect(new Set(order)).toEqual(new Set(left));
        expect(order).toHaveLength(left.length);
        for (const tenantId of ["a", "b", "c"]) {
          const own = order.filter((one) => one.tenantId === tenantId);
          expect(own).toEqual([...own].sort((a, b) => a.queuedAtMs - b.queuedAtMs || (a.entryId < b.entryId ? -1 : 1)));
        }
      }),
    );
  });

  test("law: those before a request are those that the order has before it", () => {
    fc.assert(
      fc.property(anyEntries, (entries) => {
        const queue = new FairQueue<FairEntry>();
        for (const one of entries) queue.enter(one);
        const order = queue.inOrder();
        for (const [at, one] of order.entries())
          expect(new Set(queue.before(one))).toEqual(new Set(order.slice(0, at)));
      }),
    );
  });
});
