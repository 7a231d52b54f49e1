/**
 * The way of a request under our policies: the path on which its caller is served soonest, with the product's price for the risk that a
 * machine leaves before the answer is done. Time is what a coordinator can know: prompts that wait on a machine, the step at the
 * load that it would have, round trips; how long the answer will be it takes from the model's mean.
 */
import { hazardPerMs, riskScore } from "../../../scheduler/matching/score.ts";
import { type GridNode, type Hop, hopLayers, type Running, type Stage } from "../grid/grid-parts.ts";
import { kvNeed } from "../grid/request-flow.ts";
import { bucketOf, hopTransferMs } from "../grid/request-progress.ts";
import { prefillMs, SEQUENCES_MAX, stepMs } from "../grid/stage-speed.ts";
import { rttToCoordinator } from "../scenario/scenario.ts";
import type { GridFacts } from "./policy.ts";
import { routeOver } from "./route-over.ts";

/** Longest way that a tier may take: the product's rule. */
export const HOPS_MAX = 12;
/** An answer of unknown length is taken for as long as this. */
const OUTPUT_TOKENS_GUESS = 200;

export function routeOurs(
  running: Running,
  facts: GridFacts,
  stayChancePerHour: (node: GridNode) => number,
): readonly Hop[] | null {
  const { scenario, nowMs } = facts;
  const { draw } = running;
  const need = kvNeed(draw);
  const stages: Stage[] = [];
  for (const node of facts.nodes) {
    for (const stage of node.stages) {
      if (stage.model !== draw.model || stage.state !== "ready" || stage.isClosed) continue;
      if (stage.sequences.size < SEQUENCES_MAX && stage.kvTokens + need <= stage.kvTokensMax) stages.push(stage);
    }
  }
  const layerCount = scenario.models[draw.model]?.layerCount ?? 0;
  const tokens = draw.promptTokens + running.generated;
  const output = Math.max(OUTPUT_TOKENS_GUESS, running.generated / 2);
  return routeOver(stages, layerCount, {
    hop: (before, hop) => {
      const { node, spec, sequences } = hop.stage;
      const layers = hopLayers(hop);
      const step = stepMs(node.draw.gpu, spec, { layers, sequences: bucketOf(sequences.size + 1) });
      const busy = Math.max(1, node.busyStages + (sequences.size === 0 ? 1 : 0));
      const prompt = prefillMs(node.draw.gpu, spec, { layers, tokens });
      const queueMs = Math.max(0, node.prefillFreeAtMs - nowMs);
      const networkMs =
        before === null
          ? rttToCoordinator(scenario, node.draw) / 2
          : (output + 1) * hopTransferMs(scenario, { from: before.node, to: node, bytes: spec.activationBytes });
      const workMs = queueMs + prompt + output * step * busy + networkMs;
      return workMs - riskScore(hazardPerMs(stayChancePerHour(node)), workMs);
    },
    last: (stage) => rttToCoordinator(scenario, stage.node.draw) / 2,
    hopsMax: HOPS_MAX,
  });
}
