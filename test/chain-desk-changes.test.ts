/** Chains that change while nothing is lost: neighbours' words, nodes that leave, a coordinator that restarts; scripted stages in virtual time. */
import { beforeEach, describe, expect, test } from "vitest";
import { assert } from "../src/domain/assert.ts";
import { counted, StageGrid, type StageNode } from "./support/chain-desk-grid.ts";
import { LOAD_MS } from "./support/chain-desk-stages.ts";

let grid: StageGrid;

async function gridOf(count: number) {
  grid = new StageGrid({ chainSpares: 0 });
  await grid.start();
  await grid.addNodes(count);
  await grid.untilServing();
}

const others = () =>
  grid.nodes.filter((node) => grid.chain()?.stages.every(({ holder }) => holder?.nodeId !== node.nodeId));

describe("the word of a neighbour", () => {
  test("is enough to replace the accused, and streams go on", async () => {
    await gridOf(4);
    const [before, accused] = [grid.replicaAt(0), grid.replicaAt(1)];
    const node = grid.holder(1);
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    grid.holder(0).work.accuse(before, { accused, kind: "stage-silent" });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    expect(grid.chain()?.stages.map(({ holder }) => holder?.nodeId)).not.toContain(node.nodeId);
    expect(grid.chains.stats()).toMatchObject({ troubles: 1, repairs: 1 });
  });

  test("about one after the other ends with the accuser's own place", async () => {
    await gridOf(6);
    const liar = grid.holder(0);
    for (const at of [1, 2, 1]) {
      if (grid.holder(0) !== liar) break;
      liar.work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(at), kind: "stage-breach" });
      await grid.run(100);
      await grid.untilServing();
    }
    expect(grid.chain()?.stages.map(({ holder }) => holder?.nodeId)).not.toContain(liar.nodeId);
  });

  test("that the other neighbour seconds a moment later is held against nobody who gave it", async () => {
    await gridOf(6);
    const [head, tail] = [grid.holder(0), grid.holder(2)];
    for (let times = 0; times < 2; times++) {
      const silent = grid.holder(1);
      for (const [at, node] of [head, undefined, tail].entries()) {
        node?.work.accuse(grid.replicaAt(at), { accused: grid.replicaAt(1), kind: "stage-silent" });
      }
      await grid.run(100);
      await grid.untilServing();
      expect([grid.holder(0), grid.holder(2)]).toEqual([head, tail]);
      expect(grid.holder(1)).not.toBe(silent);
    }
  });

  test("that was not believed is, when the other neighbour seconds it", async () => {
    await gridOf(6);
    const [head, tail] = [grid.holder(0), grid.holder(2)];
    head.work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(1), kind: "stage-silent" });
    await grid.run(100);
    await grid.untilServing();
    const silent = grid.holder(1);
    for (const [at, node] of [head, undefined, tail].entries()) {
      node?.work.accuse(grid.replicaAt(at), { accused: grid.replicaAt(1), kind: "stage-silent" });
    }
    await grid.run(100);
    await grid.untilServing();
    expect(grid.holder(1)).not.toBe(silent);
  });

  test("of an older epoch, or of a stage that is not its own, changes nothing", async () => {
    await gridOf(4);
    const epoch = grid.chain()?.epoch;
    const [head, tail] = [grid.holder(0), grid.holder(2)];
    const chainId = grid.chain()?.chainId ?? "";
    const what = { type: "chain.trouble", kind: "stage-silent", code: "old", message: "", chainId } as const;
    head.work.line?.send({ ...what, replicaId: grid.replicaAt(0), accused: grid.replicaAt(1), chainEpoch: 0 });
    tail.work.line?.send({ ...what, replicaId: grid.replicaAt(0), accused: grid.replicaAt(1), chainEpoch: epoch ?? 0 });
    await grid.run(500);
    expect(grid.chain()).toMatchObject({ state: "serving", epoch });
    expect(grid.registry.stats().breaches).toBe(1);
  });

  test("that another stage's engine is gone is a breach and changes nothing: only its own node knows", async () => {
    await gridOf(4);
    const epoch = grid.chain()?.epoch;
    for (let times = 0; times < 2; times++) {
      grid.holder(0).work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(1), kind: "engine-lost" });
      await grid.run(500);
    }
    expect(grid.chain()).toMatchObject({ state: "serving", epoch });
    expect(grid.chains.stats()).toMatchObject({ troubles: 0, repairs: 0 });
    expect(grid.registry.stats().breaches).toBe(2);
  });

  test("that one after the other is slow moves the one who says so, not all of them again and again", async () => {
    await gridOf(5);
    const liar = grid.holder(0);
    liar.work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(1), kind: "stage-slow" });
    const [, second] = [grid.holder(0), grid.holder(1)];
    await grid.until(() => grid.maybeHolder(1) !== second && grid.chain()?.state === "serving", "the first move");
    const last = grid.holder(2);
    liar.work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(2), kind: "stage-slow" });
    await grid.until(() => grid.maybeHolder(0) !== liar && grid.chain()?.state === "serving", "the second move");
    expect(grid.holder(2)).toBe(last);
  });

  test("that it is slow moves it while the chain serves on", async () => {
    await gridOf(4);
    const slow = grid.holder(1);
    grid.holder(0).work.accuse(grid.replicaAt(0), { accused: grid.replicaAt(1), kind: "stage-slow" });
    await grid.run(LOAD_MS / 2);
    expect(grid.chain()?.state).toBe("serving");
    await grid.until(() => grid.maybeHolder(1) !== slow && grid.chain()?.state === "serving", "the move");
    expect(grid.chains.stats()).toMatchObject({ moves: 1, repairs: 0 });
  });
});

