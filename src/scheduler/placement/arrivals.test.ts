import { expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import { Arrivals, CLASSES_MAX, HALF_LIFE_MS } from "./arrivals.ts";

const arrival = (name: string, nowMs: number) => ({
  modelId: modelId(name),
  tier: "default" as const,
  region: null,
  promptTokens: 100,
  outputTokens: 200,
  nowMs,
});

test("a steady stream of requests is counted at its rate", () => {
  const arrivals = new Arrivals();
  for (let nowMs = 0; nowMs <= 20 * HALF_LIFE_MS; nowMs += 1_000) arrivals.add(arrival("a", nowMs));
  const [asked] = arrivals.classes(20 * HALF_LIFE_MS);
  expect(asked?.tokPerSecond).toBeCloseTo(200, -1);
  expect(asked).toMatchObject({ tier: "default", region: null, contextTokensNeeded: 300 });
  expect(asked?.promptTokensMean).toBeCloseTo(100);
  expect(asked?.outputTokensMean).toBeCloseTo(200);
});

test("demand that stopped fades by half in a half-life and is forgotten at last", () => {
  const arrivals = new Arrivals();
  for (let count = 0; count < 1_000; count++) arrivals.add(arrival("a", 0));
  const now = arrivals.classes(0)[0]?.tokPerSecond ?? 0;
  expect(arrivals.classes(HALF_LIFE_MS)[0]?.tokPerSecond).toBeCloseTo(now / 2);
  expect(arrivals.classes(40 * HALF_LIFE_MS)).toEqual([]);
});

test("classes come sorted, and the faintest gives way when there are too many", () => {
  const arrivals = new Arrivals();
  arrivals.add(arrival("faint", 0));
  for (let index = 0; index < CLASSES_MAX; index++) arrivals.add(arrival(`m${index}`, HALF_LIFE_MS));
  const names = arrivals.classes(HALF_LIFE_MS).map(({ modelId: of }) => of);
  expect(names).toHaveLength(CLASSES_MAX);
  expect(names).not.toContain("faint");
  expect(names).toEqual([...names].sort());
});
