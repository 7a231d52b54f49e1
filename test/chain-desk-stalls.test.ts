/**
 * What the coordinator finds out by itself about a chain: who holds up its answers, who became slow, whom to take back, and what stages need not keep. The
 * real registry, planner and dispatcher with scripted stages in virtual time.
 */
import { describe, expect, test } from "vitest";
import { assert } from "../src/domain/assert.ts";
import type { ProgressReport } from "../src/wire/chain-link.ts";
import { counted, type StageAsked, StageGrid, type StageNode } from "./support/chain-desk-grid.ts";
import { LOAD_MS } from "./support/chain-desk-stages.ts";

let grid: StageGrid;
const PROMPT_TOKENS = 3;

async function gridOf(count: number, chainSpares = 0) {
  grid = new StageGrid({ chainSpares });
  await grid.start();
  await grid.addNodes(count);
  await grid.untilServing();
}

const inChain = () => grid.chain()?.stages.map(({ holder }) => holder?.nodeId) ?? [];
const others = () => grid.nodes.filter((node) => !inChain().includes(node.nodeId));

function only<T>(list: readonly T[]): T {
  const [first, ...more] = list;
  assert(first !== undefined && more.length === 0, `one of ${list.length}`);
  return first;
}

describe("answers that stand still while all stages show that they live", () => {
  type Told = Partial<ProgressReport["sequences"][number]> & { readonly isHeldUp?: boolean };

  /** All stages tell that they have all, and passed it on; some tell otherwise, or nothing. */
  function tellAll(asked: StageAsked, change: (at: number, known: number) => Told | null): void {
    for (const node of grid.nodes) {
      node.work.progress = () => {
        const at = inChain().indexOf(node.nodeId);
        const known = PROMPT_TOKENS + asked.tokenIds().length;
        const { isHeldUp = false, ...told } = change(at, known) ?? {};
        const own = { sequence: asked.sequence, arrived: known, passed: known, isLacking: false };
        return { isHeldUp, decoded: 0, sequences: [{ ...own, ...told }] };
      };
    }
  }

  /** Its last stage draws nothing any more, from 20 tokens on. */
  async function stuck(change: (at: number, known: number) => Told | null): Promise<StageAsked> {
    const asked = grid.ask({ tokensMax: 60 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    tellAll(asked, change);
    grid.holder(-1).work.isMute = true;
    return asked;
  }

  async function replaced(node: StageNode, asked: StageAsked): Promise<void> {
    const stoodMs = grid.timeline.nowMs;
    await grid.until(() => !inChain().includes(node.nodeId), "the stage to be replaced");
    expect(grid.timeline.nowMs - stoodMs).toBeLessThan(7_000);
    for (const { work } of grid.nodes) work.isMute = false;
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(60));
  }

  test("a last stage that never draws is replaced, and the stream goes on", async () => {
    await gridOf(4);
    const asked = await stuck(() => null);
    await replaced(grid.holder(-1), asked);
    expect(grid.chains.stats()).toMatchObject({ troubles: 1, repairs: 1 });
    expect(asked.generation.attempts().map(({ ending }) => ending)).toEqual(["moved", "finished"]);
  });

  test.each([
    ["keeps what it took in", 1, { passed: 10 }],
    ["takes nothing of what the one before it sent", 1, { arrived: 10, passed: 10 }],
    ["feeds nothing", 0, { passed: 10 }],
  ])("a stage that %s is replaced", async (_, place, told) => {
    await gridOf(4);
    const bad = grid.holder(place);
    const asked = await stuck((at) => (grid.maybeHolder(at) === bad ? told : null));
    await replaced(bad, asked);
  });

  test("a stage that does not answer is replaced", async () => {
    await gridOf(4);
    const bad = grid.holder(1);
    const asked = await stuck(() => null);
    bad.work.progress = null;
    await replaced(bad, asked);
  });

  test("a stage whose numbers put it on one neighbour after the other is replaced itself", async () => {
    await gridOf(6);
    const liar = grid.holder(0);
    const isLiars = () => grid.maybeHolder(0) === liar;
    const asked = await stuck((at) => (at > 0 && isLiars() ? { arrived: 10, passed: 10 } : null));
    for (let times = 0; times < 3 && isLiars(); times++) {
      const epoch = grid.chain()?.epoch;
      await grid.until(() => grid.chain()?.epoch !== epoch && grid.chain()?.state === "serving", "another epoch");
      for (const { work } of grid.nodes) work.isMute = isLiars();
    }
    expect(inChain()).not.toContain(liar.nodeId);
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(60));
  });

  test("nobody is replaced while a stage is slow and moves", async () => {
    await gridOf(4);
    const before = inChain();
    const asked = grid.ask({ tokensMax: 6 });
    let looks = 0;
    tellAll(asked, () => ({ arrived: looks++, passed: 0 }));
    grid.holder(-1).work.tokenMs = 9_000;
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(looks).toBeGreaterThan(0);
    expect([inChain(), grid.chains.stats().troubles]).toEqual([before, 0]);
  });
});

