import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import { GangTable, PREPARE_TTL_MS } from "./gang-table.ts";

const NODES = 5;
const FAR_MS = 1e9;
const nodeNamed = (at: number): NodeId => nodeId(`node_${at.toString(16).padStart(32, "0")}`);

function tableOf(capacities: readonly number[]): GangTable {
  const table = new GangTable();
  for (const [at, units] of capacities.entries()) table.setCapacity(nodeNamed(at), units);
  return table;
}

/** Units by node number. */
function want(gangId: string, units: Readonly<Record<number, number>>, deadlineMs = FAR_MS) {
  const entries = Object.entries(units).map(([at, count]) => [nodeNamed(Number(at)), count] as const);
  return { gangId, units: new Map(entries), deadlineMs };
}

/** Reaches on until it is prepared or finds no room. */
function prepare(table: GangTable, gangId: string, nowMs: number): string {
  for (;;) {
    const step = table.reach(gangId, nowMs);
    if (!step.ok) return step.reason;
    if (step.value.kind !== "reached") return step.value.kind;
  }
}

describe("a gang", () => {
  test("reaches its nodes in the order of their ids and commits all of them", () => {
    const table = tableOf([1, 1, 1]);
    table.begin(want("a", { 2: 1, 0: 1, 1: 1 }));
    const reached = [0, 1, 2].map(() => table.reach("a", 0));
    expect(reached).toMatchObject([
      { value: { kind: "reached", nodeId: nodeNamed(0) } },
      { value: { kind: "reached", nodeId: nodeNamed(1) } },
      { value: { kind: "prepared", endsAtMs: PREPARE_TTL_MS } },
    ]);
    expect(table.commit("a", { nowMs: PREPARE_TTL_MS - 1, endsAtMs: null }).ok).toBe(true);
    expect([0, 1, 2].map((at) => table.freeUnits(nodeNamed(at)))).toEqual([0, 0, 0]);
    table.release("a");
    expect([0, 1, 2].map((at) => table.freeUnits(nodeNamed(at)))).toEqual([1, 1, 1]);
  });

  test("that finds no room lets go of everything, and is served when there is room", () => {
    const table = tableOf([1, 1]);
    table.begin(want("a", { 1: 1 }));
    table.begin(want("b", { 0: 1, 1: 1 }));
    expect(prepare(table, "a", 0)).toBe("prepared");
    expect(prepare(table, "b", 0)).toBe("no-room");
    expect(table.freeUnits(nodeNamed(0))).toBe(1);
    table.abort("a");
    expect(prepare(table, "b", 1)).toBe("prepared");
  });

  test("whose prepare runs out holds nothing, and its commit is refused", () => {
    const table = tableOf([1]);
    table.begin(want("a", { 0: 1 }));
    expect(prepare(table, "a", 0)).toBe("prepared");
    expect(table.expire(PREPARE_TTL_MS)).toEqual({ expired: ["a"], missed: [] });
    expect(table.freeUnits(nodeNamed(0))).toBe(1);
    expect(table.commit("a", { nowMs: PREPARE_TTL_MS, endsAtMs: null })).toEqual({
      ok: false,
      reason: "prepare-expired",
    });
  });

  test("that misses its deadline is given up", () => {
    const table = tableOf([0]);
    table.begin(want("a", { 0: 1 }, 5_000));
    expect(prepare(table, "a", 0)).toBe("no-room");
    expect(table.expire(5_000)).toEqual({ expired: [], missed: ["a"] });
    expect(table.reach("a", 5_000)).toEqual({ ok: false, reason: "gang-unknown" });
  });

  test("is not committed when one of its nodes was lost meanwhile", () => {
    const table = tableOf([1, 1]);
    table.begin(want("a", { 0: 1, 1: 1 }));
    prepare(table, "a", 0);
    table.setCapacity(nodeNamed(1), 0);
    expect(table.commit("a", { nowMs: 1, endsAtMs: null })).toEqual({ ok: false, reason: "not-prepared" });
    expect(table.freeUnits(nodeNamed(0))).toBe(1);
  });

  test("is not committed before it is prepared, nor when nobody knows it", () => {
    const table = tableOf([1, 1]);
    table.begin(want("a", { 0: 1, 1: 1 }));
    table.reach("a", 0);
    expect(table.commit("a", { nowMs: 0, endsAtMs: null })).toEqual({ ok: false, reason: "not-prepared" });
    expect(table.commit("b", { nowMs: 0, endsAtMs: null })).toEqual({ ok: false, reason: "gang-unknown" });
  });
});

