/** A node that is killed in the middle of fetching, twenty times, goes on where it was: at most a chunk is sent again for each kill. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { CHUNK_BYTES_DEFAULT } from "../../src/domain/weights.ts";
import { writeRandomModel } from "../support/random-model.ts";
import { SwarmGrid, type SwarmModel } from "../support/swarm-grid.ts";
import { killDrill } from "../support/swarm-kill-drill.ts";

const KILLS = 20;
const MODEL_BYTES = 200 * 1024 * 1024;

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

async function expectLittleAgain(sentBytes: () => number): Promise<void> {
  const { kills, lost, sha256 } = await killDrill(grid, model, KILLS);
  expect(sha256).toBe(model.weightsSha256);
  expect(kills).toBe(KILLS);
  expect(lost).toEqual([]);
  const again = sentBytes() - (await stat(path)).size;
  console.log(`${kills} kills: ${(again / kills / CHUNK_BYTES_DEFAULT).toFixed(2)} chunks sent again for each`);
  expect(again).toBeLessThanOrEqual(KILLS * CHUNK_BYTES_DEFAULT);
}

test(`kill -9 ${KILLS} times while the source sends`, () => expectLittleAgain(() => grid.sourceBytes));

test(`kill -9 ${KILLS} times while another node sends`, async () => {
  const holder = await grid.agent();
  await holder.fetch(model);
  await grid.heard(holder.nodeId, model, (chunks, of) => chunks === of);
  const before = grid.sourceBytes;
  await expectLittleAgain(() => grid.sourceBytes - before + holder.swarm.uploadedBytes);
});
