/** Who has which chunks and who may fetch them from whom: the real registry and real memberships, on a simulated network. */
import { describe, expect, test } from "vitest";
import { IDLE_CLAIM_MAX } from "../src/coordinator/weights/claim-answer.ts";
import { GRANT_RENEW_MS } from "../src/coordinator/weights/grants.ts";
import { DROPPED_PER_BREACH, MESSAGES_BURST_MAX } from "../src/coordinator/weights/message-budget.ts";
import { assert } from "../src/domain/assert.ts";
import { toHex } from "../src/domain/hex.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { GRANT_TTL_MS } from "../src/domain/peer.ts";
import { RELAYED_MS } from "../src/scheduler/network/link-table.ts";
import { type AgentUnderTest, replica } from "./support/membership-grid.ts";
import { CHUNKS, WeightsGrid } from "./support/weights-grid.ts";

async function gridOf(count: number, options: Parameters<WeightsGrid["nodes"]>[1] = {}) {
  const weights = new WeightsGrid();
  await weights.grid.start();
  return { weights, agents: await weights.nodes(count, options) };
}

function pick(agents: readonly AgentUnderTest[], index: number): AgentUnderTest {
  const agent = agents[index];
  assert(agent !== undefined, `there is an agent ${index}`);
  return agent;
}

describe("holders", () => {
  test("are named with what they have of what is needed, and with a grant for these two and these weights", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(ann, [
      [0, 10],
      [20, 4],
    ]);
    await weights.want(ben, [[5, 17]]);
    const named = weights.holders(ben).get(ann.nodeId);
    expect(named).toMatchObject({
      publicKey: toHex(ann.keyPair.publicKey),
      endpoints: { tcp: [{ host: "10.0.0.1", port: 4_000 }], hasUdp: false },
      runs: [
        [5, 5],
        [20, 2],
      ],
    });
    const grant = weights.grant(named?.grant);
    expect(grant).toMatchObject({
      weightsSha256: weights.sha256,
      fetcherKeyHex: toHex(ben.keyPair.publicKey),
      holderKeyHex: toHex(ann.keyPair.publicKey),
    });
    expect(grant.expiresAtMs - grant.issuedAtMs).toBe(GRANT_TTL_MS);
  });

  test("are told again when others get chunks, at most twice a second, until all is there", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.want(ben);
    for (let chunk = 1; chunk <= 20; chunk++) await weights.have(ann, [[0, chunk]]);
    await weights.grid.run(1_000);
    expect(weights.holders(ben).get(ann.nodeId)?.runs).toEqual([[0, 20]]);
    const times = weights.told(ben, "weights.holders").length;
    expect(times).toBeGreaterThan(2);
    expect(times).toBeLessThan(6);
    weights.say(ben, { type: "weights.done", weightsSha256: weights.sha256 });
    await weights.have(ann, [[0, 24]]);
    await weights.grid.run(2_000);
    expect(weights.told(ben, "weights.holders")).toHaveLength(times);
  });

  test("that were met over the relay only are not named for a while: the source gives what they have", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(ann, [[0, CHUNKS]]);
    await weights.want(ben);
    expect(weights.holders(ben).size).toBe(1);
    expect(await weights.claim(ben)).toEqual([]);
    const link = {
      nodeId: ann.nodeId,
      carrier: "relay" as const,
      rttMs: 80,
      lossShare: null,
      bytesPerSecond: 1_000_000,
    };
    weights.say(ben, { type: "peer.links", links: [link] });
    await weights.grid.run(1_000);
    expect(weights.holders(ben).size).toBe(0);
    expect(await weights.claim(ben)).toHaveLength(CHUNKS);
    await weights.grid.run(RELAYED_MS);
    await weights.want(ben);
    expect(weights.holders(ben).size).toBe(1);
  });

  test("that yield, drain, serve nobody or are gone are not named any more", async () => {
    const { weights, agents } = await gridOf(5);
    const [asker, ...holders] = agents;
    assert(asker !== undefined, "there are agents");
    for (const holder of holders) await weights.have(holder, [[0, CHUNKS]]);
    await weights.want(asker);
    expect(weights.holders(asker).size).toBe(4);
    pick(holders, 0).work.yielding = true;
    await weights.grid.settled(weights.grid.registry.drain(pick(holders, 1).nodeId, true));
    await weights.have(pick(holders, 2), [[0, CHUNKS]], { uploadsMax: 0 });
    await weights.grid.run(2_500);
    expect([...weights.holders(asker).keys()]).toEqual([pick(holders, 3).nodeId]);
    const stopping = pick(holders, 3).membership.stop({ drainMs: 0 });
    await weights.grid.run(2_500);
    await weights.grid.settled(stopping);
    expect(weights.holders(asker).size).toBe(0);
  });

  test("come with a new grant before the old one ends, and when a node that lost its link asks again", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    const grants = () =>
      weights.told(ben, "weights.holders").flatMap(({ holders }) => holders.flatMap(({ grant }) => grant ?? []));
    await weights.have(ann, [[0, CHUNKS]]);
    await weights.want(ben);
    await weights.want(ben);
    await weights.grid.run(5_000);
    expect(grants()).toHaveLength(1);
    await weights.grid.run(15_000);
    expect(grants()).toHaveLength(2);
    await weights.grid.run(GRANT_RENEW_MS + 1_000);
    expect(grants()).toHaveLength(3);
    expect(new Set(grants().map((signed) => weights.grant(signed).grantId)).size).toBe(3);
  });
});

