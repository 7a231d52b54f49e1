/**
 * How many output tokens a second one replica gives: X = min(F, n_out * N / W) of docs/placement.md.
 *
 * One token of one sequence takes the time in which its weights are read. Before anybody saw a node run the file, that is
 *   CPU   t1 = t_ref * max(1, bytes / referenceBytes)     the reference model's own figure (3.1 MB at 4,160 tok/s is 13 GB/s, `npm run
 *                                                         bench -- engine`) is what main memory gives, so time grows with bytes
 *   GPU   t1 = t_ref + bytes / (0.6 * bandwidth)          a tiny model measures the launch of kernels, which does not grow; the
 *                                                         bandwidth is the data sheet's by the card's name (gpu-bandwidth.ts)
 * and afterwards the mean of that and what was observed (observed-speed.ts), by how often it was observed. A step of b sequences takes
 * t1 * (1 + (b - 1) * extra). The figures marked modelled are for ranking nodes and for knowing roughly when a replica is full.
 */
import type { ReplicaSize } from "./slots.ts";

/**
 * Where a token's time comes from: `observed` mostly from what the node did with this file; `measured` from its figure on the
 * reference model; `modelled` from that and its card's data sheet; `neutral` when the card or its figure is not known.
 */
export type SpeedSource = "observed" | "measured" | "modelled" | "neutral";

/** What a node did with a file, as the coordinator saw it. */
export interface Observation {
  /** For one token of a lone sequence. */
  readonly tokenSeconds: number;
  /** Settled attempts that say so. */
  readonly count: number;
}

export interface SpeedOn {
  readonly isGpu: boolean;
  /** NaN: not measured. */
  readonly decodeTokPerSecond: number;
  /** Of a GPU, by its data sheet; NaN: not known. */
  readonly gpuBytesPerSecond: number;
  readonly fileBytes: number;
  readonly observed: Observation | null;
}

export interface RequestMix {
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
}

export interface TokenTime {
  /** For one token of a lone sequence. */
  readonly seconds: number;
  readonly source: SpeedSource;
}

/** Size of the bundled model that nodes measure themselves with. */
export const REFERENCE_BYTES = 3_136_736;
/** The low end of cards in use, so that a card is never preferred for being unknown. */
export const NEUTRAL_GPU_BYTES_PER_SECOND = 300e9;
/** Of a data sheet's bandwidth, what decoding reaches; modelled, and the churn simulator's figure too. */
const GPU_BANDWIDTH_SHARE = 0.6;
/** What an unmeasured device is taken for: slower than those measured, so that it is never preferred for being unknown. */
const UNMEASURED_TOK_PER_SECOND = { cpu: 1_000, gpu: 500 } as const;
/** Extra time of a step for each further sequence. CPU: 8 sequences gave 1.38 times the rate of one (bench engine); GPU: modelled. */
const EXTRA_SEQUENCE = { cpu: 0.7, gpu: 0.04 } as const;
/** A prompt token costs this share of a generated one, since many go in one step; modelled. */
const PROMPT_TOKEN_SHARE = { cpu: 0.3, gpu: 0.02 } as const;
/** Engines do not run at their best all the time (scheduling.md section 7.1). */
const COMPUTE_DERATE = 0.9;
const KV_DERATE = 0.8;
/** An observation counts as much as the model when so many attempts say so: requests differ, and the first few may be odd. */
export const OBSERVATIONS_FOR_HALF = 8;
/**
 * Nobody is taken to be faster than so many times the model's figure: data sheets and the share above are off by less, and who sends
 * garbage fast gains no more. A node that is slower than the model is believed without a bound.
 */
export const OBSERVED_FASTER_MAX = 4;

/** One token of a lone sequence, and how that is known. */
export function tokenTime(on: SpeedOn): TokenTime {
  const modelled = modelledTime(on);
  if (on.observed === null) return modelled;
  const { tokenSeconds: seen, count } = on.observed;
  const seconds = Math.max(seen, modelled.seconds / OBSERVED_FASTER_MAX);
  const weight = count / (count + OBSERVATIONS_FOR_HALF);
  return {
    seconds: weight * seconds + (1 - weight) * modelled.seconds,
    source: weight >= 0.5 ? "observed" : modelled.source,
  };
}

export function tokenSeconds(on: SpeedOn): number {
  return tokenTime(on).seconds;
}

function modelledTime(on: SpeedOn): TokenTime {
  const isMeasured = on.decodeTokPerSecond > 0;
  const unmeasured = on.isGpu ? UNMEASURED_TOK_PER_SECOND.gpu : UNMEASURED_TOK_PER_SECOND.cpu;
  const reference = 1 / (isMeasured ? on.decodeTokPerSecond : unmeasured);
  if (!on.isGpu) {
    const seconds = Math.max(1, on.fileBytes / REFERENCE_BYTES) * reference;
    return { seconds, source: isMeasured ? "measured" : "neutral" };
  }
  const isKnown = on.gpuBytesPerSecond > 0;
  const bytesPerSecond = isKnown ? on.gpuBytesPerSecond : NEUTRAL_GPU_BYTES_PER_SECOND;
  const seconds = reference + on.fileBytes / (bytesPerSecond * GPU_BANDWIDTH_SHARE);
  return { seconds, source: isKnown && isMeasured ? "modelled" : "neutral" };
}

/** How many times the time of one sequence a step of so many takes. */
export function stepFactor(isGpu: boolean, sequences: number): number {
  return 1 + Math.max(0, sequences - 1) * EXTRA_SEQUENCE[isGpu ? "gpu" : "cpu"];
}

/** Share of a generated token's time that a prompt token takes. */
export function promptTokenShare(isGpu: boolean): number {
  return PROMPT_TOKEN_SHARE[isGpu ? "gpu" : "cpu"];
}

/** Seconds of one step of so many sequences. */
export function stepSeconds(on: SpeedOn, sequences: number): number {
  return tokenSeconds(on) * stepFactor(on.isGpu, sequences);
}

/** Seconds of one prompt token among many. */
export function promptTokenSeconds(on: SpeedOn): number {
  return tokenSeconds(on) * promptTokenShare(on.isGpu);
}

export interface ReplicaLoad {
  readonly size: Pick<ReplicaSize, "sequencesMax">;
  readonly mix: RequestMix;
  readonly verificationOverhead: number;
  /** Round trip to the node: a slot is held for it too. */
  readonly rttSeconds: number;
}

/** Output tokens a second of a replica of this size that has its device for itself. */
export function replicaTokPerSecond(on: SpeedOn, load: ReplicaLoad): number {
  const sequences = Math.max(1, load.size.sequencesMax * KV_DERATE);
  const seconds = tokenSeconds(on);
  const step = seconds * stepFactor(on.isGpu, sequences);
  const { promptTokensMean, outputTokensMean } = load.mix;
  // Prompts of all sequences go through the same device.
  const prefill = promptTokensMean * seconds * promptTokenShare(on.isGpu) * sequences;
  const request = load.rttSeconds + prefill + outputTokensMean * step * (1 + load.verificationOverhead);
  return Math.min((COMPUTE_DERATE * sequences) / step, (outputTokensMean * sequences) / request);
}
