import { expect, test } from "vitest";
import { modelId, replicaId, sha256Hex } from "../../domain/ids.ts";
import { type Chain, newChain } from "./chain.ts";
import { newTimes } from "./chain-times.ts";

const REPORT = {
  type: "chain.state",
  replicaId: "",
  chainId: "0".repeat(32),
  chainEpoch: 1,
  isLinked: true,
  nextRttMs: 1,
  singlesMean: null,
  promptMsPerPosition: null,
  loopMs: null,
  drafted: 0,
  accepted: 0,
  bytesSent: 0,
  positionsSent: 0,
} as const;

function chainOf(...singleMs: readonly (number | null)[]): Chain {
  const shape = {
    modelId: modelId("m"),
    weightsSha256: sha256Hex("1".repeat(64)),
    layerCount: singleMs.length,
    wire: "f16",
    contextTokens: 64,
    sequencesMax: 1,
    draft: undefined,
  } as const;
  const spots = singleMs.map((_, first) => {
    return { first, count: 1, memoryBytes: 1, holder: replicaId(`rep_${String(first).padStart(26, "0")}`) };
  });
  const chain = newChain("0".repeat(32), shape, { spots, nowMs: 0 });
  chain.state = "serving";
  chain.epoch = 1;
  measure(chain, ...singleMs);
  return chain;
}

function measure(chain: Chain, ...singleMs: readonly (number | null)[]): void {
  for (const [at, place] of chain.places.entries()) place.report = { ...REPORT, singleMs: singleMs[at] ?? null };
}

test("the first stage is told the slowest time and the sum, once all have measured and while the chain serves", () => {
  expect(newTimes(chainOf(2, null, 5), 0)).toBeNull();
  const chain = chainOf(2, 9, 5);
  chain.state = "linking";
  expect(newTimes(chain, 0)).toBeNull();
  chain.state = "serving";
  expect(newTimes(chain, 0)).toEqual({ slowestMs: 9, sumMs: 16 });
});

test("it is told again after 10 s when a figure changed by more than a quarter", () => {
  const chain = chainOf(2, 9, 5);
  newTimes(chain, 0);
  measure(chain, 2, 10, 6);
  expect(newTimes(chain, 60_000)).toBeNull();
  measure(chain, 2, 12, 5);
  expect(newTimes(chain, 9_999)).toBeNull();
  expect(newTimes(chain, 10_000)).toEqual({ slowestMs: 12, sumMs: 19 });
  measure(chain, 2, 3, 5);
  expect(newTimes(chain, 15_000)).toBeNull();
  expect(newTimes(chain, 20_000)).toEqual({ slowestMs: 5, sumMs: 10 });
});

test("a new epoch may have a new first stage: it is told at once", () => {
  const chain = chainOf(2, 9, 5);
  newTimes(chain, 0);
  chain.epoch = 2;
  expect(newTimes(chain, 1)).toEqual({ slowestMs: 9, sumMs: 16 });
  expect(newTimes(chain, 2)).toBeNull();
});