describe("claims", () => {
  test("give each chunk to one node, and nothing that a holder could give", async () => {
    const { weights, agents } = await gridOf(4);
    const given: (readonly number[])[] = [];
    for (const agent of agents.slice(0, 3)) await weights.want(agent);
    for (const agent of agents.slice(0, 3)) given.push(await weights.claim(agent, { chunksMax: 8 }));
    expect(given.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: CHUNKS }, (_, chunk) => chunk));
    await weights.have(pick(agents, 3), [[0, CHUNKS]]);
    await weights.have(pick(agents, 0), given[0]?.map((chunk) => [chunk, 1] as const).slice(0, 0) ?? []);
    weights.say(pick(agents, 0), { type: "weights.done", weightsSha256: weights.sha256 });
    expect(await weights.claim(pick(agents, 0))).toEqual([]);
    expect(await weights.claim(pick(agents, 0), { unreachable: [pick(agents, 3).nodeId], chunksMax: 8 })).toHaveLength(
      8,
    );
  });

  test("of nodes without peers stand in nobody's way: each takes all that it needs", async () => {
    const { weights, agents } = await gridOf(2, { isPeer: false });
    for (const agent of agents) {
      expect(await weights.claim(agent, { chunksMax: 10 })).toEqual(Array.from({ length: 10 }, (_, chunk) => chunk));
    }
    const [peer] = await weights.nodes(1);
    assert(peer !== undefined, "there is one");
    expect(await weights.claim(peer)).toHaveLength(CHUNKS);
  });

  test("of a node that is gone go to the next who asks", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.claim(ann);
    expect(await weights.claim(ben)).toEqual([]);
    const stopping = ann.membership.stop({ drainMs: 0 });
    await weights.grid.run(1_000);
    await weights.grid.settled(stopping);
    expect(await weights.claim(ben)).toHaveLength(CHUNKS);
  });

  test("ahead of need get nothing while somebody waits, and little after that", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.want(ann);
    await weights.want(ben, [[0, CHUNKS]], true);
    expect(await weights.claim(ann, { chunksMax: 4 })).toHaveLength(4);
    expect(weights.tracker.isSourceUrgent()).toBe(true);
    expect(await weights.claim(ben)).toEqual([]);
    weights.say(ann, { type: "weights.done", weightsSha256: weights.sha256 });
    await weights.grid.run(11_000);
    expect(await weights.claim(ben)).toHaveLength(IDLE_CLAIM_MAX);
  });

  test("count what came from the source and what from other nodes", async () => {
    const { weights, agents } = await gridOf(1);
    const ann = pick(agents, 0);
    await weights.have(ann, []);
    const given = await weights.claim(ann, { chunksMax: 8 });
    await weights.have(ann, [[Math.min(...given), 4]]);
    weights.say(ann, { type: "weights.done", weightsSha256: weights.sha256 });
    await weights.have(ann, [[Math.min(...given), 8]]);
    expect(weights.tracker.swarms()[0]?.peerChunks).toBe(0);
    await weights.have(ann, [[0, CHUNKS]]);
    expect(weights.tracker.swarms()[0]?.peerChunks).toBe(CHUNKS - 8);
    const [ben, cat] = await weights.nodes(2);
    assert(ben !== undefined && cat !== undefined, "there are two more");
    await weights.want(ben, [[4, 20]]);
    await weights.have(ben, [[0, 7]]);
    await weights.have(cat, [[0, CHUNKS]]);
    expect(weights.tracker.swarms()[0]?.peerChunks).toBe(CHUNKS - 8 + 3);
  });
});

