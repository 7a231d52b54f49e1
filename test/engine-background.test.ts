/** Background sequences in the real engine: they stand still while others run, and go on where they were. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Engine, GenerateEvent } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny, PROMPT, taskOf } from "./support/engine-fixture.ts";

let engine: Engine;

beforeAll(async () => {
  engine = await loadTiny(engineHost(), { sequencesMax: 3 });
});

afterAll(() => engine.close());

const LONG = { tokenIds: [...PROMPT, 300, 301, 302], tokensMax: 400, ignoreStopTokens: true };

interface Watched {
  readonly tokenIds: number[];
  /** Resolves with how many tokens have come, once there are so many. */
  reaches(count: number): Promise<void>;
  readonly ended: Promise<void>;
}

function watched(task: Parameters<typeof taskOf>[0]): Watched {
  const tokenIds: number[] = [];
  const goals = new Map<number, () => void>();
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  engine.generate(taskOf(task), (event: GenerateEvent) => {
    if (event.kind === "failed") reject(new Error(event.message));
    else if (event.kind === "end") resolve();
    else {
      tokenIds.push(...event.tokens.map(({ tokenId }) => tokenId));
      for (const [count, reached] of goals) if (tokenIds.length >= count) reached();
    }
  });
  const reaches = (count: number) => new Promise<void>((reached) => void goals.set(count, reached));
  return { tokenIds, reaches, ended };
}

test("a background sequence gets no token while another runs, goes on after it without decoding anything again, and its text is as alone", async () => {
  const alone = await generate(engine, { ...LONG, cacheScope: "alone" });
  const background = watched({ ...LONG, isBackground: true });
  await background.reaches(5);
  const decodedBefore = engine.stats().promptTokensDecoded;
  const other = watched({
    tokenIds: [1, 700, 701, 702],
    tokensMax: 300,
    ignoreStopTokens: true,
    cacheScope: "another",
  });
  await other.reaches(1);
  const heldAt = background.tokenIds.length;
  await other.ended;
  expect(background.tokenIds.length - heldAt).toBeLessThanOrEqual(1);
  expect(heldAt).toBeLessThan(LONG.tokensMax);
  await background.ended;
  expect(background.tokenIds).toEqual(alone.tokenIds);
  expect(engine.stats().promptTokensDecoded - decodedBefore).toBe(4);
});

test("with every slot taken by background sequences they go on, so that whoever waits gets a slot before the background that came earlier", async () => {
  const running = [0, 1, 2].map((at) => watched({ ...LONG, tokensMax: 30, choice: at, isBackground: true }));
  const order: string[] = [];
  const queued = watched({ ...LONG, tokensMax: 200, choice: 3, isBackground: true });
  const other = watched({ ...LONG, tokensMax: 40, choice: 4 });
  await Promise.all([
    queued.ended.then(() => order.push("background")),
    other.ended.then(() => order.push("other")),
    ...running.map(({ ended }) => ended),
  ]);
  expect(order).toEqual(["other", "background"]);
  expect(queued.tokenIds).toHaveLength(200);
});
