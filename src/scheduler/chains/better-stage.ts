/**
 * Whether a node outside of a serving chain would do one of its stages clearly better: with a quicker loop, or with a node that stays likelier. One stage
 * moves at a time, so each pair of a stage and a node is looked at:
 *
 * | a move is worth it for | when it makes                                        | and does not make                                   |
 * | ---------------------- | ---------------------------------------------------- | --------------------------------------------------- |
 * | the loop               | it shorter by a fifth                                | a loss likelier by more than a tenth                |
 * | staying                | the chance that a stage is lost half of what it is   | the loop longer by more than a twentieth            |
 *
 * and in both cases the slowest stage no slower. Each GB that has to be fetched asks for a hundredth more.
 *
 * No way leads back: every move lowers `ln(loop) + ln(chance of loss)`, so with the same figures no chain comes to a node again that it left. Nor does it
 * follow figures that are only told otherwise: what stages and ways measure of themselves is compared with what the models of speed and ways say of them,
 * and if these are too fair everywhere, they are taken to be as much too fair of the others.
 *
 * Not handled: keys and values that move with a stage are not priced; two stages that would be better only together.
 */
import { assert } from "../../domain/assert.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { LoserReason } from "../placement/snapshot.ts";
import { bytesToFetch, roomObstacle } from "./stage-room.ts";

export interface ServingStage {
  readonly nodeId: NodeId;
  readonly count: number;
  /** Of weights, KV cache and computing. */
  readonly memoryBytes: number;
  readonly weightsBytes: number;
  readonly stayChance: number;
  /** Of a decode of single tokens; null: nobody measured. */
  readonly measuredSeconds: number | null;
  /** The same, as the speed model has it. */
  readonly modelledSeconds: number;
  /** One way to the next stage, of the last one to the first; null: nobody measured. */
  readonly measuredHopSeconds: number | null;
  /** Nodes outside of the chain that keep the rules which this stage's node keeps. */
  readonly candidates: readonly BetterCandidate[];
}

export interface BetterCandidate {
  readonly nodeId: NodeId;
  /** Why it cannot; null when it can. */
  readonly obstacle: LoserReason | null;
  readonly freeBytes: number;
  /** Of the stage's weights, that lie on its disk. */
  readonly storedBytes: number;
  readonly stayChance: number;
  /** Of one token through one layer, as the speed model has it. */
  readonly modelledLayerSeconds: number;
  /** The same as the node was seen to do it, and how far it is believed to be quicker than the model, 0 to 1; null: it was not seen. */
  readonly seen: { readonly layerSeconds: number; readonly weight: number } | null;
}

export interface BetterStageQuestion {
  readonly stages: readonly ServingStage[];
  /** One way, as links are known; null: they are not. */
  readonly hopSeconds: (from: NodeId, to: NodeId) => number | null;
}

/** How the chain is, or would be. */
export interface ChainOutlook {
  readonly loopSeconds: number;
  /** Chance that a stage is lost within the planner's horizon. */
  readonly lossChance: number;
  readonly slowestSeconds: number;
}

export interface BetterStage {
  /** Which of the stages moves. */
  readonly at: number;
  readonly nodeId: NodeId;
  readonly fetchBytes: number;
  readonly why: "quicker" | "stays-longer";
  readonly now: ChainOutlook;
  readonly then: ChainOutlook;
}

/** A move stops the chain for a change of epoch and may be wrong by as much as figures are. */
const LOOP_SHARE_MAX = 0.8;
const LOSS_SHARE_MAX = 0.5;
/** What a move for one reason may cost of the other: so little that each lowers the product (ln 0.8 + ln 1.1 < 0, ln 0.5 + ln 1.05 < 0). */
const LOSS_SLACK = 1.1;
const LOOP_SLACK = 1.05;
/** Below it chances are not known well enough to move for. */
const LOSS_MIN = 0.02;
/**
 * A GB costs 0.0015 USD (placement/objective.ts). A chain that gives 10 tokens a second at a USD for a million earns 0.036 USD an hour, so that is a
 * hundredth of four hours.
 */
const SHARE_PER_GB = 0.01;
const FETCH_SHARE_MAX = 0.5;
const SECONDS_MIN = 1e-9;

/** The best such move; null when none is worth it. */
export function betterStage(question: BetterStageQuestion): BetterStage | null {
  const chain = new ServingChain(question);
  const now = chain.outlook(null);
  if (now === null) return null;
  let best: { readonly move: BetterStage; readonly gain: number } | null = null;
  for (const [at, stage] of question.stages.entries()) {
    for (const candidate of stage.candidates) {
      if (roomObstacle(candidate, stage.memoryBytes) !== null) continue;
      const then = chain.outlook({ at, candidate });
      if (then === null) continue;
      const fetchBytes = bytesToFetch(candidate.storedBytes, stage.weightsBytes);
      const share = 1 - Math.min(FETCH_SHARE_MAX, (fetchBytes / 1e9) * SHARE_PER_GB);
      const why = reasonFor(now, then, share);
      const gain = badnessOf(now) - badnessOf(then) + Math.log(share);
      if (why === null || (best !== null && gain <= best.gain)) continue;
      best = { move: { at, nodeId: candidate.nodeId, fetchBytes, why, now, then }, gain };
    }
  }
  return best?.move ?? null;
}

