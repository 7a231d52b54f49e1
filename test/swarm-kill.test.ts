/** A node that is killed in the middle of fetching goes on where it was: at most a chunk is sent again for each kill. 20 kills each: test/soak. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { CHUNK_BYTES_DEFAULT } from "../src/domain/weights.ts";
import { writeRandomModel } from "./support/random-model.ts";
import { SwarmGrid, type SwarmModel } from "./support/swarm-grid.ts";
import { killDrill } from "./support/swarm-kill-drill.ts";

const KILLS = 5;
const MODEL_BYTES = 56 * 1024 * 1024;

let models: string;
let path: string;
let grid: SwarmGrid;
let model: SwarmModel;
beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), "fallow-kill-"));
  path = join(models, "random.gguf");
  await writeRandomModel(path, { fileBytes: MODEL_BYTES, layerCount: 32 });
});
afterAll(() => rm(models, { recursive: true, force: true }));
beforeEach(async () => {
  grid = await SwarmGrid.open();
  model = await grid.addModel(path);
});
afterEach(() => grid.close());

test("killed while the source sends", async () => {
  const { kills, lost, sha256 } = await killDrill(grid, model, KILLS);
  expect({ kills, lost, sha256 }).toEqual({ kills: KILLS, lost: [], sha256: model.weightsSha256 });
  expect(grid.sourceBytes - (await stat(path)).size).toBeLessThanOrEqual(KILLS * CHUNK_BYTES_DEFAULT);
});

test("killed while another node sends", async () => {
  const holder = await grid.agent();
  await holder.fetch(model);
  await grid.heard(holder.nodeId, model, (chunks, of) => chunks === of);
  const before = grid.sourceBytes;
  const { kills, lost, sha256 } = await killDrill(grid, model, KILLS);
  expect({ kills, lost, sha256 }).toEqual({ kills: KILLS, lost: [], sha256: model.weightsSha256 });
  const sentBytes = grid.sourceBytes - before + holder.swarm.uploadedBytes;
  expect(sentBytes - (await stat(path)).size).toBeLessThanOrEqual(KILLS * CHUNK_BYTES_DEFAULT);
});
