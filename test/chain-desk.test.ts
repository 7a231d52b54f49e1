/** Chains on the coordinator: the real registry, planner, dispatcher and desk, with scripted stages, in virtual time. */
import { beforeEach, describe, expect, test } from "vitest";
import { assert } from "../src/domain/assert.ts";
import { replicaId as asReplicaId } from "../src/domain/ids.ts";
import { counted, LAYERS, StageGrid } from "./support/chain-desk-grid.ts";
import { LOAD_MS } from "./support/chain-desk-stages.ts";

let grid: StageGrid;

async function gridOf(count: number, options: ConstructorParameters<typeof StageGrid>[0] = { chainSpares: 0 }) {
  grid = new StageGrid(options);
  await grid.start();
  await grid.addNodes(count);
  await grid.untilServing();
}

const others = () =>
  grid.nodes.filter((node) => grid.chain()?.stages.every(({ holder }) => holder?.nodeId !== node.nodeId));

describe("a chain that nothing disturbs", () => {
  beforeEach(() => gridOf(3));

  test("has every layer once, on nodes of its own, and each stage was told of all with keys and addresses", () => {
    const chain = grid.chain();
    const stages = chain?.stages ?? [];
    expect(stages.map(({ first }) => first)).toEqual(
      stages.map((_, at) => stages.slice(0, at).reduce((sum, { count }) => sum + count, 0)),
    );
    expect(stages.reduce((sum, { count }) => sum + count, 0)).toBe(LAYERS);
    expect(new Set(stages.map(({ holder }) => holder?.nodeId)).size).toBe(3);
    for (const [at, stage] of stages.entries()) {
      const set = grid.holder(at).work.chain(stage.holder?.replicaId ?? "");
      expect(set).toMatchObject({ chainId: chain?.chainId, chainEpoch: chain?.epoch });
      expect(set?.stages.map(({ replicaId }) => replicaId)).toEqual(stages.map(({ holder }) => holder?.replicaId));
      expect(set?.stages.map(({ publicKey }) => publicKey)).toEqual(
        stages.map(({ holder }) => grid.registry.nodes().find(({ nodeId }) => nodeId === holder?.nodeId)?.publicKeyHex),
      );
      expect(set?.stages.map(({ endpoints }) => endpoints.tcp[0]?.port)).toEqual(
        stages.map((_, other) => grid.holder(other).work.port),
      );
    }
  });

  test("its last stage alone is a replica; the others hold memory and take no lease", () => {
    const facts = grid.dispatcher.pool.replicas();
    expect(facts).toHaveLength(3);
    expect(grid.dispatcher.pool.ready(grid.model.manifest.modelId).map(({ replicaId }) => replicaId)).toEqual([
      grid.replicaAt(-1),
    ]);
    expect(facts.filter(({ stage }) => stage?.isLast === true)).toHaveLength(1);
    expect(facts.every(({ memoryBytes }) => memoryBytes > 1e9)).toBe(true);
  });

  test("both ends get the same attempt under their own replica, the last one streams, and the record names all", async () => {
    const asked = grid.ask({ tokensMax: 20 });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.outcome()).toEqual({ kind: "end", reason: "length" });
    expect(asked.tokenIds()).toEqual(counted(20));
    const starts = [0, 1, 2].map((at) => grid.holder(at).work.of("attempt.start"));
    expect(starts.map(({ length }) => length)).toEqual([1, 0, 1]);
    expect(starts[0]?.[0]).toEqual({ ...starts[2]?.[0], replicaId: grid.replicaAt(0) });
    expect(starts[2]?.[0]?.replicaId).toBe(grid.replicaAt(-1));
    const [record] = asked.generation.attempts();
    expect(record?.nodeId).toBe(grid.holder(-1).nodeId);
    expect(record?.stages).toEqual(
      grid.chain()?.stages.map(({ holder, count }) => ({ nodeId: holder?.nodeId, layers: count })),
    );
    expect(grid.dispatcher.stats()).toMatchObject({ breaches: 0 });
  });

  test("a cancel goes to both ends", async () => {
    const asked = grid.ask({ tokensMax: 500 });
    await grid.until(() => asked.tokenIds().length > 3, "some tokens");
    void asked.generation.finish("cancelled");
    await grid.run(200);
    expect([0, 1, 2].map((at) => grid.holder(at).work.of("attempt.cancel").length)).toEqual([1, 0, 1]);
  });

  test("tells what its stages measured, and the planner how long a token takes", async () => {
    for (const [at, stage] of (grid.chain()?.stages ?? []).entries()) {
      grid.holder(at).work.say(stage.holder?.replicaId ?? "", true);
    }
    await grid.run(100);
    const chain = grid.chain();
    expect(chain).toMatchObject({ loopMs: 120, drafted: 10, accepted: 4, repairs: 0 });
    expect(chain?.stages.map(({ times }) => times?.nextRttMs)).toEqual([40, 40, 40]);
    const tail = grid.dispatcher.pool.replicas().find(({ stage }) => stage?.isLast === true);
    expect(tail?.stage?.loopMs).toBe(120);
  });

  test("the first stage is told the times of all in the epoch that it knows, and again when they change", async () => {
    const talk = () =>
      grid.nodes.flatMap(({ work }) => work.replicas().map(({ replicaId }) => work.say(replicaId, true)));
    const head = grid.holder(0);
    const { epoch } = grid.chain() ?? {};
    const told = () =>
      head.work
        .of("chain.set")
        .flatMap(({ times, chainEpoch }) => (times === undefined ? [] : [{ ...times, chainEpoch }]));
    talk();
    await grid.run(1_000);
    expect(told()).toEqual([{ slowestMs: 3, sumMs: 9, chainEpoch: epoch }]);
    grid.holder(1).work.singleMs = 5;
    for (let second = 0; second < 25; second++) {
      talk();
      await grid.run(1_000);
    }
    expect(told().slice(1)).toEqual([{ slowestMs: 5, sumMs: 11, chainEpoch: epoch }]);
    expect(
      grid
        .holder(1)
        .work.of("chain.set")
        .every(({ times }) => times === undefined),
    ).toBe(true);
    expect(grid.chain()).toMatchObject({ state: "serving", epoch });
  });

  test("what a first stage fails is its chain's failure: the stream goes on there", async () => {
    const asked = grid.ask({ tokensMax: 40 });
    await grid.until(() => asked.tokenIds().length > 5, "some tokens");
    const head = grid.holder(0).work;
    const [start] = head.of("attempt.start");
    assert(start !== undefined, "the first stage was told of the attempt");
    head.fail(start, "chain-gap");
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(40));
    expect(asked.generation.attempts().map(({ ending }) => ending)).toEqual(["moved", "finished"]);
    expect(grid.dispatcher.stats().breaches).toBe(0);
  });

  test("tokens that a first stage sends are a breach, and none of the answer", async () => {
    const asked = grid.ask({ tokensMax: 40 });
    await grid.until(() => asked.tokenIds().length > 5, "some tokens");
    const head = grid.holder(0).work;
    const [start] = head.of("attempt.start");
    assert(start !== undefined, "the first stage was told of the attempt");
    const { leaseId, epoch } = start;
    head.line?.send({ type: "attempt.chunks", chunks: [{ leaseId, epoch, seq: 6, tokenIds: [9], details: null }] });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(40));
    expect(grid.dispatcher.stats().breaches).toBe(1);
  });

  test("idle or removed, all its stages go", async () => {
    const { work } = grid.holder(0);
    expect(grid.chains.unload(asReplicaId(grid.replicaAt(-1)), "idle")).toBe(true);
    await grid.run(50);
    expect(work.of("replica.unload")).toHaveLength(1);
    expect(grid.nodes.flatMap((node) => node.work.replicas())).toEqual([]);
    expect(grid.chain()).toBeNull();
  });
});

