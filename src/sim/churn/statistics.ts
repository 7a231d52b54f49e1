/** Means with 95 % intervals over few runs: Student's t, as seeds are tens and not thousands. */
import { assert } from "../../domain/assert.ts";
import type { Interval } from "./churn-report.ts";

/** Two-sided 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (any table of the distribution). */
const T_975 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
] as const;
const NORMAL_975 = 1.96;

/** At least one value. With one value nothing is known of the spread, and the interval is the value. */
export function intervalOf(values: readonly number[]): Interval {
  assert(values.length > 0, "an interval is of at least one value");
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const degrees = values.length - 1;
  if (degrees === 0) return { mean, low: mean, high: mean };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / degrees;
  const half = (T_975[degrees - 1] ?? NORMAL_975) * Math.sqrt(variance / values.length);
  return { mean, low: mean - half, high: mean + half };
}
