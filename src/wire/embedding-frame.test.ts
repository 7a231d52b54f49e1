import fc from "fast-check";
import { expect, test } from "vitest";
import { embeddingFrameBytes, vectorsPerFrame } from "./embedding-frame.ts";

const FRAME_BYTES_MAX = 16 * 1024 * 1024;

test("as many vectors fit a frame as it has room for, and no more", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 65_536 }), (embeddingLength) => {
      const count = vectorsPerFrame({ bytesMax: FRAME_BYTES_MAX, embeddingLength });
      expect(embeddingFrameBytes({ count, embeddingLength })).toBeLessThanOrEqual(FRAME_BYTES_MAX);
      expect(embeddingFrameBytes({ count: count + 1, embeddingLength })).toBeGreaterThan(FRAME_BYTES_MAX);
    }),
  );
});

test("a frame of vectors as JSON is no longer than was reckoned", () => {
  const embeddingLength = 1_023;
  const vector = "A".repeat(4 * Math.ceil((embeddingLength * 4) / 3));
  const leaseId = "lease_01KA0000000000000000000000";
  const frame = {
    type: "attempt.embedding",
    leaseId,
    epoch: Number.MAX_SAFE_INTEGER,
    vectors: Array(100).fill(vector),
  };
  expect(JSON.stringify(frame).length).toBeLessThanOrEqual(embeddingFrameBytes({ count: 100, embeddingLength }));
});
