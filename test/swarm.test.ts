/** Weights between nodes: a real coordinator, real agents with stores on the disk, real TLS links between them. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { writeRandomModel } from "./support/random-model.ts";
import { SwarmGrid, type SwarmModel } from "./support/swarm-grid.ts";

const LAYERS = 32;
const MODEL_BYTES = 48 * 1024 * 1024;

let models: string;
let path: string;
let grid: SwarmGrid;
let model: SwarmModel;

beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), "fallow-swarm-model-"));
  path = join(models, "random.gguf");
  await writeRandomModel(path, { fileBytes: MODEL_BYTES, layerCount: LAYERS });
});
afterAll(() => rm(models, { recursive: true, force: true }));
beforeEach(async () => {
  grid = await SwarmGrid.open();
  model = await grid.addModel(path);
});
afterEach(() => grid.close());

async function expectWhole(found: string): Promise<void> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(found)) hash.update(bytes);
  expect(hash.digest("hex")).toBe(model.weightsSha256);
}

describe("a node's weights", () => {
  test("come from the source when nobody has them, and from the first node for the second", async () => {
    const first = await grid.agent();
    await expectWhole(await first.fetch(model));
    expect(grid.sourceBytes).toBe((await stat(path)).size);
    await grid.heard(first.nodeId, model, (chunks, of) => chunks === of);
    const second = await grid.agent();
    const seen: number[] = [];
    await expectWhole(await second.fetch(model, { onProgress: (doneBytes) => seen.push(doneBytes) }));
    expect(grid.sourceBytes).toBe((await stat(path)).size);
    expect(first.swarm.uploadedBytes).toBe((await stat(path)).size);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(model.fileBytes);
  });
});
