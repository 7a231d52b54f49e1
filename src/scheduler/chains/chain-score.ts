/**
 * How fast a chain would be. One token of a lone sequence goes through all stages and over all ways between them, and from the last stage to the first:
 * that is the loop. With several sequences the stages work at the same time, so the slowest of them bounds the rate, or the loop does when there are too
 * few sequences to fill it:
 *
 *   rate(n) = min( n / loop with steps of n / k sequences,  (n / k) / the slowest stage's step )
 */
import { tokenWorth } from "../placement/objective.ts";
import { stepFactor } from "../placement/speed-model.ts";

export interface StageNode {
  readonly freeBytes: number;
  /** Of one token of a lone sequence, through one layer. */
  readonly layerSeconds: number;
  readonly isGpu: boolean;
  /** Chance that it stays for the planner's horizon; absent: 1. */
  readonly stayChance?: number;
}

export interface ChainSpeed {
  readonly loopSeconds: number;
  readonly tokPerSecond: number;
  /** What chains are compared by: the rate, worth less where each reader waits longer for a token, or a stage is likelier lost. */
  readonly score: number;
}

/** Sequences for which a chain is compared with others: more seldom run at the same time. */
const SEQUENCES_COMPARED = 16;
/** A lost stage is replaced within seconds, so a chain that is sure to lose one is worth half of one that is sure not to. */
const LOSS_SHARE = 0.5;

/** `hopSeconds`: one way, from one node to another. */
export function chainSpeed(
  stages: readonly { readonly node: StageNode; readonly at: number; readonly count: number }[],
  given: { readonly slots: number; readonly hopSeconds: (from: number, to: number) => number },
): ChainSpeed {
  const sequences = Math.max(1, Math.min(given.slots, SEQUENCES_COMPARED));
  const together = Math.max(1, sequences / stages.length);
  let loopSeconds = 0;
  let loopTogether = 0;
  let slowest = 0;
  stages.forEach(({ node, at, count }, index) => {
    const step = count * node.layerSeconds;
    const stepTogether = step * stepFactor(node.isGpu, together);
    const next = stages[(index + 1) % stages.length]?.at ?? at;
    const hop = given.hopSeconds(at, next);
    loopSeconds += step + hop;
    loopTogether += stepTogether + hop;
    slowest = Math.max(slowest, stepTogether);
  });
  const tokPerSecond = Math.min(sequences / loopTogether, together / slowest);
  const worth = tokenWorth({ seconds: loopSeconds, qualityPenalty: 0 });
  const stayChance = stages.reduce((product, { node }) => product * (node.stayChance ?? 1), 1);
  return { loopSeconds, tokPerSecond, score: tokPerSecond * worth * (1 - LOSS_SHARE * (1 - stayChance)) };
}
