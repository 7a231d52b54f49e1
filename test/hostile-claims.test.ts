/** Nodes that say absurd things of themselves: where they stand, how fast they are, what lies on their disks. Virtual time. */
import { describe, expect, test } from "vitest";
import { GridIndex } from "../src/coordinator/dispatch/grid-index.ts";
import type { ReplicaId } from "../src/domain/ids.ts";
import { SlotTimes, slotWorth } from "../src/scheduler/admission/slot-times.ts";
import { MatchScratch, matchReplica } from "../src/scheduler/matching/match.ts";
import { type MatchRequest, seedOf, UNCONSTRAINED } from "../src/scheduler/matching/match-request.ts";
import { nodeCapabilitiesSchema, WIRE_BOUNDS } from "../src/wire/agent-link.ts";
import { DispatchGrid, startsAt } from "./support/dispatch-grid.ts";
import { CAPABILITIES } from "./support/membership-grid.ts";
import { nodeFact, readyReplica, replicaNamed } from "./support/placement-samples.ts";

const anyRequest = (name: string): MatchRequest => ({
  modelId: readyReplica(1).modelId,
  tokensNeeded: 10,
  remainingMs: 1_000,
  excludedNodeIds: new Set(),
  hint: null,
  callerRegion: null,
  constraints: UNCONSTRAINED,
  seed: seedOf(name),
});

describe("a node's own word on its speed", () => {
  test("weighs what a slot is worth within a bound: the tenants it serves are not charged for its boast", () => {
    const boast = slotWorth({ slots: 1, decodeTokPerSecond: 1e9 });
    expect(boast).toBeLessThan(10 * slotWorth({ slots: 1, decodeTokPerSecond: 4_160 }));
    expect(slotWorth({ slots: 1, decodeTokPerSecond: 0 })).toBeGreaterThan(0);
    const times = new SlotTimes();
    const { modelId } = readyReplica(1);
    const size = { modelId, promptTokens: 10, outputTokensMax: 100 };
    times.record({
      ...size,
      heldMs: 60_000,
      outputTokens: 100,
      worth: slotWorth({ slots: 1, decodeTokPerSecond: 1e308 }),
    });
    expect(times.expectedCost(size)).toBeLessThan(1e5);
  });

  test.each([1e308, 1e10, -1, Number.NaN, Number.POSITIVE_INFINITY])("is refused at the border at %s", (speed) => {
    const referenceSpeed = { prefillTokPerSecond: 1, decodeTokPerSecond: speed, measuredAtMs: 0 };
    expect(nodeCapabilitiesSchema.safeParse({ ...CAPABILITIES, referenceSpeed }).success).toBe(false);
    const honest = { ...referenceSpeed, decodeTokPerSecond: 4_160 };
    expect(nodeCapabilitiesSchema.safeParse({ ...CAPABILITIES, referenceSpeed: honest }).success).toBe(true);
  });

  // Two of near-equals are drawn, and of two with equal load the better one wins: who wins every draw it is in has twice its share,
  // and who loses each has none.
  test.each([
    { what: "an idle grid", isHeld: false, asked: 2_000, attractedMax: 2 * 100 * 1.2 },
    { what: "a grid that fills up", isHeld: true, asked: 80, attractedMax: 4 + 1 },
  ])("attracts in $what no more than a tie among equals does", ({ isHeld, asked, attractedMax }) => {
    const [nodes, slots, liar] = [20, 8, 7];
    const leases = new Map<ReplicaId, number>();
    const facts = Array.from({ length: nodes }, (_, at) =>
      nodeFact(at, { decodeTokPerSecond: at === liar ? 1e9 : 4_160 }),
    );
    const replicas = facts.map(({ nodeId }, at) => readyReplica(at, { nodeId, slots }));
    const grid = new GridIndex({
      roster: { node: () => null },
      pool: {
        node: (wanted) => facts.find(({ nodeId }) => nodeId === wanted) ?? null,
        onNode: (wanted) =>
          replicas
            .filter(({ nodeId }) => nodeId === wanted)
            .map((replica) => ({ ...replica, slotsLeased: isHeld ? (leases.get(replica.replicaId) ?? 0) : 0 })),
      },
      horizonMs: 3_600_000,
    });
    for (const { nodeId } of facts) grid.mark(nodeId);
    const scratch = new MatchScratch();
    for (let at = 0; at < asked; at++) {
      const index = grid.catchUp();
      const found = index.replicas.ids.key(matchReplica(index, anyRequest(`request ${at}`), scratch));
      const count = (leases.get(found) ?? 0) + 1;
      leases.set(found, count);
      if (isHeld) grid.leased(found, count);
    }
    expect(leases.get(replicaNamed(liar)) ?? 0).toBeLessThanOrEqual(attractedMax);
    expect(leases.size).toBeGreaterThanOrEqual(nodes - 1);
  });
});

describe("a node that fails with long words", () => {
  test("is remembered in few of them", async () => {
    const grid = new DispatchGrid();
    await grid.start();
    const node = await grid.handDrivenNode({ slots: 4 });
    const asked = grid.ask();
    const answered = new Set<string>();
    while (asked.outcome() === null) {
      await grid.run(500);
      for (const { leaseId, epoch } of startsAt(node)) {
        if (answered.has(leaseId)) continue;
        answered.add(leaseId);
        const message = "é".repeat(WIRE_BOUNDS.textMax);
        await node.peer.say({ type: "attempt.failed", leaseId, epoch, code: "engine-closed", message });
      }
    }
    expect(answered.size).toBeGreaterThan(2);
    expect(asked.outcome()).toMatchObject({ kind: "failed" });
    const explained = grid.dispatcher.matchLog.explains.find(asked.request.terms.requestId);
    expect(explained?.choices[0]?.attempts.length).toBe(answered.size);
    const longest = [...JSON.stringify(explained).matchAll(/"([^"]*)"/g)].map(([, text = ""]) => text.length);
    expect(Math.max(...longest)).toBeLessThan(210);
  });
});

describe("a node that comes back under ever new names", () => {
  test("does not make the matching index grow, and is found under the newest of them", () => {
    let round = 0;
    const fact = () => {
      const name = `r${round}`;
      return nodeFact(1, { region: name, owner: name, network: name });
    };
    const { nodeId } = fact();
    const replica = readyReplica(1, { nodeId });
    const grid = new GridIndex({
      roster: { node: () => null },
      pool: { node: () => fact(), onNode: () => [replica] },
      horizonMs: 3_600_000,
    });
    const scratch = new MatchScratch();
    for (; round < 2_500; round++) {
      grid.mark(nodeId);
      const index = grid.catchUp();
      expect(index.nodes.regions.size).toBeLessThan(200);
      expect(index.nodes.owners.size).toBeLessThan(2_000);
      const constraints = { ...UNCONSTRAINED, regions: [`r${round}`] };
      const request = { ...anyRequest("request"), constraints };
      const found = matchReplica(index, request, scratch);
      expect(found === -1 ? null : index.replicas.ids.key(found)).toBe(replica.replicaId);
    }
  });
});
