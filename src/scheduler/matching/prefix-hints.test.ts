import { expect, test } from "vitest";
import { modelId, replicaId } from "../../domain/ids.ts";
import { PrefixHints } from "./prefix-hints.ts";

const MODEL = modelId("tiny");
const A = replicaId(`rep_${"0".repeat(26)}`);
const B = replicaId(`rep_${"1".repeat(26)}`);
const turn = (length: number) => Array.from({ length }, (_, at) => (at * 31) % 97);

test("the next turn of a conversation finds the replica of the turn before", () => {
  const hints = new PrefixHints();
  hints.remember(MODEL, turn(100), A);
  expect(hints.find(MODEL, turn(200))).toEqual({ replicaId: A, promptShare: 96 / 200 });
  expect(hints.find(modelId("other"), turn(200))).toBeNull();
  expect(hints.find(MODEL, turn(31))).toBeNull();
});

test("the longest head that was seen wins", () => {
  const hints = new PrefixHints();
  hints.remember(MODEL, turn(200), A);
  hints.remember(MODEL, [...turn(64), ...Array.from({ length: 64 }, () => 5)], B);
  expect(hints.find(MODEL, turn(300))?.replicaId).toBe(A);
  expect(hints.find(MODEL, turn(64))).toEqual({ replicaId: B, promptShare: 1 });
});
