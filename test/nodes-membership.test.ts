/** Nodes that join, fall silent, come back and leave, in virtual time: the real registry and the real membership. */
import { beforeEach, describe, expect, test } from "vitest";
import { LIVENESS } from "../src/domain/node.ts";
import { LINK_CLOSE } from "../src/ports/link.ts";
import { type AgentUnderTest, GRID_ID, MembershipGrid, replica } from "./support/membership-grid.ts";

let grid: MembershipGrid;

beforeEach(async () => {
  grid = new MembershipGrid();
  await grid.start();
});

const lastStatus = (agent: AgentUnderTest) => agent.statuses.at(-1);

/** Runs until the state is reached and answers how long that took. */
async function msUntil(isReached: () => boolean, withinMs: number): Promise<number> {
  const startMs = grid.timeline.nowMs;
  while (!isReached()) {
    if (grid.timeline.nowMs - startMs > withinMs) throw new Error(`not reached within ${withinMs} ms`);
    await grid.run(10);
  }
  return grid.timeline.nowMs - startMs;
}

describe("joining", () => {
  test("an agent with a join token becomes a node that the roster shows, and is known afterwards without a token", async () => {
    const agent = await grid.onlineAgent();
    await grid.run(1_100);
    const view = grid.registry.node(agent.nodeId);
    expect(view).toMatchObject({ state: "online", isYielding: false, name: agent.host.name });
    expect(view?.rttMs ?? null).not.toBeNull();
    expect(lastStatus(agent)).toEqual({ kind: "online", nodeId: agent.nodeId, gridId: GRID_ID });
    expect(agent.work.line?.nodeId).toBe(agent.nodeId);

    await agent.membership.stop({ drainMs: 0 });
    await grid.run(100);
    expect(grid.stateOf(agent.nodeId)).toBe("offline");

    const again = grid.agent({ keyPair: agent.keyPair, joinToken: null });
    again.membership.start();
    await grid.run(500);
    expect(grid.stateOf(agent.nodeId)).toBe("online");
  });

  test("nodes outlive a coordinator that is killed: they come back by themselves under the next boot number", async () => {
    const agents = await grid.onlineAgents(20);
    await grid.restart({ downMs: 3_000 });
    await grid.run(12_000);
    for (const agent of agents) {
      expect(grid.stateOf(agent.nodeId)).toBe("online");
      expect(agent.work.line?.welcome.boot).toBe(2);
      expect(agent.work.linesDown).toBe(1);
    }
  });

  test("agents that lost the coordinator at one moment do not all come back at one moment", async () => {
    const agents = await grid.onlineAgents(50);
    await grid.restart({ downMs: 100 });
    await grid.run(30_000);
    const online = grid.events.filter(({ text }) => text.startsWith("online")).slice(-agents.length);
    const spreadMs = (online.at(-1)?.atMs ?? 0) - (online[0]?.atMs ?? 0);
    expect(online).toHaveLength(50);
    expect(spreadMs).toBeGreaterThan(100);
  });

  test("the roster is sorted by node id and holds each node once", async () => {
    await grid.onlineAgents(10);
    const ids = grid.registry.nodes().map(({ nodeId }) => nodeId);
    expect(ids).toEqual([...new Set(ids)].sort());
  });

  test("a node that connects again takes the place of its own old link, which is told so", async () => {
    const first = await grid.onlineAgent();
    const second = grid.agent({ keyPair: first.keyPair, joinToken: null });
    second.membership.start();
    await grid.run(1_000);
    expect(grid.registry.nodes()).toHaveLength(1);
    expect(grid.stateOf(first.nodeId)).toBe("online");
    expect(lastStatus(first)).toMatchObject({ kind: "refused", code: "identity-in-use" });
    expect(lastStatus(second)).toMatchObject({ kind: "online" });
    expect(grid.eventsOf(first.nodeId)).toEqual(["online", "gone: the node opened a newer link", "online"]);
  });
});

