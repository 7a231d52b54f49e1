/** The ways between nodes: real memberships that report, the book that keeps it, and the plan that is made from it. */
import { describe, expect, test } from "vitest";
import { NodeFacts } from "../src/coordinator/dispatch/node-facts.ts";
import { LinkBook, PLANNED_LINKS_MAX } from "../src/coordinator/network/link-book.ts";
import { assert } from "../src/domain/assert.ts";
import type { NodeId } from "../src/domain/ids.ts";
import { nodeId } from "../src/domain/ids.ts";
import { packGrid } from "../src/scheduler/placement/grid-columns.ts";
import { type AgentUnderTest, MembershipGrid } from "./support/membership-grid.ts";

async function gridOf(count: number) {
  const grid = new MembershipGrid();
  const links = new LinkBook({ roster: grid.registry, clock: grid.clock });
  await grid.start();
  const agents = await grid.onlineAgents(count);
  return { grid, links, agents };
}

type Told = { nodeId: NodeId; rttMs?: number | null; bytesPerSecond?: number | null; lossShare?: number | null };

function report(from: AgentUnderTest, told: readonly Told[]): void {
  from.peers.line?.send({
    type: "peer.links",
    links: told.map(({ nodeId: to, rttMs = null, bytesPerSecond = null, lossShare = null }) => {
      return { nodeId: to, carrier: "tcp", rttMs, bytesPerSecond, lossShare };
    }),
  });
}

function three(agents: readonly AgentUnderTest[]): readonly [AgentUnderTest, AgentUnderTest, AgentUnderTest] {
  const [ann, ben, cat] = agents;
  assert(ann !== undefined && ben !== undefined && cat !== undefined, "there are three");
  return [ann, ben, cat];
}

describe("links between nodes", () => {
  test("are known both ways from one end's report, the bandwidth as it arrived", async () => {
    const { grid, links, agents } = await gridOf(3);
    const [ann, ben, cat] = three(agents);
    report(ann, [{ nodeId: ben.nodeId, rttMs: 42, bytesPerSecond: 9e6, lossShare: 0.01 }]);
    await grid.run(200);
    expect(links.estimate(ben.nodeId, ann.nodeId)).toMatchObject({ rttMs: 42, bytesPerSecond: 9e6, basis: "measured" });
    expect(links.estimate(ann.nodeId, ben.nodeId)).toMatchObject({ rttMs: 42, lossShare: 0.01, basis: "measured" });
    expect(links.estimate(ann.nodeId, cat.nodeId).basis).not.toBe("measured");
    const pairs = links.measured().map(({ from, to }) => [from, to]);
    expect(pairs.toSorted()).toEqual(
      [
        [ann.nodeId, ben.nodeId],
        [ben.nodeId, ann.nodeId],
      ].toSorted(),
    );
  });

  test("reach the plan as they were measured", async () => {
    const { grid, links, agents } = await gridOf(3);
    const [ann, ben] = three(agents);
    report(ann, [{ nodeId: ben.nodeId, rttMs: 0.4, bytesPerSecond: 1.2e9 }]);
    await grid.run(200);
    const facts = new NodeFacts({
      cachedWeights: () => null,
      stayChance: () => null,
      links: (id) => links.factsOf(id),
    });
    const nodes = grid.registry.nodes().map((view) => facts.of(view, grid.clock.monoMs()));
    const packed = packGrid({ version: 1, nodes: new Map(nodes.map((fact) => [fact.nodeId, fact])), replicas: [] });
    const [from, to] = [packed.nodes.ids.indexOf(ben.nodeId), packed.nodes.ids.indexOf(ann.nodeId)];
    const at = [...packed.links.to].findIndex((row, index) => {
      return (
        row === to && index >= (packed.nodes.linkFrom[from] ?? 0) && index < (packed.nodes.linkFrom[from + 1] ?? 0)
      );
    });
    expect([packed.links.rttMs[at], packed.links.bytesPerSecond[at]]).toEqual([0.4, 1.2e9]);
  });

  test("are no more for a plan than it looks at, and none to nodes that are gone", async () => {
    const { grid, links, agents } = await gridOf(PLANNED_LINKS_MAX + 5);
    const [ann, ben] = three(agents);
    report(
      ann,
      agents.slice(1).map((agent) => ({ nodeId: agent.nodeId, rttMs: 10 })),
    );
    await grid.run(200);
    expect(links.factsOf(ann.nodeId)).toHaveLength(PLANNED_LINKS_MAX);
    const stopping = ben.membership.stop({ drainMs: 0 });
    await grid.run(1_000);
    await grid.settled(stopping);
    expect(links.measured().some(({ to }) => to === ben.nodeId)).toBe(false);
  });

  test("of nodes that nobody knows, and floods of reports, change nothing", async () => {
    const { grid, links, agents } = await gridOf(3);
    const [ann, ben] = three(agents);
    report(ann, [
      { nodeId: nodeId(`node_${"f".repeat(32)}`), rttMs: 1 },
      { nodeId: ann.nodeId, rttMs: 1 },
    ]);
    await grid.run(200);
    expect(links.measured()).toEqual([]);
    for (let round = 0; round < 100; round++) report(ann, [{ nodeId: ben.nodeId, rttMs: round + 1 }]);
    await grid.run(200);
    expect(links.stats().dropped).toBeGreaterThan(80);
  });
});
