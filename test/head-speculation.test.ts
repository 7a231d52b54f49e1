/** The head of a chain over the real engine: drafts, whoever makes them, never change a text. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny, taskOf } from "./support/engine-fixture.ts";
import { RealHeadChain } from "./support/real-head-chain.ts";
import { findSharedData } from "./support/shared-data.ts";

const shared = findSharedData();
/** Long enough for drafts to pay beside what the tiny model's stages take. */
const HOP_MS = 8;
const seedOf = (seed: number) => sha256Hex(seed.toString(16).padStart(2, "0").repeat(32));
let unsplit: Engine;

beforeAll(async () => {
  unsplit = await loadTiny(engineHost());
});
afterAll(() => unsplit.close());

/** What repeats, and what does not. */
const TASKS = [
  { temperature: 0, frequencyPenalty: -2 },
  { temperature: 0.8, frequencyPenalty: -2 },
  { temperature: 0, frequencyPenalty: 0 },
  { temperature: 1, frequencyPenalty: 0.5 },
].map((sampling, index) =>
  taskOf({
    sampling: { ...DEFAULT_SAMPLING, ...sampling },
    seed: seedOf(index + 1),
    tokensMax: 96,
    ignoreStopTokens: true,
  }),
);

async function expectUnsplit(chain: RealHeadChain): Promise<void> {
  const answers = await Promise.all(TASKS.map((task) => chain.answer(task)));
  for (const [index, task] of TASKS.entries()) {
    expect(answers[index]?.tokenIds).toEqual((await generate(unsplit, task)).tokenIds);
  }
}

const OPTIONS = { wire: "f32", hopMs: HOP_MS, sequencesMax: 4, draft: null, speculates: true } as const;

describe("head of a chain", () => {
  test("with drafts by lookup three stages write what the unsplit model writes", async () => {
    const chain = await RealHeadChain.start({ ...OPTIONS, cuts: [1, 3] });
    await expectUnsplit(chain);
    const { drafted, accepted } = chain.desk.stats();
    expect(drafted).toBeGreaterThan(0);
    expect(accepted).toBeGreaterThan(50);
    await chain.close();
  });

  test.skipIf(shared === null)("with drafts by a small model, too, and most texts are drafted by it", async () => {
    const draft = await loadTiny(engineHost(), { weightsPath: join(shared ?? "", "models/tiny-draft-q8_0.gguf") });
    const chain = await RealHeadChain.start({ ...OPTIONS, cuts: [2], draft });
    await expectUnsplit(chain);
    expect(chain.desk.stats().accepted).toBeGreaterThan(50);
    expect(draft.stats().tokensGenerated).toBeGreaterThan(0);
    await chain.close();
    await draft.close();
  });

  test.skipIf(shared === null)("a draft model that dies leaves the texts as they are", async () => {
    const draft = await loadTiny(engineHost(), { weightsPath: join(shared ?? "", "models/tiny-draft-q8_0.gguf") });
    const chain = await RealHeadChain.start({ ...OPTIONS, cuts: [2], draft });
    const answers = expectUnsplit(chain);
    process.kill(draft.info.processId, "SIGKILL");
    await answers;
    await chain.close();
    await draft.close();
  });

  test("without speculation nothing is drafted", async () => {
    const chain = await RealHeadChain.start({ ...OPTIONS, hopMs: 0, cuts: [2], speculates: false });
    await expectUnsplit(chain);
    expect(chain.desk.stats().drafted).toBe(0);
    await chain.close();
  });
});