describe("silence", () => {
  test("a killed agent is gone at once, because its link closes", async () => {
    const agent = await grid.onlineAgent();
    agent.host.kill({ isPowerLoss: false });
    grid.internet.drop(agent.host.name, { isPowerLoss: false });
    expect(await msUntil(() => grid.stateOf(agent.nodeId) === "offline", 1_000)).toBeLessThanOrEqual(20);
  });

  test("a frozen agent is suspected within 3 s and out of every plan within 5 s, and not before", async () => {
    const agent = await grid.onlineAgent();
    for (let round = 0; round < 5; round++) {
      await grid.run(137);
      agent.host.freeze();
      const lastHeardMs = grid.registry.node(agent.nodeId)?.lastMessageMonoMs ?? 0;
      await msUntil(() => grid.stateOf(agent.nodeId) === "suspect", 3_000);
      const suspectedAfterMs = grid.clock.monoMs() - lastHeardMs;
      expect(suspectedAfterMs).toBeGreaterThanOrEqual(LIVENESS.suspectMs);
      expect(suspectedAfterMs).toBeLessThanOrEqual(3_000);
      await msUntil(() => grid.stateOf(agent.nodeId) === "offline", 5_000);
      expect(grid.clock.monoMs() - lastHeardMs).toBeLessThanOrEqual(5_000);
      agent.host.thaw();
      await grid.run(3_000);
      expect(grid.stateOf(agent.nodeId)).toBe("online");
    }
  });

  test("an agent that is frozen for less than the bound is only suspected, and comes back with its link", async () => {
    const agent = await grid.onlineAgent();
    agent.host.freeze();
    await msUntil(() => grid.stateOf(agent.nodeId) === "suspect", 3_000);
    agent.host.thaw();
    await grid.run(200);
    expect(grid.stateOf(agent.nodeId)).toBe("online");
    expect(agent.work.linesUp).toBe(1);
    expect(grid.eventsOf(agent.nodeId)).toEqual(["online", "suspect", "online"]);
  });

  test("a coordinator that was itself frozen blames no node", async () => {
    const agents = await grid.onlineAgents(5);
    grid.coordinator.freeze();
    await grid.run(3_500);
    grid.coordinator.thaw();
    await grid.run(3_000);
    for (const { nodeId } of agents) {
      expect(grid.eventsOf(nodeId)).toEqual(["online"]);
    }
  });

  test("an agent whose packets vanish notices it by itself and dials until it is back", async () => {
    const agent = await grid.onlineAgent();
    grid.network.cut(agent.host.name, "coordinator");
    grid.network.cut("coordinator", agent.host.name);
    await grid.run(6_000);
    expect(lastStatus(agent)?.kind).not.toBe("online");
    expect(grid.stateOf(agent.nodeId)).toBe("offline");
    await grid.run(60_000);
    grid.network.healAll();
    await grid.run(45_000);
    expect(grid.stateOf(agent.nodeId)).toBe("online");
  });

  test("wall clocks that jump by years change nothing but the warning", async () => {
    const agent = await grid.onlineAgent();
    agent.clock.stepWall(3 * 365 * 86_400_000);
    await grid.run(5_000);
    expect(grid.eventsOf(agent.nodeId)).toEqual(["online"]);
    expect(grid.registry.node(agent.nodeId)?.warnings?.[0]).toMatch(/clock is \d+ s ahead.*NTP/);
    agent.clock.stepWall(-3 * 365 * 86_400_000);
    grid.clock.stepWall(-20 * 86_400_000);
    await grid.run(5_000);
    expect(grid.eventsOf(agent.nodeId)).toEqual(["online"]);
    grid.clock.stepWall(20 * 86_400_000);
    await grid.run(2_000);
    expect(grid.registry.node(agent.nodeId)?.warnings).toEqual([]);
  });
});

describe("a frame that is long on its way", () => {
  test("keeps its sender alive while its bytes come in, and no longer", async () => {
    const agent = await grid.agentOnSlowLine();
    agent.membership.start();
    await grid.run(1_000);
    expect(grid.stateOf(agent.nodeId)).toBe("online");
    // Heartbeats wait behind the frame; only bytes of it arrive.
    agent.host.freeze();
    for (let spentMs = 0; spentMs < 20_000; spentMs += 500) {
      grid.addReceivedBytes(10_000);
      await grid.run(500);
      expect(grid.stateOf(agent.nodeId)).toBe("online");
    }
    expect(await msUntil(() => grid.stateOf(agent.nodeId) === "suspect", 3_000)).toBeGreaterThan(2_000);
    await msUntil(() => grid.stateOf(agent.nodeId) === "offline", 5_000);
  });
});

