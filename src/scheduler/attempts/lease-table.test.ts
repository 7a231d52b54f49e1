import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attemptId, leaseId, nodeId, replicaId } from "../../domain/ids.ts";
import { EPOCHS_PER_BOOT } from "../../domain/lease.ts";
import { judgeChunk, judgeLease } from "./accept-chunk.ts";
import { type GrantCheck, LeaseTable } from "./lease-table.ts";

const NODE = nodeId(`node_${"0".repeat(32)}`);
const ulid = (index: number) => index.toString(10).padStart(26, "0");
const leaseNamed = (index: number) => leaseId(`lease_${ulid(index)}`);
const attemptNamed = (index: number) => attemptId(`att_${ulid(index)}`);
const replicaNamed = (index: number) => replicaId(`rep_${ulid(index)}`);

function grant(
  table: LeaseTable,
  index: number,
  change: Partial<GrantCheck> & { replica?: number; attempt?: number; nowMs?: number; ttlMs?: number } = {},
) {
  const replica = replicaNamed(change.replica ?? 0);
  return table.grant(
    {
      leaseId: leaseNamed(index),
      attemptId: attemptNamed(change.attempt ?? index),
      nodeId: NODE,
      replicaId: replica,
      nowMs: change.nowMs ?? 0,
      ttlMs: change.ttlMs ?? 1_000,
    },
    { versionSeen: 1, versionNow: 1, slotsLeasedSeen: table.leasedOn(replica), slotsNow: 2, ...change },
  );
}

describe("a grant", () => {
  test("gives a live lease whose epoch carries the boot number", () => {
    const granted = grant(new LeaseTable({ boot: 3 }), 1);
    expect(granted).toMatchObject({ ok: true, value: { epoch: 3 * EPOCHS_PER_BOOT + 1, endsAtMs: 1_000 } });
  });

  test.each([
    ["the roster changed since the plan", { versionNow: 2 }, "version-changed"],
    ["the replica's leases changed since the plan", { slotsLeasedSeen: 1 }, "slots-changed"],
    ["every slot is leased", { slotsNow: 0 }, "slots-full"],
  ] as const)("is refused when %s", (_name, change, reason) => {
    expect(grant(new LeaseTable({ boot: 1 }), 1, change)).toEqual({ ok: false, reason });
  });

  test("is refused to an attempt that has a live lease", () => {
    const table = new LeaseTable({ boot: 1 });
    grant(table, 1);
    expect(grant(table, 2, { attempt: 1, replica: 1 })).toEqual({ ok: false, reason: "attempt-has-lease" });
  });
});

test("whoever listens hears how many leases a replica has after every grant and every end", () => {
  const heard: [string, number][] = [];
  const table = new LeaseTable({ boot: 1, onLeased: (replica, leased) => heard.push([replica, leased]) });
  grant(table, 1);
  grant(table, 2);
  grant(table, 3, { slotsNow: 0 });
  table.revoke(leaseNamed(1));
  table.revoke(leaseNamed(1));
  table.expire(2_000);
  expect(heard.map(([, leased]) => leased)).toEqual([1, 2, 1, 0]);
  expect(new Set(heard.map(([replica]) => replica))).toEqual(new Set([replicaNamed(0)]));
});

describe("a lease", () => {
  test("ends once; its slot is free then", () => {
    const table = new LeaseTable({ boot: 1 });
    grant(table, 1);
    expect(table.end(leaseNamed(1))).toBe(true);
    expect(table.end(leaseNamed(1))).toBe(false);
    expect(table.revoke(leaseNamed(1))).toBe(false);
    expect(table.find(leaseNamed(1))?.state).toBe("ended");
    expect(table.leasedOn(replicaNamed(0))).toBe(0);
  });

  test("dies when its time has passed, and renewing moves the time, never backwards", () => {
    const table = new LeaseTable({ boot: 1 });
    grant(table, 1);
    table.renew(leaseNamed(1), { nowMs: 500, ttlMs: 1_000 });
    table.renew(leaseNamed(1), { nowMs: 600, ttlMs: 100 });
    expect(table.expire(1_499)).toEqual([]);
    expect(table.expire(1_500).map((lease) => lease.leaseId)).toEqual([leaseNamed(1)]);
    expect(table.find(leaseNamed(1))?.state).toBe("dead");
  });
});

