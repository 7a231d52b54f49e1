/** Nodes that say absurd things of themselves: where they stand, how fast they are, what lies on their disks. Virtual time. */
import { describe, expect, test } from "vitest";
import { GridIndex } from "../src/coordinator/dispatch/grid-index.ts";
import { SlotTimes, slotWorth } from "../src/scheduler/admission/slot-times.ts";
import { MatchScratch, matchReplica } from "../src/scheduler/matching/match.ts";
import { seedOf, UNCONSTRAINED } from "../src/scheduler/matching/match-request.ts";
import { nodeCapabilitiesSchema, WIRE_BOUNDS } from "../src/wire/agent-link.ts";
import { DispatchGrid, startsAt } from "./support/dispatch-grid.ts";
import { CAPABILITIES } from "./support/membership-grid.ts";
import { nodeFact, readyReplica } from "./support/placement-samples.ts";

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
      const request = {
        modelId: replica.modelId,
        tokensNeeded: 10,
        remainingMs: 1_000,
        excludedNodeIds: new Set<never>(),
        hint: null,
        callerRegion: null,
        constraints: { ...UNCONSTRAINED, regions: [`r${round}`] },
        seed: seedOf("seed"),
      };
      const found = matchReplica(index, request, scratch);
      expect(found === -1 ? null : index.replicas.ids.key(found)).toBe(replica.replicaId);
    }
  });
});