describe("orders and wishes", () => {
  test("a drain is told to the node, kept over a restart, and lifted", async () => {
    const agent = await grid.onlineAgent();
    const before = grid.registry.version;
    expect(await grid.settled(grid.registry.drain(agent.nodeId, true))).toBe(true);
    expect(grid.stateOf(agent.nodeId)).toBe("draining");
    expect(grid.registry.version).toBeGreaterThan(before);
    expect(agent.work.orders).toEqual([{ type: "node.drain", isDraining: true }]);
    await grid.restart({ downMs: 100 });
    await grid.run(5_000);
    expect(grid.stateOf(agent.nodeId)).toBe("draining");
    expect(agent.work.orders).toHaveLength(2);
    await grid.settled(grid.registry.drain(agent.nodeId, false));
    expect(grid.stateOf(agent.nodeId)).toBe("online");
    expect(grid.eventsOf(agent.nodeId)).toEqual(["online", "withdrawn drain", "withdrawn drain", "online"]);
  });

  test("a removed node is cut, is in no view, and is refused for good with its key", async () => {
    const agent = await grid.onlineAgent();
    expect(await grid.settled(grid.registry.remove(agent.nodeId))).toBe(true);
    await grid.run(100);
    expect(grid.registry.nodes()).toEqual([]);
    expect(lastStatus(agent)).toMatchObject({ kind: "refused", code: "node-removed" });
    const again = grid.agent({ keyPair: agent.keyPair, joinToken: await grid.token() });
    again.membership.start();
    await grid.run(500);
    expect(lastStatus(again)).toMatchObject({ kind: "refused", code: "node-removed" });
    expect(await grid.settled(grid.registry.remove(agent.nodeId))).toBe(false);
  });

  test("an owner who comes back withdraws the node with the next heartbeat, or at once", async () => {
    const agent = await grid.onlineAgent();
    agent.work.yielding = true;
    agent.membership.beatNow();
    await grid.run(20);
    expect(grid.registry.node(agent.nodeId)).toMatchObject({ state: "online", isYielding: true });
    agent.work.yielding = false;
    await grid.run(1_100);
    expect(grid.registry.node(agent.nodeId)).toMatchObject({ state: "online", isYielding: false });
    expect(grid.eventsOf(agent.nodeId)).toEqual(["online", "withdrawn yield", "online"]);
  });

  test("an agent that leaves finishes its attempts first, and takes no new ones meanwhile", async () => {
    const agent = await grid.onlineAgent();
    agent.work.reports = [replica({ slotsBusy: 1 })];
    const stopped = agent.membership.stop({ drainMs: 10_000 });
    await grid.run(3_000);
    expect(grid.stateOf(agent.nodeId)).toBe("draining");
    agent.work.reports = [replica({ slotsBusy: 0 })];
    await grid.settled(stopped, 1_000);
    await grid.run(20);
    expect(grid.stateOf(agent.nodeId)).toBe("offline");
    expect(grid.eventsOf(agent.nodeId).at(-1)).toBe("gone: the node said goodbye: the agent stops");
    expect(lastStatus(agent)).toEqual({ kind: "stopped" });
  });

  test("an agent that leaves waits for its attempts no longer than it was told", async () => {
    const agent = await grid.onlineAgent();
    agent.work.reports = [replica({ slotsBusy: 1 })];
    const stopped = agent.membership.stop({ drainMs: 2_000 });
    await grid.run(1_800);
    expect(grid.stateOf(agent.nodeId)).toBe("draining");
    await grid.settled(stopped, 500);
    await grid.run(20);
    expect(grid.stateOf(agent.nodeId)).toBe("offline");
  });

  test("replicas are seen through heartbeats and through states, and only what a plan needs raises the version", async () => {
    const agent = await grid.onlineAgent();
    agent.work.reports = [replica({ state: "loading", progress: 0.1 })];
    await grid.run(1_100);
    expect(grid.registry.node(agent.nodeId)?.replicas).toHaveLength(1);
    const loading = grid.registry.version;
    agent.work.reports = [replica({ state: "loading", progress: 0.7 })];
    await grid.run(1_100);
    expect(grid.registry.version).toBe(loading);
    agent.work.line?.send({ type: "replica.state", replica: replica({ state: "ready" }) });
    agent.work.reports = [replica({ state: "ready" })];
    await grid.run(50);
    expect(grid.registry.version).toBeGreaterThan(loading);
    expect(grid.registry.node(agent.nodeId)?.replicas[0]?.state).toBe("ready");
    agent.work.line?.send({ type: "replica.state", replica: replica({ state: "gone" }) });
    agent.work.reports = [];
    await grid.run(50);
    expect(grid.registry.node(agent.nodeId)?.replicas).toEqual([]);
  });

  test("a coordinator that stops closes every link, and agents wait for the next one", async () => {
    const agent = await grid.onlineAgent();
    grid.registry.stop();
    grid.registry.stop();
    await grid.run(100);
    expect(grid.registry.nodes()[0]?.state).toBe("offline");
    expect(lastStatus(agent)?.kind).not.toBe("refused");
    await grid.run(5_000);
    expect(lastStatus(agent)?.kind).not.toBe("online");
    expect(grid.registry.send(agent.nodeId, { type: "node.drain", isDraining: true })).toBe(false);
    const peer = await grid.peer();
    expect(peer.last).toMatchObject({ type: "refused", code: "coordinator-busy", canRetry: true });
    expect(peer.closed?.code).toBe(LINK_CLOSE.normal);
  });
});
