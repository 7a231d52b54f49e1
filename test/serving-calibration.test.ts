/** The serving simulator against the published figures of Helix, Swarm and separate pipelines: one seed each. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { calibrationCells, openServingData, type ServingData } from "../bench/lib/serving-cells.ts";
import { CELLS, type Cell, pipelineSetup, SEPARATE } from "../bench/lib/serving-settings.ts";
import { parseLayoutFile } from "../src/wire/layout-file.ts";
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

  test.each(CELLS)("the layout files of separate pipelines on %s are what the published runs had", (cell: Cell) => {
    for (const pipeline of SEPARATE[cell]) {
      const file = new URL(
        `../examples/helix-separate/${cell}-${pipeline.machine.toLowerCase()}.json`,
        import.meta.url,
      );
      const cluster = data.clusters[cell];
      const read = parseLayoutFile(readFileSync(file, "utf8"), cluster);
      const { layout, kvTokenLayers } = pipelineSetup(cluster, pipeline);
      expect(read.ok && new Map(read.value.layout)).toEqual(layout);
      expect(read.ok && read.value.kvTokenLayers).toEqual(kvTokenLayers);
    }
  });
});
