/**
 * What a stage's own measurement says of its node: a stage with a third of the layers that takes 2 ms for a token would take 6 ms for the whole model. So
 * the times of chains count for the next plan as those of whole replicas do (placement/observed-speed.ts), within the same bound on who claims too much.
 */
import { stepFactor } from "../placement/speed-model.ts";

export interface StageTime {
  /** Of a decode of single tokens, smoothed. */
  readonly singleMs: number;
  /** Sequences in it, on the mean. */
  readonly singlesMean: number;
  readonly layers: number;
  readonly layerCount: number;
  readonly isGpu: boolean;
}

/** Seconds that one token of a lone sequence would take through the whole model; null when the time says nothing. */
export function wholeTokenSeconds({ singleMs, singlesMean, layers, layerCount, isGpu }: StageTime): number | null {
  if (!(singleMs > 0) || layers < 1) return null;
  return (singleMs / 1_000 / stepFactor(isGpu, singlesMean)) * (layerCount / layers);
}
