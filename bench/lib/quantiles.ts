/** Order statistics of measured values. */

/** The value below which a share of the values lies, interpolated (type 7 of Hyndman and Fan, as R and NumPy do). */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export interface Spread {
  readonly count: number;
  readonly min: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[], digits = 3): Spread {
  const rounded = (value: number) => Number(value.toFixed(digits));
  return {
    count: values.length,
    min: rounded(Math.min(...values)),
    p50: rounded(median(values)),
    p99: rounded(quantile(values, 0.99)),
    max: rounded(Math.max(...values)),
  };
}
