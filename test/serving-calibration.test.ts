/** The serving simulator against the published figures of Helix, Swarm and separate pipelines: one seed each. */
import { beforeAll, describe, expect, test } from "vitest";
import { calibrationCells, openServingData, type ServingData } from "../bench/lib/serving-cells.ts";
import { CELLS, type Cell } from "../bench/lib/serving-settings.ts";
import { findSharedData } from "./support/shared-data.ts";

/** One seed of five; the mean of five is within 0.05 (bench `serving`). */
const TOLERANCE_SHARE = 0.12;

describe.skipIf(findSharedData() === null)("on the published settings (left out without the shared data)", () => {
  let data: ServingData;
  beforeAll(() => {
    data = openServingData();
  });

  test.each(CELLS)("tokens per second on %s are those that were published", (cell: Cell) => {
    // Online runs of the larger load take seconds each: bench `serving` has them.
    const cells = calibrationCells(data, cell).filter(({ mode }) => mode === "offline" || cell === "geo24");
    for (const { system, mode, published, run } of cells) {
      const { decodeTokensPerSecond } = run("1");
      expect(Math.abs(decodeTokensPerSecond / published - 1), `${system} ${mode}`).toBeLessThan(TOLERANCE_SHARE);
    }
  });
});