describe("a node that leaves", () => {
  let leaving: StageNode;
  beforeEach(async () => {
    await gridOf(4);
    leaving = grid.holder(1);
  });

  test("serves until its successor is loaded, which takes its keys and values over; then its stage goes", async () => {
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 10, "10 tokens");
    const left = grid.replicaAt(1);
    await grid.settled(grid.registry.drain(leaving.nodeId, true));
    await grid.run(LOAD_MS / 2);
    expect(grid.chain()?.state).toBe("serving");
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(80));
    const set = grid.holder(1).work.chain(grid.replicaAt(1));
    expect(set?.takeOver).toMatchObject({ replicaId: left, nodeId: leaving.nodeId });
    expect(grid.holder(0).work.chain(grid.replicaAt(0))?.takeOver).toBeUndefined();
    const keys = grid.registry.nodes().filter(({ nodeId }) => nodeId === grid.holder(1).nodeId);
    const handOvers = leaving.work.of("chain.set").flatMap(({ handOver }) => handOver ?? []);
    expect(handOvers).toEqual(keys.map(({ publicKeyHex: publicKey }) => ({ publicKey })));
    expect(leaving.work.of("replica.unload").map(({ replicaId }) => replicaId)).toEqual([left]);
    expect(grid.chains.stats()).toMatchObject({ moves: 1, repairs: 0 });
  });

  test("and stays after all: its successor is let go", async () => {
    const kept = grid.replicaAt(1);
    await grid.settled(grid.registry.drain(leaving.nodeId, true));
    await grid.run(LOAD_MS / 2);
    await grid.settled(grid.registry.drain(leaving.nodeId, false));
    await grid.run(10_000);
    expect(grid.replicaAt(1)).toBe(kept);
    expect(others().flatMap(({ work }) => work.replicas())).toEqual([]);
  });
});

