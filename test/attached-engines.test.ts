/**
 * Attached servers of all kinds beside our own engine: processes of their own that speak the documented shapes over the real engine and the bundled
 * model. A real llama-server is asked in test/soak/attached-llama-server.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AttachedKind } from "../src/domain/attached-engine.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine, GenerateTask } from "../src/ports/engine.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { type AttachedFixture, attachedFixture } from "./support/attached-fixture.ts";
import { type RunningServer, startAttachedServer } from "./support/attached-servers.ts";
import { engineHost, generate, loadTiny } from "./support/engine-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

const GREEDY = { ...DEFAULT_SAMPLING, temperature: 0 };
const EXACT = ["llama-server", "vllm", "sglang"] as const satisfies readonly AttachedKind[];
const TEXT = ["ollama", "lmstudio", "tgi"] as const satisfies readonly AttachedKind[];

let own: Engine;
let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
const servers = new Map<AttachedKind, RunningServer>();
const fixtures = new Map<AttachedKind, AttachedFixture>();
const engines = new Map<AttachedKind, Engine>();

beforeAll(async () => {
  const attach = async (kind: AttachedKind) => {
    const server = await startAttachedServer(kind);
    const fixture = attachedFixture(server.url);
    servers.set(kind, server);
    fixtures.set(kind, fixture);
    engines.set(kind, await fixture.load());
  };
  const openOwn = async () => {
    own = await loadTiny(engineHost());
    ({ tokenizer, close: closeTokenizer } = await openTiny());
  };
  await Promise.all([openOwn(), ...[...EXACT, ...TEXT].map(attach)]);
});

afterAll(async () => {
  for (const fixture of fixtures.values()) await fixture[Symbol.asyncDispose]();
  await Promise.all([...servers.values()].map((server) => server[Symbol.asyncDispose]()));
  await own.close();
  await closeTokenizer();
});

function engineOf(kind: AttachedKind): Engine {
  const engine = engines.get(kind);
  if (engine === undefined) throw new Error(`no ${kind} server`);
  return engine;
}

async function promptOf(text: string): Promise<readonly number[]> {
  return await tokenizer.tokenize([{ text, special: false }], { addBos: true });
}

const textOf = (tokenIds: readonly number[]) =>
  Buffer.concat(tokenIds.map((tokenId) => tokenizer.piece(tokenId))).toString("utf8");

const PROMPTS = ["And God said unto Moses", "In the beginning", "Praise ye the LORD", "the sons of"];

describe.each(EXACT)("a %s server", (kind) => {
  test("gives the very tokens that our engine gives", async () => {
    for (const prompt of PROMPTS) {
      const task: Partial<GenerateTask> = { tokenIds: await promptOf(prompt), sampling: GREEDY, tokensMax: 40 };
      const [theirs, ours] = [await generate(engineOf(kind), task), await generate(own, task)];
      expect(theirs.tokenIds).toEqual(ours.tokenIds);
      expect(theirs.reason).toBe(ours.reason);
      expect(theirs.usage.outputTokens).toBe(ours.usage.outputTokens);
    }
  });

  test("goes on where our engine left off, token for token", async () => {
    const tokenIds = await promptOf("And God said unto Moses");
    const whole = await generate(own, { tokenIds, sampling: GREEDY, tokensMax: 20 });
    for (const cut of [1, 7, 19]) {
      const rest = await generate(engineOf(kind), {
        tokenIds: [...tokenIds, ...whole.tokenIds.slice(0, cut)],
        generatedCount: cut,
        tokensMax: 20 - cut,
        sampling: GREEDY,
      });
      expect(rest.tokenIds).toEqual(whole.tokenIds.slice(cut));
    }
  });

  test("ends at a stop string in the same place", async () => {
    const task = {
      tokenIds: await promptOf("And God said unto Moses"),
      sampling: GREEDY,
      stopStrings: [" with you"],
      tokensMax: 40,
    };
    const [theirs, ours] = [await generate(engineOf(kind), task), await generate(own, task)];
    expect(theirs.reason).toBe("stop-string");
    expect(theirs.tokenIds).toEqual(ours.tokenIds);
  });
});

describe.each(TEXT)("a %s server, which speaks text only", (kind) => {
  test("gives the same text, told in tokens of the model", async () => {
    for (const prompt of PROMPTS) {
      const task: Partial<GenerateTask> = { tokenIds: await promptOf(prompt), sampling: GREEDY, tokensMax: 40 };
      const [theirs, ours] = [await generate(engineOf(kind), task), await generate(own, task)];
      const [shown, expected] = [textOf(theirs.tokenIds), textOf(ours.tokenIds)];
      // A text may take another number of tokens when it is told anew; what both show is the same.
      const length = Math.min(shown.length, expected.length);
      expect(length).toBeGreaterThan(20);
      expect(shown.slice(0, length)).toBe(expected.slice(0, length));
      expect(theirs.reason).toBe(ours.reason);
      if (ours.reason === "length") expect(theirs.tokenIds).toHaveLength(40);
    }
  });

  test("refuses what only ids can tell, with the code that sends a request elsewhere", async () => {
    const tokenIds = await promptOf("And");
    for (const task of [
      { grammar: 'root ::= "a"' },
      { topLogprobs: 2 },
      { sampling: { ...GREEDY, logitBias: [[5, 1]] as const } },
      { ignoreStopTokens: true },
    ] satisfies Partial<GenerateTask>[]) {
      await expect(generate(engineOf(kind), { tokenIds, ...task })).rejects.toThrow("ability-missing");
    }
  });
});

test("what each server lacks is found by trying, and no server is thought to go on in the midst of a grammar", () => {
  const lacks = Object.fromEntries([...engines].map(([kind, engine]) => [kind, engine.info.lacks]));
  expect(lacks).toEqual({
    "llama-server": ["grammar-resume", "embeddings"],
    vllm: ["grammar-resume", "embeddings"],
    sglang: ["grammar", "grammar-resume", "logit-bias", "logprobs", "embeddings"],
    ollama: ["grammar", "grammar-resume", "logit-bias", "logprobs", "ignore-stop-tokens", "embeddings"],
    lmstudio: ["grammar", "grammar-resume", "logit-bias", "logprobs", "ignore-stop-tokens", "embeddings"],
    tgi: ["grammar", "grammar-resume", "logit-bias", "logprobs", "penalties", "ignore-stop-tokens", "embeddings"],
  });
  expect(engineOf("vllm").info.numericClass).toBe("vllm-0.11.0-like/attached/unknown");
});

test.each(["llama-server", "vllm"] as const)("a %s server heeds a grammar and tells probabilities", async (kind) => {
  const tokenIds = await promptOf("And");
  const ruled = await generate(engineOf(kind), { tokenIds, grammar: 'root ::= "yes" | "no"', sampling: GREEDY });
  expect(["yes", "no"]).toContain(textOf(ruled.tokenIds));
  expect(ruled.reason).toBe("stop-token");
  const [theirs, ours] = [engineOf(kind), own].map((engine) =>
    generate(engine, { tokenIds, sampling: GREEDY, topLogprobs: 3, tokensMax: 4 }),
  );
  const [told, expected] = [await theirs, await ours];
  expect(told?.tokens.map(({ top }) => top.map(({ tokenId }) => tokenId))).toEqual(
    expected?.tokens.map(({ top }) => top.map(({ tokenId }) => tokenId)),
  );
});