describe("a node that a word is against", () => {
  const accuse = (at: number) => {
    const by = at - 1;
    grid.holder(by).work.accuse(grid.replicaAt(by), { accused: grid.replicaAt(at), kind: "stage-silent" });
  };

  test("takes a place again when nobody else can, soon, and no survivor loads anything", async () => {
    await gridOf(4);
    // Words of ten minutes count: each of the two is avoided for longer and longer.
    for (let times = 0; times < 6; times++) {
      accuse(1);
      await grid.run(5_000);
      await grid.untilServing();
    }
    await grid.until(() => inChain().length === 3 && others().length === 1, "a chain of three and one beside");
    const survivors = [grid.holder(0), grid.holder(2)];
    const loads = survivors.map(({ work }) => work.of("replica.load").length);
    const chainId = grid.chain()?.chainId;
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const lostAtMs = grid.timeline.nowMs;
    grid.kill(grid.holder(1));
    await grid.until(() => asked.tokenIds().length === 21, "the next token");
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(2_000 + LOAD_MS + 700);
    expect(grid.chain()?.chainId).toBe(chainId);
    expect(survivors.map(({ work }) => work.of("replica.load").length)).toEqual(loads);
  });

  test("and has the layers loaded is taken before another one loads them", async () => {
    await gridOf(6, 3);
    await grid.until(() => grid.chains.spares().filter(({ state }) => state === "ready").length === 3, "three spares");
    const accused = grid.holder(1);
    accuse(1);
    await grid.until(() => !inChain().includes(accused.nodeId), "the accused to be replaced");
    await grid.untilServing();
    await grid.run(2_500);
    const spares = grid.chains.spares().filter(({ first }) => first === grid.chain()?.stages[1]?.first);
    expect(spares.map(({ nodeId }) => nodeId)).toEqual([accused.nodeId]);
    const lostAtMs = grid.timeline.nowMs;
    const asked = grid.ask({ tokensMax: 80 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    grid.kill(grid.holder(1));
    await grid.until(() => asked.tokenIds().length === 21, "the next token");
    expect(grid.timeline.nowMs - lostAtMs).toBeLessThan(20 * 25 + 300);
    expect(inChain()).toContain(accused.nodeId);
  });

  test("is not taken back at once: its word is two seconds old at least", async () => {
    await gridOf(3);
    const accused = grid.holder(1);
    accuse(1);
    await grid.run(1_500);
    expect(inChain()).not.toContain(accused.nodeId);
    await grid.untilServing();
    expect(inChain()).toContain(accused.nodeId);
  });
});

describe("a stage that accuses itself", () => {
  test("of a lost engine keeps its place once, and another one gets it the second time", async () => {
    await gridOf(4);
    const node = grid.holder(1);
    const lose = async () => {
      const own = grid.replicaAt(1);
      node.work.accuse(own, { accused: own, kind: "engine-lost" });
      node.work.report(own, { state: "loading" });
      await grid.run(LOAD_MS);
      node.work.report(own, { state: "ready" });
      await grid.run(1_000);
      await grid.untilServing();
    };
    await lose();
    expect(inChain()).toContain(node.nodeId);
    await lose();
    expect(inChain()).not.toContain(node.nodeId);
  });

  test("of having to begin anew keeps its place, in a new epoch, and nobody is doubted", async () => {
    await gridOf(4);
    const asked = grid.ask({ tokensMax: 60 });
    await grid.until(() => asked.tokenIds().length === 20, "20 tokens");
    const [before, epoch] = [inChain(), grid.chain()?.epoch ?? 0];
    const own = grid.replicaAt(1);
    grid.holder(1).work.accuse(own, { accused: own, kind: "stage-breach", code: "position-wrong" });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(60));
    expect(inChain()).toEqual(before);
    expect(grid.chain()?.epoch).toBeGreaterThan(epoch);
    expect(grid.chains.stats()).toMatchObject({ repairs: 0 });
  });
});

describe("a stage that becomes slow", () => {
  /** All tell of themselves, as they do once a second while they work: never the same twice. */
  const talk = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      for (const { work } of grid.nodes) {
        work.singleMs *= 1 + 0.01 * (second % 2 === 0 ? 1 : -1);
        for (const { replicaId } of work.replicas()) work.say(replicaId, true);
      }
      await grid.run(1_000);
    }
  };

  test("moves within seconds to a node that is not, with its keys and values, while the chain serves", async () => {
    await gridOf(5);
    await talk(8);
    const slow = grid.holder(1);
    const left = grid.replicaAt(1);
    const asked = grid.ask({ tokensMax: 400 });
    await talk(2);
    slow.work.singleMs = 20_000;
    await talk(9);
    expect(grid.holder(1)).not.toBe(slow);
    expect(grid.holder(1).work.chain(grid.replicaAt(1))?.takeOver).toMatchObject({ replicaId: left });
    await grid.until(() => asked.outcome() !== null, "the answer's end");
    expect(asked.tokenIds()).toEqual(counted(400));
    expect(grid.chains.stats()).toMatchObject({ moves: 1, repairs: 0, troubles: 0 });
  });

  test("stays where nobody would do it better", async () => {
    await gridOf(3);
    await talk(8);
    const before = inChain();
    grid.holder(1).work.singleMs = 20_000;
    await talk(9);
    expect(inChain()).toEqual(before);
    expect(grid.chain()?.state).toBe("serving");
  });
});

test("an answer that is over is told to every stage of its model, spares too, once and soon", async () => {
  await gridOf(4, 1);
  await grid.until(() => grid.chains.spares()[0]?.state === "ready", "a spare");
  const asked = [grid.ask({ tokensMax: 5 }), grid.ask({ tokensMax: 8 })];
  await grid.until(() => asked.every((one) => one.outcome() !== null), "both answers");
  expect(grid.nodes.flatMap(({ work }) => work.of("chain.over"))).toEqual([]);
  await grid.run(1_200);
  for (const { work } of grid.nodes) {
    const told = only(work.of("chain.over"));
    expect(told.replicaId).toBe(only(work.replicas()).replicaId);
    expect([...told.sequences].sort()).toEqual(asked.map(({ sequence }) => sequence).sort());
  }
});
