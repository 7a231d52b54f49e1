/** The adapter over a real llama-server: the same tokens as from our own engine, by the same file. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import type { Engine, GenerateTask } from "../../src/ports/engine.ts";
import type { Tokenizer } from "../../src/ports/tokenizer.ts";
import { type AttachedFixture, attachedFixture } from "../support/attached-fixture.ts";
import { engineHost, generate, loadTiny, TINY_PATH } from "../support/engine-fixture.ts";
import { startGrid } from "../support/grid.ts";
import { freePort, llamaServerProgram, startLlamaServer } from "../support/real-llama-server.ts";
import { openTiny } from "../support/tokenizer-fixture.ts";

const found = llamaServerProgram();
const program = "program" in found ? found.program : "";
/** Why these are left out stands in their names. */
const why = "missing" in found ? ` (left out: ${found.missing})` : "";
/** Kernels of other instructions, and another release: differences of some hundredths were seen (docs/engines-attached.md). */
const NEAR_TIE = 0.1;
const GREEDY = { ...DEFAULT_SAMPLING, temperature: 0 };

describe.skipIf("missing" in found)(`a real llama-server${why}`, () => {
  let server: Awaited<ReturnType<typeof startLlamaServer>>;
  let fixture: AttachedFixture;
  let theirs: Engine;
  let own: Engine;
  let tokenizer: Tokenizer;
  let closeTokenizer: () => Promise<void>;

  beforeAll(async () => {
    server = await startLlamaServer(program);
    fixture = attachedFixture(server.url, { servedAs: TINY_PATH });
    theirs = await fixture.load();
    own = await loadTiny(engineHost());
    ({ tokenizer, close: closeTokenizer } = await openTiny());
  });

  afterAll(async () => {
    await fixture[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await own.close();
    await closeTokenizer();
  });

  const promptOf = (text: string) => tokenizer.tokenize([{ text, special: false }], { addBos: true });

  test("is found to lack embeddings and the middle of grammars, and nothing else", () => {
    expect(theirs.info.lacks).toEqual(["grammar-resume", "embeddings"]);
    expect(theirs.info.numericClass).toMatch(/^llama-server-.+\/attached\/Q8_0$/);
  });

  test("gives the tokens that our engine gives, up to a tie that other kernels break otherwise", async () => {
    let equal = 0;
    for (const prompt of ["And God said unto Moses", "In the beginning", "Praise ye the LORD", "Thus saith"]) {
      const tokenIds = await promptOf(prompt);
      const task: Partial<GenerateTask> = { tokenIds, sampling: GREEDY, tokensMax: 60 };
      const [told, expected] = [await generate(theirs, task), await generate(own, task)];
      const at = expected.tokenIds.findIndex((tokenId, place) => told.tokenIds[place] !== tokenId);
      equal += at === -1 ? expected.tokenIds.length : at;
      if (at === -1) continue;
      const { tokens } = await generate(own, {
        ...{ tokenIds: [...tokenIds, ...expected.tokenIds.slice(0, at)], generatedCount: at },
        ...{ sampling: GREEDY, topLogprobs: 2, tokensMax: 1 },
      });
      const [best, second] = tokens[0]?.top ?? [];
      expect([best?.tokenId, second?.tokenId], `token ${at} after ${prompt}`).toContain(told.tokenIds[at]);
      expect((best?.logprob ?? 0) - (second?.logprob ?? Number.NEGATIVE_INFINITY)).toBeLessThan(NEAR_TIE);
    }
    expect(equal).toBeGreaterThan(60);
  });

  test("goes on where our engine left off", async () => {
    const tokenIds = await promptOf("And God said unto Moses");
    const whole = await generate(own, { tokenIds, sampling: GREEDY, tokensMax: 20 });
    const rest = await generate(theirs, {
      ...{ tokenIds: [...tokenIds, ...whole.tokenIds.slice(0, 9)], generatedCount: 9 },
      ...{ tokensMax: 11, sampling: GREEDY },
    });
    expect(rest.tokenIds).toEqual(whole.tokenIds.slice(9));
  });

  test("loses no byte of characters that take several tokens", async () => {
    const text = "é ☃ 😀 北京";
    const task = { tokenIds: await promptOf("And"), sampling: GREEDY, grammar: `root ::= "${text}"`, tokensMax: 60 };
    for (const engine of [theirs, own]) {
      const { tokenIds } = await generate(engine, task);
      const bytes = Buffer.concat(tokenIds.map((tokenId) => tokenizer.piece(tokenId)));
      expect(bytes.toString("utf8")).toBe(text);
    }
  });
});

test.skipIf("missing" in found)(`a grid starts a real llama-server and answers through it${why}`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "fallow-launch-"));
  const launch = join(folder, "launch.json");
  const spec = {
    kind: "llama-server",
    program,
    model: TINY_PATH,
    port: await freePort(),
    contextTokens: 512,
    sequencesMax: 2,
  };
  writeFileSync(launch, JSON.stringify({ ...spec, args: ["-t", "1"] }));
  const name = `tiny=${TINY_PATH}`;
  try {
    await using grid = await disposable([
      "--engine-launch",
      launch,
      "--engine-model",
      name,
      "--no-own-engine",
      "--warm",
      "1",
    ]);
    const client = new OpenAI({ apiKey: grid.apiKey, baseURL: grid.apiUrl, maxRetries: 0 });
    const asked = { model: "tiny", prompt: "And God said unto Moses", temperature: 0, max_tokens: 20 };
    const { choices } = await client.completions.create(asked);
    expect(choices[0]?.text).toMatch(/^, I will not go/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

async function disposable(args: readonly string[]) {
  const grid = await startGrid({ args });
  return { ...grid, [Symbol.asyncDispose]: async () => void (await grid.stop()) };
}
