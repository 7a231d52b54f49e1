/** The simulator's stages, held to the contract of all stage engines, and what they show when something is amiss. */
import { expect, test } from "vitest";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import type { StageEvent } from "../src/ports/stage-engine.ts";
import { embeddedToken, hiddenBytes, ScriptedKv, statesOf } from "../src/sim/engine/scripted-layers.ts";
import { ScriptedText } from "../src/sim/engine/scripted-model.ts";
import { ScriptedStages } from "../src/sim/engine/scripted-stage-host.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { Host } from "../src/sim/time/host.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { stageEngineContract } from "./support/stage-engine-contract.ts";

const LAYERS = 5;
const WAIT_MS_MAX = 60_000;

stageEngineContract("of the simulator", async () => {
  const timeline = new Timeline();
  const stages = new ScriptedStages({ clock: new SimClock(new Host("node-0", timeline)) });
  let isOver = false;
  const passing = (async () => {
    while (!isOver) await timeline.run(timeline.nowMs + 1, () => true);
  })();
  return {
    layerCount: LAYERS,
    promptIds: [7, 3, 9, 12, 5, 33],
    load: async ({ first, count, sequencesMax, wire }) => {
      const events: StageEvent[] = [];
      const engine = await stages.loadStage(
        {
          modelId: modelId("scripted"),
          stagePath: "/sim",
          weightsSha256: sha256Hex("00".repeat(32)),
          share: { first, count, hasEmbedding: first === 0, hasOutput: first + count === LAYERS },
          contextTokens: 64,
          sequencesMax,
          threads: 1,
          gpuLayers: 0,
          wire,
        },
        { signal: new AbortController().signal, onEvents: (more) => events.push(...more) },
      );
      return { engine, events };
    },
    answer: async (task) => {
      const text = new ScriptedText(task, LAYERS);
      return Array.from({ length: task.tokensMax }, () => text.next());
    },
    until: async (isReached) => {
      const endMs = timeline.nowMs + WAIT_MS_MAX;
      while (!isReached()) {
        if (timeline.nowMs > endMs) throw new Error(`not reached within ${WAIT_MS_MAX} virtual ms`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    stop: async () => {
      isOver = true;
      await passing;
    },
  };
});

test("a position that is missing, doubled, stale or decoded another way changes what a scripted layer puts out", () => {
  const out = (feed: (kv: ScriptedKv) => void): number => {
    const kv = new ScriptedKv({ first: 0, count: 2 });
    feed(kv);
    return kv.append(4, embeddedToken(1), "singly");
  };
  const tokens = [5, 6, 7, 8];
  const all = (kv: ScriptedKv) => tokens.forEach((token, at) => void kv.append(at, embeddedToken(token), "together"));
  const right = out(all);
  expect(out(all)).toBe(right);
  const wrong = [
    out((kv) => tokens.slice(0, 3).forEach((token, at) => void kv.append(at, embeddedToken(token), "together"))),
    out((kv) => {
      all(kv);
      kv.append(3, embeddedToken(8), "together");
    }),
    out((kv) => {
      kv.append(0, embeddedToken(9), "together");
      all(kv);
    }),
    out((kv) =>
      tokens.forEach((token, at) => void kv.append(at, embeddedToken(token), at === 2 ? "singly" : "together")),
    ),
  ];
  for (const other of wrong) expect(other).not.toBe(right);
});

test("hidden states go through either format and come back as they were", () => {
  const states = [0, 1, 0xffffffff, 0x12345678, 0x80000000];
  for (const format of ["f16", "f32"] as const) expect(statesOf(hiddenBytes(states, format), format)).toEqual(states);
});
