import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GB, gpuOf, nodeFact, nodeNamed, readyReplica, replicaNamed } from "../../../test/support/placement-samples.ts";
import { attemptId, leaseId, modelId, requestId, sha256Hex } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { DEFAULT_SAMPLING } from "../../domain/sampling.ts";
import { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import type { ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import { simLog } from "../../sim/sim-log.ts";
import { SimClock } from "../../sim/time/clock.ts";
import { Host } from "../../sim/time/host.ts";
import { Timeline } from "../../sim/time/timeline.ts";
import { GenerationWork } from "./generation-work.ts";
import { RunningAttempts } from "./running-attempts.ts";

/** Nodes 0 and 1 are CPUs; node 2 is a GPU with many slots. */
const SHARED = 2;
const BACKGROUND_SLOTS_MAX = 8;
const padded = (at: number) => at.toString().padStart(26, "0");

class Desk {
  readonly leases = new LeaseTable({ boot: 1 });
  readonly efforts: string[] = [];
  readonly running: RunningAttempts;
  readonly holdsBack: boolean;
  #named = 0;

  constructor(holdsBack = false) {
    this.holdsBack = holdsBack;
    const clock = new SimClock(new Host("coordinator", new Timeline()));
    this.running = new RunningAttempts({
      clock,
      log: simLog(() => undefined),
      // No node hears of it here: what is told to whom is in test/dispatch*.test.ts.
      roster: { send: () => true },
      leases: this.leases,
      pool: {
        touch: () => undefined,
        noteEffort: ({ lease }) => void this.efforts.push(lease.leaseId),
        replica: (replicaId) => this.#replicas.find((one) => one.replicaId === replicaId) ?? null,
        node: (nodeId) => [0, 1, SHARED].map(nodeOf).find((one) => one.nodeId === nodeId) ?? null,
      },
      desk: { ended: () => undefined },
    });
  }

  get #replicas(): readonly ReplicaFact[] {
    return [0, 1, SHARED].map((at) =>
      readyReplica(at, {
        nodeId: nodeNamed(at),
        deviceId: at === SHARED ? "cuda0" : "cpu",
        slots: 64,
        ...(this.holdsBack ? { holdsBack: true } : {}),
      }),
    );
  }

  begin(node: number, isBackground: boolean): GenerationWork {
    const at = ++this.#named;
    const terms = {
      requestId: requestId(`req_${padded(at)}`),
      requestSha256: sha256Hex("11".repeat(32)),
      modelId: modelId("tiny"),
      weightsSha256: sha256Hex("22".repeat(32)),
      tier: "flex" as const,
      price: { inputMicroUsdPerMtok: microUsd(1), outputMicroUsdPerMtok: microUsd(1) },
      deadlineMs: 1_000,
      isBackground,
    };
    const request = {
      ...{ terms, choice: 0, promptTokenIds: [1], tokensMax: 4, sampling: DEFAULT_SAMPLING },
      ...{ seed: sha256Hex("33".repeat(32)), stopStrings: [], grammar: null, cacheScope: "44".repeat(16) },
      ...{ ignoreStopTokens: true, topLogprobs: null },
    };
    const start = { nowMs: 0, vocabSize: 10, stopTokenIds: [], onEvent: () => undefined };
    const work = new GenerationWork(request, start);
    const [lease, attempt] = [leaseId(`lease_${padded(at)}`), attemptId(`att_${padded(at)}`)];
    const where = { leaseId: lease, attemptId: attempt, nodeId: nodeNamed(node), replicaId: replicaNamed(node) };
    const leased = this.leases.leasedOn(where.replicaId);
    const seen = { versionSeen: 1, versionNow: 1, slotsLeasedSeen: leased, slotsNow: 1_000 };
    const granted = this.leases.grant({ ...where, nowMs: 0, ttlMs: 1_000 }, seen);
    if (!granted.ok) throw new Error(granted.reason);
    this.running.began(work, work.begin({ lease: granted.value, nodePublicKeyHex: "", nowMs: 0 }));
    return work;
  }
}

function nodeOf(at: number) {
  return nodeFact(at, at === SHARED ? { devices: [gpuOf(24 * GB)] } : {});
}

const FINISHED = { ending: "finished" as const, detail: null, statement: { json: "{}", signatureHex: "" } };
const MOVED = { ending: "moved" as const, detail: "elsewhere", statement: null, isNodeTold: false };

describe("nodes that take no background work", () => {
  test("law: small ones on which somebody else's work runs, and those with as much background as they may have; no others", () => {
    const event = fc.record({
      kind: fc.constantFrom("begin", "begin", "end", "revoke"),
      node: fc.constantFrom(0, 1, SHARED),
      isBackground: fc.boolean(),
      which: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const desk = new Desk();
        const live: { work: GenerationWork; node: number }[] = [];
        for (const { kind, node, isBackground, which } of events) {
          if (kind === "begin") {
            live.push({ work: desk.begin(node, isBackground), node });
          } else {
            const [gone] = live.splice(which % Math.max(1, live.length), 1);
            if (gone === undefined) continue;
            if (kind === "end") desk.running.end(gone.work, FINISHED);
            else desk.running.revoke(gone.work, MOVED);
          }
          const kept = [0, 1].filter((small) => {
            const here = live.filter((one) => one.node === small);
            const guests = here.filter(({ work }) => work.isBackground).length;
            return guests < here.length || guests >= BACKGROUND_SLOTS_MAX;
          });
          expect([...desk.running.keptNodes].sort()).toEqual(kept.map(nodeNamed).sort());
          expect(desk.running.size).toBe(live.length);
          expect(desk.running.works()).toEqual(live.map(({ work }) => work));
          const used = [0, 1].filter((small) => live.some((one) => one.node === small && !one.work.isBackground));
          expect([0, 1, SHARED].filter((one) => desk.running.isUsed(nodeNamed(one)))).toEqual(used);
        }
      }),
    );
  });
});

describe("an attempt", () => {
  test("is found by its lease while it runs, and by nothing after", () => {
    const desk = new Desk();
    const work = desk.begin(0, false);
    const lease = work.current?.lease.leaseId ?? "";
    expect(desk.running.under(lease)).toBe(work);
    desk.running.end(work, FINISHED);
    expect(desk.running.under(lease)).toBeNull();
    expect(desk.leases.leasedOn(replicaNamed(0))).toBe(0);
  });

  test("that ended whole tells how fast its node is, unless its engine held it back on the way", () => {
    const desk = new Desk(true);
    const [free, held] = [desk.begin(0, true), desk.begin(0, true)];
    if (held.current !== null) held.current.wasHeldBack = true;
    const freeLease = free.current?.lease.leaseId;
    desk.running.end(free, FINISHED);
    desk.running.end(held, FINISHED);
    expect(desk.efforts).toEqual([freeLease]);
  });
});