describe("a private model", () => {
  test("is told of to nobody who was not ordered to have it, however well he knows its digest", async () => {
    const { weights, agents } = await gridOf(1);
    await weights.have(pick(agents, 0), [[0, 12]]);
    const [stranger] = await weights.nodes(1, { isOrdered: false });
    assert(stranger !== undefined, "there is a stranger");
    await weights.want(stranger);
    expect(weights.holders(stranger).size).toBe(0);
    expect(await weights.claim(stranger)).toEqual([]);
    expect(weights.tracker.stats()).toMatchObject({ grants: 0, notOrdered: 1 });
    weights.order(stranger.nodeId);
    await weights.want(stranger);
    expect(weights.holders(stranger).size).toBe(1);
  });

  test("is not told of to a node that says that it runs it, and a public one is", async () => {
    for (const isPrivate of [true, false]) {
      const weights = new WeightsGrid({ kind: "hf", repo: "a/b", revision: "c".repeat(40), isPrivate });
      await weights.grid.start();
      const [holder] = await weights.nodes(1);
      const [claimant] = await weights.nodes(1, { isOrdered: false });
      assert(holder !== undefined && claimant !== undefined, "there are two");
      await weights.have(holder, [[0, CHUNKS]]);
      claimant.work.reports = [replica({ state: "loading", weightsSha256: weights.sha256 })];
      await weights.grid.run(2_000);
      await weights.want(claimant);
      expect(weights.holders(claimant).size).toBe(isPrivate ? 0 : 1);
    }
  });

  test("may be fetched on by a node that was ordered to have it and comes back", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(ann, [[0, CHUNKS]]);
    const stopping = ben.membership.stop({ drainMs: 0 });
    await weights.grid.run(1_000);
    await weights.grid.settled(stopping);
    const back = weights.grid.agent({ keyPair: ben.keyPair });
    back.membership.start();
    await weights.grid.run(1_000);
    weights.say(back, { type: "peer.endpoints", endpoints: { tcp: [], hasUdp: true } });
    await weights.want(back);
    expect(weights.grant(weights.holders(back).get(ann.nodeId)?.grant).fetcherKeyHex).toBe(
      toHex(ben.keyPair.publicKey),
    );
  });

  test("may be fetched on after the coordinator started again, by those who were ordered to have it and nobody else", async () => {
    const { weights, agents } = await gridOf(1);
    const ann = pick(agents, 0);
    const [stranger] = await weights.nodes(1, { isOrdered: false });
    assert(stranger !== undefined, "there is a stranger");
    await weights.want(ann);
    expect(await weights.claim(ann, { chunksMax: 4 })).toHaveLength(4);
    await weights.grid.run(3_000);
    await weights.restart();
    expect(weights.tracker.isOrdered(ann.nodeId, weights.sha256)).toBe(false);
    for (const node of [ann, stranger]) {
      weights.say(node, { type: "peer.endpoints", endpoints: { tcp: [], hasUdp: true } });
      await weights.want(node);
    }
    expect(await weights.claim(ann, { chunksMax: 4 })).toHaveLength(4);
    expect(await weights.claim(stranger)).toEqual([]);
  });

  test("is nobody's when the operator removes it", async () => {
    const { weights, agents } = await gridOf(1);
    const ann = pick(agents, 0);
    await weights.have(ann, [[0, 1]]);
    expect(weights.tracker.isOrdered(ann.nodeId, weights.sha256)).toBe(true);
    weights.isServed = false;
    weights.tracker.forgetModels(() => false);
    await weights.want(ann);
    expect(weights.tracker.isOrdered(ann.nodeId, weights.sha256)).toBe(false);
    expect(weights.tracker.swarms()).toEqual([]);
  });
});

