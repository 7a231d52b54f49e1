import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../domain/ids.ts";
import { DEFAULT_SAMPLING, type SamplingOptions } from "../domain/sampling.ts";
import { logSumExp, topLogprobs } from "./logprobs.ts";
import { LOGITS_BROKEN, NO_CANDIDATE, SamplerScratch, type TokenMask, TokenSampler } from "./sampler.ts";
import { SeededDraw, seedBytes } from "./seeded-draw.ts";

const SEED = sha256Hex("a7".repeat(32));

/** The specification written down as plainly as possible: sorts everything, keeps nothing. */
function plainSample(
  logits: readonly number[],
  options: SamplingOptions,
  more: {
    readonly generated?: readonly number[];
    readonly isAllowed?: (id: number) => boolean;
    readonly position: number;
  },
): number {
  const bias = new Map(options.logitBias);
  const scored = logits.map((logit, id) => {
    const count = (more.generated ?? []).filter((token) => token === id).length;
    const penalty = options.frequencyPenalty * count;
    const z = Math.fround(logit) + (bias.get(id) ?? 0) - penalty - (count > 0 ? options.presencePenalty : 0);
    return { id, z: Math.fround(z) };
  });
  const allowed = scored.filter(({ id }) => more.isAllowed?.(id) ?? true);
  const sorted = allowed.sort((a, b) => b.z - a.z || a.id - b.id);
  const { temperature: t, topK, topP } = options;
  if (t === 0) return sorted[0]?.id ?? NO_CANDIDATE;
  const top = sorted.slice(0, topK);
  const weights = top.map(({ z }) => Math.exp((z - (top[0]?.z ?? 0)) / t));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let running = 0;
  const cut = weights.findIndex((weight) => {
    running += weight;
    return running >= topP * total;
  });
  const kept = topP >= 1 || cut < 0 ? top : top.slice(0, cut + 1);
  const draw = new SeededDraw(seedBytes(SEED), 0);
  const noisy = kept.map(({ id, z }) => ({ id, score: z / t + draw.gumbel(more.position, id) }));
  return noisy.sort((a, b) => b.score - a.score || a.id - b.id)[0]?.id ?? NO_CANDIDATE;
}

const vocabSize = 600;
const logitsArbitrary = fc.array(fc.float({ min: -12, max: 12, noNaN: true }), {
  minLength: vocabSize,
  maxLength: vocabSize,
});
const optionsArbitrary = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2),
  topK: fc.integer({ min: 1, max: 64 }),
  topP: fc.constantFrom(0.1, 0.9, 0.95, 1),
  frequencyPenalty: fc.constantFrom(-2, 0, 0.7),
  presencePenalty: fc.constantFrom(0, 1.5),
  logitBias: fc.uniqueArray(fc.tuple(fc.nat(vocabSize - 1), fc.integer({ min: -100, max: 100 })), {
    maxLength: 5,
    selector: ([id]) => id,
  }),
});

