/**
 * A few numbers of the hidden states at a boundary between two layers, by which two chains of one model are compared: what passes there depends on tokens
 * and weights alone, so that for the same tokens two honest chains give nearly the same, whoever computes it and wherever else they are cut.
 *
 * Each position is told by its root mean square and by a sketch of its direction: elements get signs and fall into buckets, and distances between sketches
 * are, on average, those between the states themselves. States that have nothing to do with each other are at a distance of about the root of two.
 *
 * Not handled: who alters a state by less than engines differ.
 */

/** Positions that are told of, the first ones of a prompt. */
export const FINGERPRINT_POSITIONS_MAX = 16;
/** Numbers of each position. */
export const SKETCH_BUCKETS = 16;

export interface StateFingerprint {
  /** Root mean square of each position. */
  readonly rms: readonly number[];
  /** `SKETCH_BUCKETS` for each position, one position after the other; as a whole about as long as the root of their number. */
  readonly sketch: readonly number[];
}

/**
 * Two engines that compute the same tokens are nearer than this, what another model gives is farther; docs/chains.md has what was measured on either side.
 */
export const FINGERPRINT_DISTANCE_MAX = 0.35;
/** Root mean squares of honest engines differ by a few percent. */
const RMS_RATIO_MAX = 1.5;

/** Null where they tell of different numbers of positions: they cannot be compared. */
export function fingerprintDistance(a: StateFingerprint, b: StateFingerprint): number | null {
  const positions = a.rms.length;
  if (positions !== b.rms.length || positions === 0) return null;
  const distances = a.rms.map((rms, at) => positionDistance({ a, b, at, ratio: ratioOf(rms, b.rms[at] ?? 0) }));
  return medianOf(distances);
}

/** Whether two honest engines can have given both. */
export function areAlike(a: StateFingerprint, b: StateFingerprint): boolean {
  const distance = fingerprintDistance(a, b);
  return distance !== null && distance <= FINGERPRINT_DISTANCE_MAX;
}

/** Different tokens, and one state for all of them: nobody computed that. */
export function isSameEverywhere({ rms, sketch }: StateFingerprint): boolean {
  if (rms.length < 2) return false;
  const isSameSize = rms.every((one) => one === rms[0]);
  return isSameSize && sketch.every((one, at) => one === sketch[at % SKETCH_BUCKETS]);
}

/** Of the sketches, per bucket; infinite where the sizes do not fit. */
function positionDistance({
  a,
  b,
  at,
  ratio,
}: {
  readonly a: StateFingerprint;
  readonly b: StateFingerprint;
  readonly at: number;
  readonly ratio: number;
}): number {
  if (ratio > RMS_RATIO_MAX) return Number.POSITIVE_INFINITY;
  let squares = 0;
  for (let bucket = 0; bucket < SKETCH_BUCKETS; bucket++) {
    const index = at * SKETCH_BUCKETS + bucket;
    squares += ((a.sketch[index] ?? 0) - (b.sketch[index] ?? 0)) ** 2;
  }
  return Math.sqrt(squares / SKETCH_BUCKETS);
}

/** The larger by the smaller; 1 where both are zero. */
function ratioOf(a: number, b: number): number {
  if (a === b) return 1;
  return Math.max(a, b) / Math.min(a, b);
}

function medianOf(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
