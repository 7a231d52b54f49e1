import { setImmediate as nextTurn } from "node:timers/promises";
import type { StageEngine } from "../src/ports/stage-engine.ts";
import { engineHost, generate, loadTiny, PROMPT } from "./support/engine-fixture.ts";
import { stageEngineContract } from "./support/stage-engine-contract.ts";
import { loadStage, StageFolder, stageHost, TINY_LAYERS } from "./support/stage-fixture.ts";

const host = stageHost();

stageEngineContract("over libllama, with the bundled model cut", async () => {
  const folder = await StageFolder.of();
  const whole = await loadTiny(engineHost());
  const stages: StageEngine[] = [];
  return {
    layerCount: TINY_LAYERS,
    promptIds: PROMPT,
    load: async ({ first, count, sequencesMax, wire }) => {
      const stage = await loadStage(host, await folder.cut(first, count), { sequencesMax, wire });
      stages.push(stage.engine);
      return stage;
    },
    answer: async (task) => (await generate(whole, task)).tokenIds,
    until: async (isReached) => {
      while (!isReached()) await nextTurn();
    },
    stop: async () => {
      await Promise.all([whole.close(), ...stages.map((stage) => stage.close()), folder.remove()]);
    },
  };
});