describe("laws", () => {
  const events = fc.array(
    fc.record({
      kind: fc.constantFrom("grant", "end", "revoke", "expire", "renew"),
      target: fc.nat({ max: 12 }),
      replica: fc.nat({ max: 2 }),
      attempt: fc.nat({ max: 5 }),
    }),
    { maxLength: 60 },
  );

  test("never more live leases than slots, one at most per attempt, and epochs only grow", () => {
    fc.assert(
      fc.property(events, (history) => {
        const table = new LeaseTable({ boot: 1 });
        const granted = new Map<number, number>();
        let next = 0;
        let lastEpoch = 0;
        for (const [at, event] of history.entries()) {
          const target = leaseNamed(event.target);
          if (event.kind === "grant") {
            const index = next++;
            const outcome = grant(table, index, { ...event, nowMs: at * 100 });
            if (outcome.ok) {
              expect(outcome.value.epoch).toBeGreaterThan(lastEpoch);
              lastEpoch = outcome.value.epoch;
              granted.set(index, outcome.value.epoch);
            }
          } else if (event.kind === "end") table.end(target);
          else if (event.kind === "revoke") table.revoke(target);
          else if (event.kind === "renew") table.renew(target, { nowMs: at * 100, ttlMs: 500 });
          else table.expire(at * 100);
          const live = table.live();
          expect(new Set(live.map((lease) => lease.attemptId)).size).toBe(live.length);
          for (const replica of [0, 1, 2]) {
            const count = live.filter((lease) => lease.replicaId === replicaNamed(replica)).length;
            expect(count).toBe(table.leasedOn(replicaNamed(replica)));
            expect(count).toBeLessThanOrEqual(2);
          }
        }
        for (const [index, epoch] of granted) {
          const found = table.find(leaseNamed(index));
          const verdict = judgeLease({ leaseId: leaseNamed(index), epoch, from: NODE, boot: 1, found });
          expect(verdict.kind === "live").toBe(found?.state === "live");
        }
      }),
    );
  });

  test("no message of another epoch, node or an earlier boot is ever taken for live", () => {
    const table = new LeaseTable({ boot: 5 });
    const outcome = grant(table, 1);
    const epoch = outcome.ok ? outcome.value.epoch : 0;
    const found = table.find(leaseNamed(1));
    fc.assert(
      fc.property(fc.maxSafeNat(), (other) => {
        fc.pre(other !== epoch);
        const verdict = judgeLease({ leaseId: leaseNamed(1), epoch: other, from: NODE, boot: 5, found });
        expect(verdict).toMatchObject({ kind: "breach", code: "dead-epoch" });
        const unknown = judgeLease({ leaseId: leaseNamed(2), epoch: other, from: NODE, boot: 5, found: null });
        expect(unknown.kind).toBe(other < 5 * EPOCHS_PER_BOOT ? "ignore" : "breach");
      }),
    );
  });

  test("whatever chunks come, those that are accepted are a stream without gap or repetition", () => {
    const chunks = fc.array(fc.record({ seq: fc.nat({ max: 6 }), tokens: fc.integer({ min: 1, max: 3 }) }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(chunks, (sent) => {
        let nextSeq = 0;
        let tokensLeft = 10;
        const accepted: number[] = [];
        for (const { seq, tokens } of sent) {
          const tokenIds = Array.from({ length: tokens }, () => 1);
          const claim = { leaseId: leaseNamed(1), epoch: 1, seq, tokenIds };
          const verdict = judgeChunk(claim, { nextSeq, vocabSize: 2, tokensLeft });
          if (verdict.kind !== "accept") continue;
          accepted.push(seq);
          nextSeq += 1;
          tokensLeft -= tokens;
        }
        expect(accepted).toEqual(accepted.map((_, at) => at));
        expect(tokensLeft).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
