/** A load for the engine: prompts that share nothing, all at once, each to a fixed number of tokens. */
import { sha256Hex } from "../../src/domain/ids.ts";
import type { SamplingOptions } from "../../src/domain/sampling.ts";
import type { Engine } from "../../src/ports/engine.ts";

export interface Work {
  readonly prompts: readonly (readonly number[])[];
  readonly outputTokens: number;
}

export interface EngineRun {
  readonly tokPerSecond: number;
  readonly outputs: readonly (readonly number[])[];
}

const PROMPT_TOKENS = 16;
/** Word tokens of the tiny model's vocabulary begin here; below are bytes and control tokens. */
const WORDS_FROM = 300;
const WORDS = 1700;

/** `salt` tells rounds apart, so that no round finds the prompts of the last one in memory. */
export function workOf(load: {
  readonly sequences: number;
  readonly outputTokens: number;
  readonly salt: number;
}): Work {
  const word = (sequence: number, at: number): number =>
    WORDS_FROM + ((sequence * 131 + at * 37 + load.salt * 17) % WORDS);
  const prompts = Array.from({ length: load.sequences }, (_, sequence) =>
    Array.from({ length: PROMPT_TOKENS }, (_token, at) => (at === 0 ? 1 : word(sequence, at))),
  );
  return { prompts, outputTokens: load.outputTokens };
}

export async function runOnEngine(engine: Engine, work: Work, sampling: SamplingOptions): Promise<EngineRun> {
  const startMs = performance.now();
  const outputs = await Promise.all(
    work.prompts.map((prompt, at) => runOne(engine, { prompt, at, sampling, tokensMax: work.outputTokens })),
  );
  const tokens = outputs.reduce((sum, output) => sum + output.length, 0);
  return { tokPerSecond: (tokens / (performance.now() - startMs)) * 1000, outputs };
}

function runOne(
  engine: Engine,
  task: { prompt: readonly number[]; at: number; sampling: SamplingOptions; tokensMax: number },
): Promise<readonly number[]> {
  return new Promise((resolve, reject) => {
    const output: number[] = [];
    engine.generate(
      {
        tokenIds: task.prompt,
        generatedCount: 0,
        tokensMax: task.tokensMax,
        sampling: task.sampling,
        seed: sha256Hex(task.at.toString(16).padStart(64, "0")),
        choice: 0,
        stopStrings: [],
        grammar: null,
        cacheScope: "bench",
        ignoreStopTokens: true,
        topLogprobs: null,
      },
      (event) => {
        if (event.kind === "tokens") for (const { tokenId } of event.tokens) output.push(tokenId);
        else if (event.kind === "end") resolve(output);
        else reject(new Error(`${event.code}: ${event.message}`));
      },
    );
  });
}