describe("a node outside would do a stage clearly better", () => {
  /** All stages tell of themselves, as they do once a second. */
  const talk = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      for (const { work } of grid.nodes) for (const { replicaId } of work.replicas()) work.say(replicaId, true);
      await grid.run(1_000);
    }
  };

  test("the stage moves there with its keys and values while the chain serves, once, and does not come back", async () => {
    await gridOf(5);
    const slow = grid.holder(1);
    const left = grid.replicaAt(1);
    const stayed = [grid.replicaAt(0), grid.replicaAt(2)];
    await talk(40);
    expect(grid.chains.stats()).toMatchObject({ moves: 0 });
    slow.work.singleMs = 20_000;
    const asked = grid.ask({ tokensMax: 80 });
    await talk(35);
    expect(asked.tokenIds()).toEqual(counted(80));
    expect(grid.chain()?.state).toBe("serving");
    expect(grid.holder(1)).not.toBe(slow);
    expect(grid.holder(1).work.chain(grid.replicaAt(1))?.takeOver).toMatchObject({ replicaId: left });
    expect([grid.replicaAt(0), grid.replicaAt(2)]).toEqual(stayed);
    expect(slow.work.replicas()).toEqual([]);
    expect(grid.chains.stats()).toMatchObject({ moves: 1, repairs: 0 });
    slow.work.singleMs = 3;
    await talk(700);
    expect(grid.chains.stats()).toMatchObject({ moves: 1, repairs: 0 });
  });

  test("but cannot load it: all stays as it is", async () => {
    await gridOf(4);
    const [other] = others();
    assert(other !== undefined, "there is a node outside");
    const slow = grid.holder(1);
    const epoch = grid.chain()?.epoch;
    other.work.canLoad = false;
    slow.work.singleMs = 20_000;
    await talk(60);
    expect(other.work.of("replica.load").length).toBe(1);
    expect(grid.holder(1)).toBe(slow);
    expect(grid.chain()).toMatchObject({ state: "serving", epoch });
  });
});

describe("a coordinator that restarts", () => {
  test("finds the chain on its nodes: nobody loads anything, and its epochs go on", async () => {
    await gridOf(3);
    const epoch = grid.chain()?.epoch ?? 0;
    const replicas = grid.chain()?.stages.map(({ holder }) => holder?.replicaId);
    const loads = grid.nodes.map(({ work }) => work.of("replica.load").length);
    await grid.restart({ downMs: 500 });
    grid.openDispatcher();
    await grid.untilServing();
    expect(grid.chain()?.stages.map(({ holder }) => holder?.replicaId)).toEqual(replicas);
    expect(grid.chain()?.epoch).toBeGreaterThan(epoch);
    expect(grid.nodes.map(({ work }) => work.of("replica.load").length)).toEqual(loads);
  });

  test("with one of its nodes gone for good keeps the stages of the others, and has the missing one loaded", async () => {
    await gridOf(3);
    const gone = grid.holder(1);
    const stayed = grid.nodes.filter((node) => node !== gone);
    const left = stayed.flatMap(({ work }) => work.replicas().map(({ replicaId }) => replicaId));
    const loads = stayed.map(({ work }) => work.of("replica.load").length);
    grid.kill(gone);
    await grid.restart({ downMs: 500 });
    grid.openDispatcher();
    await grid.addNode();
    await grid.untilServing();
    const now = grid.chain()?.stages.map(({ holder }) => holder?.replicaId) ?? [];
    expect(now.filter((replicaId) => replicaId !== undefined && left.includes(replicaId))).toHaveLength(2);
    expect(stayed.map(({ work }) => work.of("replica.load").length)).toEqual(loads);
    expect(stayed.flatMap(({ work }) => work.of("replica.unload"))).toEqual([]);
  });

  test("and nobody who could take the missing stage gives up, and the memory is free again", async () => {
    await gridOf(3);
    const gone = grid.holder(1);
    grid.kill(gone);
    await grid.restart({ downMs: 500 });
    grid.openDispatcher();
    await grid.run(40_000);
    const held = grid.nodes.filter((node) => node !== gone).flatMap(({ work }) => work.replicas());
    expect(held).toEqual([]);
    await grid.addNode();
    await grid.untilServing();
  });
});
