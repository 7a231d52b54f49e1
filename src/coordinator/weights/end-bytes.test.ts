import { expect, test } from "vitest";
import type { WeightsPart } from "../../domain/weights.ts";
import { endBytesOf } from "./end-bytes.ts";

const part = (kind: WeightsPart["kind"], bytes: number, more: Partial<WeightsPart> = {}): WeightsPart => ({
  kind,
  ranges: [{ file: 0, offset: 0, bytes }],
  ...more,
});
const layers = [part("layer", 30, { layer: 0 }), part("layer", 40, { layer: 1 })];

test("a head of its own lies at the end alone", () => {
  const parts = [part("header", 5), part("embedding", 10), ...layers, part("output", 12), part("shared", 1)];
  expect(endBytesOf({ parts })).toEqual({ embeddingBytes: 10, outputBytes: 12, layersBytes: 70 });
});

test("a tied head is the embedding once more, beside its norm", () => {
  const parts = [part("header", 5), part("embedding", 10, { isOutputToo: true }), ...layers, part("output", 2)];
  expect(endBytesOf({ parts })).toEqual({ embeddingBytes: 10, outputBytes: 12, layersBytes: 70 });
});
