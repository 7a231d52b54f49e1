import fc from "fast-check";
import { expect, test } from "vitest";
import { GB } from "../../../test/support/placement-samples.ts";
import { replicaBytes, SLOTS_MAX, sizeReplica } from "./slots.ts";

const sizes = fc.record({
  fileBytes: fc.integer({ min: 1, max: 50 * GB }),
  kvBytesPerToken: fc.integer({ min: 0, max: 2_000_000 }),
  contextTokensMax: fc.integer({ min: 1, max: 200_000 }),
});

test("a replica never takes more than is free, and has at least one slot", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 200 * GB }), (size, freeBytes) => {
      const sized = sizeReplica(size, freeBytes);
      if (!sized.ok) {
        expect(sized.reason.neededBytes).toBeGreaterThan(freeBytes);
        return;
      }
      expect(sized.value.memoryBytes).toBeLessThanOrEqual(freeBytes);
      expect(sized.value.memoryBytes).toBe(replicaBytes(size, sized.value));
      expect(sized.value.sequencesMax).toBeGreaterThanOrEqual(1);
      expect(sized.value.sequencesMax).toBeLessThanOrEqual(SLOTS_MAX);
      expect(sized.value.contextTokens).toBeLessThanOrEqual(size.contextTokensMax);
    }),
  );
});
