/**
 * Stages that live, pulse, and hold their chain up: what all of them tell of their progress names the one. And what stages forget when an answer is over,
 * and begin anew when an engine cannot go on. Scripted stages in virtual time, the agents' own code around them.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SequenceId } from "../src/domain/chain.ts";
import type { StageEngine, StagePass } from "../src/ports/stage-engine.ts";
import { type StageProgress, stalledStage } from "../src/scheduler/chains/chain-stall.ts";
import type { ProgressReport } from "../src/wire/chain-link.ts";
import { ASK, expected, openStageLab, PROMPT, type StageLab, underway } from "./support/stage-lab.ts";
import { type Answer, CHAIN_ID, type StageNode } from "./support/stage-nodes.ts";

let lab: StageLab;
beforeEach(() => {
  lab = openStageLab();
});
afterEach(() => lab.chain.stop());

/** An engine with other hands in some places; the rest is its own. */
function changedEngine(engine: StageEngine, change: Partial<StageEngine>): StageEngine {
  const own: StageEngine = {
    info: engine.info,
    exited: engine.exited,
    open: (sequence) => engine.open(sequence),
    setSampling: (sequence, task) => engine.setSampling(sequence, task),
    submit: (pass) => engine.submit(pass),
    held: (sequence) => engine.held(sequence),
    holdings: () => engine.holdings(),
    release: (sequence) => engine.release(sequence),
    forget: (sequence) => engine.forget(sequence),
    exportState: (sequence, positions) => engine.exportState(sequence, positions),
    importState: (state) => engine.importState(state),
    stats: () => engine.stats(),
    close: () => engine.close(),
  };
  return { ...own, ...change };
}

/** The engine counts its passes as held, and does none of them. */
function swallowing(engine: StageEngine): StageEngine {
  const ends = new Map<SequenceId, number>();
  return changedEngine(engine, {
    submit: ({ sequence, start, count }: StagePass) => void ends.set(sequence, start + count),
    held: (sequence) => ends.get(sequence) ?? engine.held(sequence),
  });
}

const member = (at: number): StageNode => {
  const node = lab.chain.members.at(at);
  if (node === undefined) throw new Error(`no stage ${at}`);
  return node;
};

async function spoilt(at: number, hand: (engine: StageEngine) => StageEngine): Promise<void> {
  const node = member(at);
  if (node.engine === null) throw new Error("the stage runs");
  // As the engine is from the next epoch on.
  node.chain.setEngine(hand(node.engine));
  await lab.chain.link(lab.chain.members);
}

function ask(): readonly (StageProgress | null)[] {
  return lab.chain.members.map((node) => {
    node.chain.tellProgress({ chainId: CHAIN_ID, chainEpoch: lab.chain.epoch });
    const told = node.told.findLast((message): message is ProgressReport => message.type === "chain.progress");
    const [own] = told?.sequences ?? [];
    if (told === undefined) return null;
    const { arrived, passed, isLacking } = own ?? { arrived: 0, passed: 0, isLacking: false };
    return { arrived, passed, isLacking, isHeldUp: told.isHeldUp, decoded: told.decoded };
  });
}

async function named(answer: Answer): Promise<ReturnType<typeof stalledStage>> {
  await lab.pass(5_000);
  const before = ask();
  await lab.pass(1_000);
  return stalledStage(before, ask(), { known: PROMPT.length + answer.tokenIds.length, isBusyExcused: true });
}

describe("a chain that stands still", () => {
  /** What it gets in the middle of an answer, with a stage that is not as it should be from then on. */
  async function stuck(at: number, hand: (engine: StageEngine) => StageEngine): Promise<Answer> {
    const answer = await underway(lab, 5);
    await spoilt(at, hand);
    lab.chain.start(ASK);
    await lab.pass(3_000);
    expect(answer.end).toBeNull();
    expect(lab.chain.members.flatMap(({ troubles }) => troubles)).toEqual([]);
    return answer;
  }

  test.each([
    ["first", 0],
    ["middle", 1],
  ])("because its %s stage does nothing with what it gets: that one keeps it", async (_, at) => {
    expect(await named(await stuck(at, swallowing))).toEqual({ at, reporter: null, what: "nothing-passed-on" });
  });

  test("because its last stage never draws", async () => {
    expect(await named(await stuck(2, swallowing))).toEqual({ at: 2, reporter: null, what: "nothing-drawn" });
  });

  test("because a middle stage does not tell what it took in as its own: the one before it is the witness", async () => {
    const answer = await stuck(1, swallowing);
    await lab.pass(1_000);
    const hidden = (told: readonly (StageProgress | null)[]) =>
      told.map((stage, at) => (at === 1 && stage !== null ? { ...stage, arrived: stage.passed } : stage));
    const [before, now] = [hidden(ask()), hidden(ask())];
    const found = stalledStage(before, now, { known: PROMPT.length + answer.tokenIds.length, isBusyExcused: true });
    expect(found).toEqual({ at: 1, reporter: 0, what: "nothing-taken" });
  });

  test("is not found to do so while it works", async () => {
    const answer = await underway(lab, 5);
    const before = ask();
    await lab.pass(200);
    expect(
      stalledStage(before, ask(), { known: PROMPT.length + answer.tokenIds.length, isBusyExcused: true }),
    ).toBeNull();
  });
});