describe("backfill", () => {
  /** Node 0 is free; node 1 is taken until 10 s; gang "big" waits for both. */
  function scene(deadlineMs = FAR_MS): GangTable {
    const table = tableOf([2, 1]);
    table.begin(want("first", { 1: 1 }));
    prepare(table, "first", 0);
    table.commit("first", { nowMs: 0, endsAtMs: 10_000 });
    table.begin(want("big", { 0: 2, 1: 1 }, deadlineMs));
    expect(prepare(table, "big", 0)).toBe("no-room");
    return table;
  }
  const job = { jobId: "job", nodeId: nodeNamed(0), units: 1, nowMs: 0 };

  test("uses a node that a gang waits for, when it ends before the gang could start", () => {
    expect(scene().backfill({ ...job, endsAtMs: 10_000 })).toBe(true);
    expect(scene().backfill({ ...job, endsAtMs: 10_001 })).toBe(false);
    expect(scene().backfill({ ...job, endsAtMs: null })).toBe(false);
  });

  test("does not outlast the gang's deadline", () => {
    expect(scene(4_000).backfill({ ...job, endsAtMs: 4_001 })).toBe(false);
    expect(scene(4_000).backfill({ ...job, endsAtMs: 4_000 })).toBe(true);
  });

  test("takes what no waiting gang needs, for as long as it likes", () => {
    const table = scene();
    table.setCapacity(nodeNamed(0), 3);
    expect(table.backfill({ ...job, endsAtMs: null })).toBe(true);
    expect(table.backfill({ ...job, jobId: "another", endsAtMs: null })).toBe(false);
    table.endBackfill(job);
    expect(table.freeUnits(nodeNamed(0))).toBe(3);
  });
});

const gangs = fc.array(
  fc
    .uniqueArray(fc.tuple(fc.nat(NODES - 1), fc.integer({ min: 1, max: 2 })), {
      selector: ([at]) => at,
      minLength: 1,
      maxLength: NODES,
    })
    .map((pairs): Readonly<Record<number, number>> => Object.fromEntries(pairs)),
  { minLength: 1, maxLength: 6 },
);
const capacities = fc.array(fc.integer({ min: 2, max: 4 }), { minLength: NODES, maxLength: NODES });
type Move = { who: number; what: "reach" | "commit" | "abort" | "release" | "job"; afterMs: number };
const moves: fc.Arbitrary<readonly Move[]> = fc.array(
  fc.record({
    who: fc.nat(5),
    what: fc.constantFrom<Move["what"]>("reach", "reach", "reach", "commit", "commit", "abort", "release", "job"),
    afterMs: fc.constantFrom(0, 0, 1, 500, PREPARE_TTL_MS),
  }),
  { maxLength: 120 },
);

describe("laws of gangs", () => {
  test("no unit is given twice, whatever the interleaving; a gang has all its nodes or none for good", () => {
    fc.assert(
      fc.property(capacities, gangs, moves, (rooms, wants, list) => {
        const table = tableOf(rooms);
        for (const [at, units] of wants.entries()) table.begin(want(`g${at}`, units));
        const committed = new Map<string, Readonly<Record<number, number>>>();
        const jobs: number[] = [];
        let nowMs = 0;
        for (const { who, what, afterMs } of list) {
          nowMs += afterMs;
          const gangId = `g${who}`;
          const units = wants[who];
          const state = table.state(gangId);
          if (what === "reach" && (state === "reaching" || state === "waiting")) table.reach(gangId, nowMs);
          if (what === "commit" && units !== undefined && table.commit(gangId, { nowMs, endsAtMs: nowMs + 1_000 }).ok) {
            committed.set(gangId, units);
          }
          if (what === "abort") table.abort(gangId);
          if (what === "release") {
            table.release(gangId);
            committed.delete(gangId);
          }
          if (what === "job") {
            const at = who % NODES;
            const job = { jobId: `${jobs.length}`, nodeId: nodeNamed(at), units: 1, nowMs, endsAtMs: nowMs + 100 };
            if (table.backfill(job)) jobs.push(at);
          }
          for (const [at, room] of rooms.entries()) {
            const byGangs = [...committed.values()].reduce((sum, taken) => sum + (taken[at] ?? 0), 0);
            const byJobs = jobs.filter((place) => place === at).length;
            expect(byGangs + byJobs + table.freeUnits(nodeNamed(at))).toBeLessThanOrEqual(room);
            expect(byGangs + byJobs).toBeLessThanOrEqual(room);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test("no gangs block each other for ever: stepping them in any order, each gets its turn", () => {
    fc.assert(
      fc.property(capacities, gangs, fc.infiniteStream(fc.nat(100)), (rooms, wants, draws) => {
        const table = tableOf(rooms);
        const left = new Set(
          wants.map((units, at) => {
            table.begin(want(`g${at}`, units));
            return `g${at}`;
          }),
        );
        // A gang that holds the most goes on; after as many steps as all gangs have nodes, times the gangs, all were served.
        for (let step = 0; step < 6 * 6 * NODES * 10 && left.size > 0; step++) {
          const drawn = draws.next().value ?? 0;
          const gangId = [...left][drawn % left.size] ?? "";
          if (table.state(gangId) !== "prepared") table.reach(gangId, 0);
          if (table.state(gangId) !== "prepared") continue;
          expect(table.commit(gangId, { nowMs: 0, endsAtMs: null }).ok).toBe(true);
          table.release(gangId);
          left.delete(gangId);
        }
        expect([...left]).toEqual([]);
      }),
    );
  });

  test("two prepare times after the last move, everything that was not committed is free", () => {
    fc.assert(
      fc.property(capacities, gangs, moves, (rooms, wants, list) => {
        const table = tableOf(rooms);
        for (const [at, units] of wants.entries()) table.begin(want(`g${at}`, units));
        for (const { who } of list) {
          const state = table.state(`g${who}`);
          if (state === "reaching" || state === "waiting") table.reach(`g${who}`, 0);
        }
        table.expire(PREPARE_TTL_MS);
        expect(rooms.map((_, at) => table.freeUnits(nodeNamed(at)))).toEqual(rooms);
      }),
    );
  });
});
