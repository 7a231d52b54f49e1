/**
 * Chains of real processes in which a stage lives and holds everybody up, or becomes slow: it is found out and replaced, and every text is the whole
 * model's.
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectOneChargeEach, expectSameStreams } from "../support/chain-checks.ts";
import { CHAIN_MODEL_ID, ChainGrid } from "../support/chain-grid.ts";
import { CHAIN_MODEL } from "../support/chain-model.ts";
import { type ReadStream, streamBodies } from "../support/chain-streams.ts";
import { type ChainPlace, stageAt } from "../support/chain-view.ts";
import { processTree } from "../support/process-tree.ts";

const START_MS_MAX = 240_000;
const FAULT_MS_MAX = 180_000;
const ASKED = streamBodies(8, { model: CHAIN_MODEL_ID, tokens: 120, seed: 400 });
const STRUCK_AT = 30;
/** A stage of it takes some milliseconds. */
const LARGE = { ...CHAIN_MODEL, fileBytes: 120e6 };
const SLOWED = ASKED.slice(0, 3);
const HOOK = fileURLToPath(new URL("../support/hostile-stage-process.ts", import.meta.url));

/** All streams, with something done once when each of them is in its middle. */
async function struck(chains: ChainGrid, strike: () => Promise<void>): Promise<readonly ReadStream[]> {
  let striking: Promise<void> | null = null;
  const counts = ASKED.map(() => 0);
  const streams = await chains.streams(ASKED, (stream, count) => {
    counts[stream] = count;
    if (striking === null && Math.min(...counts) >= STRUCK_AT) striking = strike();
  });
  await striking;
  return streams;
}

describe.each<{ how: string; place: ChainPlace }>([
  { how: "swallows", place: "middle" },
  { how: "swallows", place: "last" },
  { how: "no-credit", place: "middle" },
])("a $place stage that links and pulses, and $how", ({ how, place }) => {
  let chains: ChainGrid;
  beforeAll(async () => {
    const env = { NODE_OPTIONS: `--import ${HOOK}`, HOSTILE_STAGE: how };
    chains = await ChainGrid.start({ stages: 3, nodes: 4, askWhole: ASKED, agentEnv: env });
  }, START_MS_MAX);
  afterAll(() => chains?.stop());

  test("is replaced; every text is the whole model's, and charged once", { timeout: FAULT_MS_MAX }, async () => {
    const before = await chains.chain();
    const hostile = stageAt(before, place);
    const streams = await struck(chains, async () => {
      process.kill(chains.agent(hostile.nodeId).pid, "SIGUSR2");
    });
    expectSameStreams(streams, chains.whole);
    const after = await chains.chain();
    expect(after.chainId).toBe(before.chainId);
    expect(after.stages.map(({ nodeId }) => nodeId)).not.toContain(hostile.nodeId);
    await expectOneChargeEach(chains, [...chains.whole, ...streams]);
  });
});

describe("a stage whose engine gets little of its machine", () => {
  let chains: ChainGrid;
  beforeAll(async () => {
    chains = await ChainGrid.start({ stages: 3, nodes: 4, askWhole: SLOWED, shape: LARGE });
  }, START_MS_MAX);
  afterAll(() => chains?.stop());

  /** Of each turn it runs so long: less than a decode takes, so that decodes take several times as long as before. */
  const TURN_MS = 60;
  const RUN_MS = 4;
  const ROUNDS_MAX = 20;

  test("moves with its keys and values while the chain serves; every text is the whole model's", {
    timeout: FAULT_MS_MAX,
  }, async () => {
    const answered: ReadStream[] = [...chains.whole];
    const ask = async () => {
      const streams = await chains.streams(SLOWED);
      answered.push(...streams);
      expectSameStreams(streams, chains.whole);
    };
    await ask();
    const before = await chains.chain();
    const slow = stageAt(before, "middle");
    const engine = processTree(chains.agent(slow.nodeId).pid).find(({ name }) => name === "stage-child.ts");
    if (engine === undefined) throw new Error("the stage has an engine");
    const throttle = throttled(engine.pid);
    try {
      for (let round = 0; round < ROUNDS_MAX && (await isHeld(chains, slow.nodeId)); round++) await ask();
    } finally {
      throttle.stop();
    }
    const after = await chains.serving();
    expect(after?.stages.map(({ nodeId }) => nodeId)).not.toContain(slow.nodeId);
    expect(after?.chainId).toBe(before.chainId);
    await ask();
    await expectOneChargeEach(chains, answered);
  });

  function throttled(pid: number): { stop(): void } {
    const signal = (name: "SIGSTOP" | "SIGCONT") => {
      try {
        process.kill(pid, name);
      } catch {
        // it moved, and its engine is gone
      }
    };
    const running: { timer?: NodeJS.Timeout } = {};
    const turn = setInterval(() => {
      signal("SIGCONT");
      running.timer = setTimeout(() => signal("SIGSTOP"), RUN_MS);
    }, TURN_MS);
    return {
      stop: () => {
        clearInterval(turn);
        clearTimeout(running.timer);
        signal("SIGCONT");
      },
    };
  }

  async function isHeld(of: ChainGrid, nodeId: string): Promise<boolean> {
    return (await of.chains()).some(({ stages }) => stages.some((stage) => stage.nodeId === nodeId));
  }
});