test("a stage that gives no credit is named once the window before it is full", async () => {
  const answer = await underway(lab, 5);
  await spoilt(1, (engine) => engine);
  // Its frames leave, and none of them says that anything was taken.
  const quiet = member(1);
  const before = member(0);
  quiet.mayGo = (frame) => frame.type !== "credit";
  const more = { ...ASK, request: 8, tokensMax: 200, isEndless: true };
  const longer = lab.chain.start(more);
  await lab.pass(20_000);
  expect(answer.end).toBeNull();
  expect(longer.end).toBeNull();
  expect(before.troubles).toEqual([]);
  const look = ask();
  expect(stalledStage(look, look, { known: more.prompt.length + longer.tokenIds.length, isBusyExcused: true })).toEqual(
    {
      at: 1,
      reporter: 0,
      what: "nothing-taken",
    },
  );
});

describe("an answer that is over", () => {
  const kept = () => lab.chain.members.map(({ engine }) => engine?.holdings().length);

  test("leaves nothing on any stage once the coordinator said so, and what comes late begins nothing", async () => {
    const answer = await underway(lab, 5);
    await lab.chain.until(() => answer.end !== null);
    await lab.pass(100);
    expect(kept()).toEqual([1, 1, 1]);
    const sequence = sequenceOfAnswer();
    for (const node of lab.chain.members) node.chain.over([sequence]);
    expect(kept()).toEqual([0, 0, 0]);
    await lab.pass(500);
    expect(ask().every((stage) => stage?.arrived === 0)).toBe(true);
    const again = lab.chain.start({ ...ASK, request: 9 });
    await lab.chain.until(() => again.end !== null);
    expect(again.tokenIds).toEqual(expected({ ...ASK, request: 9 }));
  });

  test("ends where it still runs", async () => {
    const answer = await underway(lab, 5);
    const sequence = sequenceOfAnswer();
    for (const node of lab.chain.members) node.chain.over([sequence]);
    expect(answer.failed).toContain("engine-closed");
    await lab.pass(1_000);
    expect(kept()).toEqual([0, 0, 0]);
    expect(lab.chain.members.flatMap(({ troubles }) => troubles)).toEqual([]);
  });

  function sequenceOfAnswer(): SequenceId {
    const [holding] = member(1).engine?.holdings() ?? [];
    if (holding === undefined) throw new Error("a stage holds the answer");
    return holding.sequence;
  }
});

test.each([
  ["first", 0],
  ["middle", 1],
  ["last", 2],
])(
  "an engine of the %s stage that cannot go on from a position blames nobody else, and the answer goes on in the next epoch",
  async (_, at) => {
    const answer = await underway(lab, 15);
    const node = member(at);
    const [holding] = node.engine?.holdings() ?? [];
    if (holding === undefined) throw new Error("the stage holds the answer");
    const { sequence } = holding;
    // As an engine does that gives a sequence up.
    node.engine?.forget(sequence);
    node.onEvents([{ kind: "failed", sequence, tag: -1, code: "position-wrong", message: "a cache of windows" }]);
    await lab.pass(50);
    const troubles = lab.chain.members.flatMap(({ troubles: told }) => told);
    expect(troubles.map(({ kind, code, accused }) => [kind, code, accused])).toEqual([
      ["stage-breach", "position-wrong", node.replicaId],
    ]);
    await lab.chain.link(lab.chain.members);
    lab.chain.start(ASK);
    await lab.chain.until(() => answer.end !== null || answer.failed !== null);
    expect(answer.tokenIds).toEqual(expected(ASK));
  },
);