describe("a stage is lost", () => {
  test.each([0, 1, 2])(
    "place %i: a hot spare takes it at once, survivors load nothing, and the stream goes on",
    async (at) => {
      await gridOf(6, { chainSpares: 3 });
      await grid.until(
        () => grid.chains.spares().filter(({ state }) => state === "ready").length === 3,
        "three spares",
      );
      const asked = grid.ask({ tokensMax: 80 });
      await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
      const survivors = [0, 1, 2].filter((place) => place !== at).map((place) => grid.holder(place));
      const loads = survivors.map(({ work }) => work.of("replica.load").length);
      const lostAtMs = grid.timeline.nowMs;
      grid.kill(grid.holder(at));
      await grid.until(() => asked.tokenIds().length === 21, "the next token");
      expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(300);
      await grid.until(() => asked.outcome() !== null, "the answer's end");
      expect(asked.outcome()).toMatchObject({ kind: "end" });
      expect(asked.tokenIds()).toEqual(counted(80));
      expect(survivors.map(({ work }) => work.of("replica.load").length)).toEqual(loads);
      expect(grid.chain()).toMatchObject({ state: "serving", repairs: 1 });
      expect(grid.chains.stats()).toMatchObject({ repairs: 1, repairsBySpare: 1 });
    },
  );

  test("whose engine starts again at once: nobody else loads its layers", async () => {
    await gridOf(4);
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const [node, kept] = [grid.holder(1), grid.replicaAt(1)];
    node.work.accuse(kept, { accused: kept, kind: "engine-lost" });
    node.work.report(kept, { state: "loading" });
    await grid.run(LOAD_MS);
    node.work.report(kept, { state: "ready" });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    expect(grid.replicaAt(1)).toBe(kept);
    expect(others().flatMap(({ work }) => work.of("replica.load"))).toEqual([]);
  });

  test("the only other node holds a spare of another stage: that makes room, and a new spare comes with a new node", async () => {
    await gridOf(4, { chainSpares: 1 });
    await grid.until(() => grid.chains.spares()[0]?.state === "ready", "a spare");
    const [spare] = grid.chains.spares();
    const at = grid.chain()?.stages.findIndex(({ first }) => first !== spare?.first) ?? 0;
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const lostAtMs = grid.timeline.nowMs;
    grid.kill(grid.holder(at));
    await grid.until(() => asked.tokenIds().length === 21, "the next token");
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(LOAD_MS + 300);
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    expect(grid.chain()?.stages[at]?.holder?.nodeId).toBe(spare?.nodeId);
    expect(grid.chains.spares()).toEqual([]);
    const node = await grid.addNode();
    await grid.until(() => grid.chains.spares()[0]?.state === "ready", "another spare");
    expect(grid.chains.spares().map(({ nodeId }) => nodeId)).toEqual([node.nodeId]);
  });

  test("without a spare another node loads it, and nobody but the lost one moves", async () => {
    await gridOf(4);
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const [first, last] = [grid.replicaAt(0), grid.replicaAt(2)];
    const lostAtMs = grid.timeline.nowMs;
    grid.kill(grid.holder(1));
    await grid.until(() => asked.tokenIds().length === 21, "the next token");
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(LOAD_MS + 300);
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    expect([grid.replicaAt(0), grid.replicaAt(2)]).toEqual([first, last]);
  });

  test("the node's owner comes back: its stage goes and another takes its place", async () => {
    await gridOf(4);
    const node = grid.holder(1);
    node.work.isOwnerBack = true;
    await grid.until(() => grid.chain()?.state !== "serving", "the chain to break");
    await grid.untilServing();
    expect(grid.chain()?.stages.map(({ holder }) => holder?.nodeId)).not.toContain(node.nodeId);
  });

  test("with nobody to take it: a waiting request ends with an error that names the stage; the chain is given up, and made anew when it can be", async () => {
    await gridOf(3);
    const asked = grid.ask({ tokensMax: 400, deadlineMs: 6_000 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const lost = grid.holder(1);
    const place = grid.chain()?.stages[1];
    grid.kill(lost);
    await grid.until(() => asked.outcome() !== null, "the deadline");
    expect(asked.tokenIds()).toEqual(counted(asked.tokenIds().length));
    const outcome = asked.outcome();
    const message = outcome?.kind === "failed" ? outcome.reason.message : "";
    expect(outcome).toMatchObject({ kind: "failed", reason: { code: "deadline-exceeded" } });
    expect(message).toContain(
      `layers ${place?.first} to ${(place?.first ?? 0) + (place?.count ?? 0) - 1} have no node`,
    );
    await grid.until(() => grid.chains.stats().dissolved === 1, "the chain to be given up");
    await grid.run(1_000);
    const left = grid.nodes.filter((node) => node !== lost).flatMap(({ work }) => work.replicas());
    expect(left).toEqual([]);
    await grid.addNode();
    await grid.untilServing();
  });

  test("a node that comes back in time finds its place again: nobody loads anything", async () => {
    await gridOf(3);
    const node = grid.holder(1);
    const replicaId = grid.replicaAt(1);
    const loads = grid.nodes.map(({ work }) => work.of("replica.load").length);
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    grid.internet.drop(node.host.name, { isPowerLoss: false });
    await grid.until(() => grid.chain()?.state === "broken", "the chain to break");
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    expect(grid.replicaAt(1)).toBe(replicaId);
    expect(grid.nodes.map(({ work }) => work.of("replica.load").length)).toEqual(loads);
  });
});

test("a chain that breaks as soon as it serves waits longer and longer, and is given up", async () => {
  await gridOf(3);
  const first = grid.chain()?.chainId;
  const gapsMs: number[] = [];
  for (let breaks = 0; breaks < 40 && grid.chain()?.chainId === first; breaks++) {
    const brokeAtMs = grid.timeline.nowMs;
    grid.holder(1).work.accuse(grid.replicaAt(1), { accused: grid.replicaAt(1), kind: "engine-lost" });
    await grid.until(() => grid.chain()?.state !== "serving", "the chain to break");
    await grid.until(() => grid.chain() === null || grid.chain()?.state === "serving", "it to serve or to go");
    gapsMs.push(grid.timeline.nowMs - brokeAtMs);
  }
  expect(grid.chains.stats().dissolved).toBe(1);
  expect(gapsMs.length).toBeLessThan(20);
  expect(Math.min(...gapsMs.slice(0, 4))).toBeLessThan(300);
  expect(gapsMs.at(-2)).toBeGreaterThan(10_000);
  await grid.untilServing();
  expect(grid.chain()?.chainId).not.toBe(first);
});

test("rules of a request hold for the nodes of all stages", async () => {
  grid = new StageGrid({ chainSpares: 0 });
  await grid.start();
  for (const region of ["eu", "eu", "us"]) await grid.addNode({ region });
  await grid.untilServing();
  const constraints = { regions: ["eu"], trustMin: null, priceMicroUsdPerHourMax: null };
  const refused = grid.ask({ deadlineMs: 3_000, constraints });
  const allowed = grid.ask({ tokensMax: 5, constraints: { ...constraints, regions: ["eu", "us"] } });
  await grid.until(() => refused.outcome() !== null && allowed.outcome() !== null, "both ends");
  expect(allowed.outcome()).toMatchObject({ kind: "end" });
  expect(refused.outcome()).toMatchObject({ kind: "failed" });
  expect(refused.tokenIds()).toEqual([]);
});

test("a stage that cannot be loaded is loaded elsewhere", async () => {
  grid = new StageGrid({ chainSpares: 0 });
  await grid.start();
  await grid.addNodes(2);
  const bad = await grid.addNode();
  bad.work.canLoad = false;
  await grid.addNode();
  await grid.untilServing();
  expect(grid.chain()?.stages.map(({ holder }) => holder?.nodeId)).not.toContain(bad.nodeId);
});

test("a stage that never links is replaced after a second try", async () => {
  grid = new StageGrid({ chainSpares: 0 });
  await grid.start();
  await grid.addNodes(3);
  const [deaf] = grid.nodes;
  assert(deaf !== undefined, "there are nodes");
  deaf.work.isDeaf = true;
  await grid.addNode();
  await grid.untilServing();
  expect(grid.chain()?.stages.map(({ holder }) => holder?.nodeId)).not.toContain(deaf.nodeId);
});
