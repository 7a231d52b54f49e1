/** The simulator's weights and the real ones are held to the same. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";
import { sha256Hex } from "../src/domain/ids.ts";
import { SimDisk, simWeights } from "../src/sim/engine/sim-weights.ts";
import { Host } from "../src/sim/time/host.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { writeRandomModel } from "./support/random-model.ts";
import { SwarmGrid } from "./support/swarm-grid.ts";
import { weightsCacheContract } from "./support/weights-cache-contract.ts";

const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

weightsCacheContract("weights from other nodes and the coordinator", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-cache-contract-"));
  undo.push(() => rm(folder, { recursive: true, force: true }));
  const grid = await SwarmGrid.open();
  undo.push(() => grid.close());
  const modelOf = async (seed: number, fileBytes: number) => {
    const path = join(folder, `${seed}.gguf`);
    await writeRandomModel(path, { fileBytes, layerCount: 2, seed });
    return await grid.addModel(path);
  };
  const [one, two] = [await modelOf(1, 12e6), await modelOf(2, 14e6)];
  const agent = await grid.agent();
  for (const model of [one, two]) grid.order(agent.nodeId, model);
  return { cache: agent.swarm, wants: [one, two], settled: (promise) => promise };
});

weightsCacheContract("weights in the simulator", async () => {
  const timeline = new Timeline();
  const cache = simWeights({
    host: new Host("node", timeline),
    disk: new SimDisk(),
    bytesPerMs: 1_000,
    fault: () => null,
  });
  return {
    cache,
    wants: [
      { weightsSha256: sha256Hex("11".repeat(32)), fileBytes: 50_000 },
      { weightsSha256: sha256Hex("22".repeat(32)), fileBytes: 70_000 },
    ],
    settled: async (promise) => {
      let isSettled = false;
      const settle = () => {
        isSettled = true;
      };
      promise.then(settle, settle);
      for (let turn = 0; turn < 1_000 && !isSettled; turn++) await timeline.run(timeline.nowMs + 10, () => true);
      return await promise;
    },
  };
});