describe("a hostile node", () => {
  test("that names chunks beyond the model, or a million, breaks the protocol", async () => {
    const { weights, agents } = await gridOf(1);
    const ann = pick(agents, 0);
    await weights.have(ann, [[0, 1]]);
    await weights.have(ann, [[0, 1_000_000]]);
    await weights.want(ann, [[CHUNKS, 1]]);
    expect(weights.tracker.swarms()[0]?.holdings.get(ann.nodeId)?.have.size).toBe(1);
    weights.say(ann, {
      type: "weights.claim",
      weightsSha256: weights.sha256,
      need: [[0, 1_000_000]],
      chunksMax: 256,
      unreachable: [],
    });
    await weights.grid.run(100);
    expect(weights.grid.registry.stats().breaches).toBe(3);
    expect(weights.grid.stateOf(ann.nodeId)).toBe("offline");
    expect(weights.tracker.swarms()[0]?.holdings.size).toBe(0);
  });

  test("that floods is not answered beyond its budget, and is reported for it", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(ann, [[0, CHUNKS]]);
    for (let round = 0; round < MESSAGES_BURST_MAX + DROPPED_PER_BREACH + 50; round++) {
      weights.say(ben, { type: "weights.want", weightsSha256: weights.sha256, need: [[0, CHUNKS]], isIdle: false });
    }
    await weights.grid.run(2_000);
    expect(weights.tracker.stats().droppedMessages).toBeGreaterThan(DROPPED_PER_BREACH);
    expect(weights.grid.registry.stats().breaches).toBe(1);
    expect(weights.told(ben, "weights.holders").length).toBeLessThan(8);
    expect(weights.tracker.stats().grants).toBe(1);
  });

  test("that asks about weights of no model costs no reading, and gets nothing", async () => {
    const { weights, agents } = await gridOf(1);
    const ann = pick(agents, 0);
    const before = weights.reads;
    for (let index = 0; index < 50; index++) {
      const weightsSha256 = sha256Hex(index.toString(16).padStart(64, "0"));
      weights.say(ann, { type: "weights.want", weightsSha256, need: [[0, 1]], isIdle: false });
    }
    await weights.grid.run(500);
    expect([weights.reads - before, weights.tracker.swarms().length]).toEqual([0, 0]);
  });

  test("that lies about what it has is passed over by those who failed there, and the source gives", async () => {
    const { weights, agents } = await gridOf(2);
    const [liar, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(liar, [[0, CHUNKS]]);
    await weights.want(ben);
    expect(await weights.claim(ben)).toEqual([]);
    weights.say(ben, {
      type: "peer.report",
      nodeId: liar.nodeId,
      weightsSha256: weights.sha256,
      code: "bad-chunk",
      detail: "chunk 3",
    });
    await weights.grid.run(1_000);
    expect(weights.holders(ben).size).toBe(0);
    expect(await weights.claim(ben)).toHaveLength(CHUNKS);
  });

  test("is named to nobody after three have reported it, and one liar does not do that to an honest one", async () => {
    const { weights, agents } = await gridOf(6);
    const [bad, honest, ...others] = agents;
    assert(bad !== undefined && honest !== undefined, "there are six");
    const liar = pick(others, 3);
    for (const holder of [bad, honest]) await weights.have(holder, [[0, CHUNKS]]);
    for (const asker of others) await weights.want(asker);
    const report = (by: AgentUnderTest, about: AgentUnderTest) =>
      weights.say(by, {
        type: "peer.report",
        nodeId: about.nodeId,
        weightsSha256: weights.sha256,
        code: "bad-chunk",
        detail: "",
      });
    for (let round = 0; round < 20; round++) report(liar, honest);
    for (const by of others.slice(0, 3)) report(by, bad);
    await weights.grid.run(2_000);
    const nowMs = weights.grid.clock.monoMs();
    expect(weights.tracker.reports.quarantined(nowMs).map(({ nodeId }) => nodeId)).toEqual([bad.nodeId]);
    expect([...weights.holders(pick(others, 0)).keys()]).toEqual([honest.nodeId]);
    expect(weights.holders(liar).size).toBe(0);
  });

  test("cannot report whom it was never sent to", async () => {
    const { weights, agents } = await gridOf(2);
    const [ann, ben] = [pick(agents, 0), pick(agents, 1)];
    await weights.have(ann, [[0, CHUNKS]]);
    weights.say(ben, {
      type: "peer.report",
      nodeId: ann.nodeId,
      weightsSha256: weights.sha256,
      code: "bad-chunk",
      detail: "",
    });
    await weights.grid.run(500);
    expect(weights.tracker.reports.stats()).toMatchObject({ unfounded: 1, reports: { "bad-chunk": 0 } });
  });
});
