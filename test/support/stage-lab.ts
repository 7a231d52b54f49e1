/** Three thirds of a scripted model on nodes in virtual time, and an answer that is under way. */
import { shareOfStage } from "../../src/domain/chain.ts";
import { modelId, sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import { scriptedAnswer } from "../../src/sim/engine/scripted-model.ts";
import { ScriptedStages } from "../../src/sim/engine/scripted-stage-host.ts";
import { SimClock } from "../../src/sim/time/clock.ts";
import { Host } from "../../src/sim/time/host.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { Timeline } from "../../src/sim/time/timeline.ts";
import { MemoryNet } from "./memory-carrier.ts";
import { type Answer, type Ask, CONTEXT_TOKENS, StageNodes, type StageNodesOptions, seedOf } from "./stage-nodes.ts";

export const LAYERS = 6;
/** Its text is 40 tokens long. */
const REQUEST = 7;
export const PROMPT = [5, 9, 13, 21, 34, 55, 8, 7, 3];
export const ASK: Ask = {
  request: REQUEST,
  prompt: PROMPT,
  tokensMax: 40,
  sampling: { ...DEFAULT_SAMPLING, temperature: 0.8 },
};
const WAIT_MS_MAX = 60_000;

export interface StageLab {
  readonly chain: StageNodes;
  readonly timeline: Timeline;
  readonly net: MemoryNet;
  pass(ms: number): Promise<void>;
}

export function openStageLab(more: Partial<StageNodesOptions> = {}): StageLab {
  const timeline = new Timeline();
  const host = new Host("all", timeline);
  const clock = new SimClock(host);
  const net = new MemoryNet({ delayMs: () => 10, after: (delayMs, fire) => void host.after(delayMs, fire) });
  const pace = { loadMs: 10, prefillMsPerToken: 0.5, stepMs: 8 };
  const stages = new ScriptedStages({ clock, pace });
  const until = async (isReached: () => boolean) => {
    const endMs = timeline.nowMs + WAIT_MS_MAX;
    while (!isReached() && timeline.nowMs < endMs) await timeline.run(timeline.nowMs + 1, () => !isReached());
    if (!isReached()) throw new Error(`not reached within ${WAIT_MS_MAX} virtual ms`);
  };
  const chain = new StageNodes({
    clock,
    random: new SeededRandom("stages"),
    net,
    layerCount: LAYERS,
    load: async (layers, onEvents) => {
      const loading = stages.loadStage(
        {
          modelId: modelId("tiny"),
          stagePath: "",
          weightsSha256: sha256Hex("ab".repeat(32)),
          share: shareOfStage(layers, LAYERS),
          contextTokens: more.contextTokens ?? CONTEXT_TOKENS,
          sequencesMax: 4,
          threads: 1,
          gpuLayers: 0,
          wire: "f32",
        },
        { signal: new AbortController().signal, onEvents },
      );
      await timeline.run(timeline.nowMs + 50, () => true);
      return await loading;
    },
    until,
    ...more,
  });
  return { chain, timeline, net, pass: (ms) => timeline.run(timeline.nowMs + ms, () => true) };
}

export function expected({ prompt, request, tokensMax, sampling = DEFAULT_SAMPLING }: Ask): readonly number[] {
  const whole = { tokenIds: prompt, generatedCount: 0, sampling, seed: sha256Hex(seedOf(request)), choice: 0 };
  return scriptedAnswer(whole, tokensMax, LAYERS).tokenIds;
}

export const THIRDS = [
  { first: 0, count: 2 },
  { first: 2, count: 2 },
  { first: 4, count: 2 },
];

/** Three stages, and an answer under way by so many tokens. */
export async function underway({ chain }: StageLab, tokens: number): Promise<Answer> {
  const nodes = [];
  for (const layers of THIRDS) nodes.push(await chain.add(layers));
  await chain.link(nodes);
  const answer = chain.start(ASK);
  await chain.until(() => answer.tokenIds.length >= tokens);
  return answer;
}
