/**
 * How many output tokens a second one replica gives: X = min(F, n_out * N / W) of docs/placement.md.
 *
 * One token of one sequence takes the time in which its weights are read:
 *   CPU   t1 = t_ref * max(1, bytes / referenceBytes)     the reference model's own figure (3.1 MB at 4,160 tok/s is 13 GB/s, `npm run
 *                                                         bench -- engine`) is what main memory gives, so time grows with bytes
 *   GPU   t1 = t_ref + bytes / 300 GB/s                   a tiny model measures the launch of kernels, which does not grow; the
 *                                                         bandwidth is modelled, the low end of cards in use, not measured here
 * A step of b sequences takes t1 * (1 + (b - 1) * extra). The figures marked modelled are for ranking nodes and for knowing
 * roughly when a replica is full; what a node really did is not fed back yet.
 */
import type { ReplicaSize } from "./slots.ts";

export interface SpeedOn {
  readonly isGpu: boolean;
  /** NaN: not measured. */
  readonly decodeTokPerSecond: number;
  readonly fileBytes: number;
}

export interface RequestMix {
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
}

/** Size of the bundled model that nodes measure themselves with. */
export const REFERENCE_BYTES = 3_136_736;
const GPU_BYTES_PER_SECOND = 300e9;
/** What an unmeasured device is taken for: slower than those measured, so that it is never preferred for being unknown. */
const UNMEASURED_TOK_PER_SECOND = { cpu: 1_000, gpu: 500 } as const;
/** Extra time of a step for each further sequence. CPU: 8 sequences gave 1.38 times the rate of one (bench engine); GPU: modelled. */
const EXTRA_SEQUENCE = { cpu: 0.7, gpu: 0.04 } as const;
/** A prompt token costs this share of a generated one, since many go in one step; modelled. */
const PROMPT_TOKEN_SHARE = { cpu: 0.3, gpu: 0.02 } as const;
/** Engines do not run at their best all the time (scheduling.md section 7.1). */
const COMPUTE_DERATE = 0.9;
const KV_DERATE = 0.8;

/** Seconds for one token of a lone sequence. */
export function tokenSeconds(on: SpeedOn): number {
  const unmeasured = on.isGpu ? UNMEASURED_TOK_PER_SECOND.gpu : UNMEASURED_TOK_PER_SECOND.cpu;
  const measured = on.decodeTokPerSecond > 0 ? on.decodeTokPerSecond : unmeasured;
  if (on.isGpu) return 1 / measured + on.fileBytes / GPU_BYTES_PER_SECOND;
  return Math.max(1, on.fileBytes / REFERENCE_BYTES) / measured;
}

/** Seconds of one step of so many sequences. */
export function stepSeconds(on: SpeedOn, sequences: number): number {
  return tokenSeconds(on) * (1 + (sequences - 1) * EXTRA_SEQUENCE[on.isGpu ? "gpu" : "cpu"]);
}

/** Seconds of one prompt token among many. */
export function promptTokenSeconds(on: SpeedOn): number {
  return tokenSeconds(on) * PROMPT_TOKEN_SHARE[on.isGpu ? "gpu" : "cpu"];
}

/** Output tokens a second of a replica of this size that has its device for itself. */
export function replicaTokPerSecond(
  on: SpeedOn,
  load: { size: Pick<ReplicaSize, "sequencesMax">; mix: RequestMix; verificationOverhead: number },
): number {
  const sequences = Math.max(1, load.size.sequencesMax * KV_DERATE);
  const step = stepSeconds(on, sequences);
  const { promptTokensMean, outputTokensMean } = load.mix;
  // Prompts of all sequences go through the same device.
  const prefill = promptTokensMean * promptTokenSeconds(on) * sequences;
  const request = prefill + outputTokensMean * step * (1 + load.verificationOverhead);
  return Math.min((COMPUTE_DERATE * sequences) / step, (outputTokensMean * sequences) / request);
}