describe("gumbel-topk-v1", () => {
  test("equals the plain reading of its specification", () => {
    const generated = fc.array(fc.nat(vocabSize - 1), { maxLength: 30 });
    fc.assert(
      fc.property(logitsArbitrary, optionsArbitrary, generated, (logits, options, tokens) => {
        const sampler = new TokenSampler(options, SEED, 0);
        for (const token of tokens) sampler.accept(token);
        const found = sampler.sample(Float32Array.from(logits), null, new SamplerScratch(vocabSize));
        expect(found).toBe(plainSample(logits, options, { generated: tokens, position: tokens.length }));
      }),
    );
  });

  test("a mask looked at lazily equals masking the whole vocabulary first", () => {
    const share = fc.constantFrom(1, 2, 5, 40, 599, 1000);
    fc.assert(
      fc.property(logitsArbitrary, optionsArbitrary, share, fc.nat(50), (logits, options, one, salt) => {
        const isAllowed = (id: number): boolean => (id * 7919 + salt) % one === 0;
        const mask = maskOf(isAllowed);
        const sampler = new TokenSampler(options, SEED, 0);
        const found = sampler.sample(Float32Array.from(logits), mask, new SamplerScratch(vocabSize));
        expect(found).toBe(plainSample(logits, options, { isAllowed, position: 0 }));
      }),
    );
  });

  test("draws follow the softmax of the candidates", () => {
    const logits = [2, 1, 0, -1];
    const counts = [0, 0, 0, 0];
    const rounds = 20_000;
    const sampler = new TokenSampler(DEFAULT_SAMPLING, SEED, 0);
    const scratch = new SamplerScratch(4);
    for (let round = 0; round < rounds; round++) {
      const token = sampler.sample(Float32Array.from(logits), null, scratch);
      sampler.accept(token);
      counts[token] = (counts[token] ?? 0) + 1;
    }
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    for (const [id, logit] of logits.entries()) {
      const p = Math.exp(logit) / total;
      const fiveErrors = 5 * Math.sqrt((p * (1 - p)) / rounds);
      expect(Math.abs((counts[id] ?? 0) / rounds - p)).toBeLessThan(fiveErrors);
    }
  });

  test("a mask that allows nothing gives no candidate, and broken logits are told apart", () => {
    const scratch = new SamplerScratch(vocabSize);
    const sampler = new TokenSampler(DEFAULT_SAMPLING, SEED, 0);
    expect(
      sampler.sample(
        new Float32Array(vocabSize),
        maskOf(() => false),
        scratch,
      ),
    ).toBe(NO_CANDIDATE);
    expect(sampler.sample(new Float32Array(vocabSize).fill(Number.NaN), null, scratch)).toBe(LOGITS_BROKEN);
  });

  test("the test vectors of docs/sampling.md hold", () => {
    const seed = sha256Hex("000102030405060708090a0b0c0d0e0f".repeat(2));
    const logits = [1.5, -0.25, 3, 2.75, 3, 0.5, -4, 2];
    const draw = (options: Partial<SamplingOptions>, choice: number): number[] => {
      const sampler = new TokenSampler({ ...DEFAULT_SAMPLING, ...options }, seed, choice);
      return Array.from({ length: 12 }, () => {
        const token = sampler.sample(Float32Array.from(logits), null, new SamplerScratch(logits.length));
        sampler.accept(token);
        return token;
      });
    };
    expect(draw({ temperature: 0.8, topK: 4 }, 1)).toEqual([2, 2, 2, 4, 3, 2, 7, 2, 2, 4, 2, 2]);
    expect(draw({ temperature: 0.8, topK: 4, topP: 0.7 }, 1)).toEqual([2, 2, 2, 4, 3, 2, 4, 2, 2, 4, 2, 2]);
    expect(draw({ temperature: 2, topK: 8 }, 0)).toEqual([5, 5, 3, 0, 0, 4, 1, 3, 2, 3, 3, 7]);
    expect(draw({ temperature: 0 }, 0)).toEqual(new Array(12).fill(2));
  });

  test("another choice of the same request draws other tokens", () => {
    const flat = new Float32Array(64);
    const texts = [0, 1].map((choice) => {
      const sampler = new TokenSampler({ ...DEFAULT_SAMPLING, topK: 64 }, SEED, choice);
      return Array.from({ length: 20 }, () => {
        const token = sampler.sample(flat.slice(), null, new SamplerScratch(64));
        sampler.accept(token);
        return token;
      });
    });
    expect(texts[0]).not.toEqual(texts[1]);
  });
});

function maskOf(isAllowed: (id: number) => boolean): TokenMask {
  return {
    allow: (ids, count, allowed) => {
      for (let index = 0; index < count; index++) allowed[index] = isAllowed(ids[index] ?? 0) ? 1 : 0;
    },
  };
}

test("log-probabilities are those of the softmax, and the likeliest come first", () => {
  fc.assert(
    fc.property(logitsArbitrary, fc.integer({ min: 0, max: 20 }), (logits, count) => {
      const row = Float32Array.from(logits);
      const sum = logSumExp(row);
      const total = Array.from(row, (logit) => Math.exp(logit - sum)).reduce((a, b) => a + b, 0);
      expect(total).toBeCloseTo(1, 9);
      const top = topLogprobs(row, sum, count);
      expect(top.length).toBe(count);
      const best = Array.from(row, (logit) => logit - sum).sort((a, b) => b - a);
      expect(top.map(({ logprob }) => logprob)).toEqual(best.slice(0, count));
    }),
  );
});