/** What every move lowers. */
export function badnessOf({ loopSeconds, lossChance }: ChainOutlook): number {
  return Math.log(Math.max(SECONDS_MIN, loopSeconds)) + Math.log(Math.max(LOSS_MIN, lossChance));
}

function reasonFor(now: ChainOutlook, then: ChainOutlook, share: number): BetterStage["why"] | null {
  if (then.slowestSeconds > now.slowestSeconds * LOOP_SLACK) return null;
  const [lossNow, lossThen] = [Math.max(LOSS_MIN, now.lossChance), Math.max(LOSS_MIN, then.lossChance)];
  const isQuicker = then.loopSeconds <= now.loopSeconds * LOOP_SHARE_MAX * share;
  if (isQuicker && lossThen <= lossNow * LOSS_SLACK) return "quicker";
  const isStaying = lossThen <= lossNow * LOSS_SHARE_MAX * share;
  return isStaying && then.loopSeconds <= now.loopSeconds * LOOP_SLACK ? "stays-longer" : null;
}

interface Change {
  readonly at: number;
  readonly candidate: BetterCandidate;
}

class ServingChain {
  readonly #question: BetterStageQuestion;
  /** How many times what the models say is what is measured. */
  readonly #slower: number;
  readonly #farther: number;

  constructor(question: BetterStageQuestion) {
    this.#question = question;
    const { stages, hopSeconds } = question;
    const times = stages.map((stage) => [stage.measuredSeconds, stage.modelledSeconds] as const);
    const ways = stages.map((stage, at) => {
      return [stage.measuredHopSeconds, hopSeconds(stage.nodeId, this.#next(at).nodeId)] as const;
    });
    this.#slower = tooFair(times);
    this.#farther = tooFair(ways);
  }

  /** Null while a way in it is not known. */
  outlook(change: Change | null): ChainOutlook | null {
    let [loopSeconds, stays, slowestSeconds] = [0, 1, 0];
    for (const [at, stage] of this.#question.stages.entries()) {
      const seconds = change?.at === at ? this.#secondsOn(change.candidate, stage) : this.#secondsOf(stage);
      const hop = this.#hop(at, change);
      if (hop === null) return null;
      loopSeconds += seconds + hop;
      stays *= change?.at === at ? change.candidate.stayChance : stage.stayChance;
      slowestSeconds = Math.max(slowestSeconds, seconds);
    }
    return { loopSeconds, lossChance: 1 - stays, slowestSeconds };
  }

  #secondsOf({ measuredSeconds, modelledSeconds }: ServingStage): number {
    return measuredSeconds ?? modelledSeconds * this.#slower;
  }

  #secondsOn({ modelledLayerSeconds, seen }: BetterCandidate, { count }: ServingStage): number {
    const modelled = modelledLayerSeconds * this.#slower;
    if (seen === null) return count * modelled;
    const { layerSeconds, weight } = seen;
    // Who is slower than the model is believed at once: else a stage would come back to the node that it left for being slow.
    const believed = layerSeconds >= modelled ? 1 : weight;
    return count * (believed * layerSeconds + (1 - believed) * modelled);
  }

  #hop(at: number, change: Change | null): number | null {
    const { stages, hopSeconds } = this.#question;
    const from = stages[at];
    const next = (at + 1) % stages.length;
    if (from === undefined) return null;
    const isTouched = change !== null && (change.at === at || change.at === next);
    if (!isTouched && from.measuredHopSeconds !== null) return from.measuredHopSeconds;
    const nodeAt = (place: number, stage: ServingStage) => {
      return change?.at === place ? change.candidate.nodeId : stage.nodeId;
    };
    const known = hopSeconds(nodeAt(at, from), nodeAt(next, this.#next(at)));
    return known === null ? null : known * this.#farther;
  }

  #next(at: number): ServingStage {
    const { stages } = this.#question;
    const next = stages[(at + 1) % stages.length] ?? stages[at];
    assert(next !== undefined, `a chain of ${stages.length} stages has one at ${at}`);
    return next;
  }
}

/** The lower median of measured over known, at least 1: one stage or way that is slow among others is not the model's fault. */
function tooFair(pairs: readonly (readonly [measured: number | null, known: number | null])[]): number {
  const ratios = pairs.flatMap(([measured, known]) =>
    measured === null || known === null ? [] : [ratioOf(measured, known)],
  );
  const sorted = ratios.sort((a, b) => a - b);
  return Math.max(1, sorted[Math.floor((sorted.length - 1) / 2)] ?? 1);
}

function ratioOf(measured: number, known: number): number {
  return measured / Math.max(SECONDS_MIN, known);
}
