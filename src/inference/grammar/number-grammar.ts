/** Decimal numbers within bounds, as grammar: digit by digit, so that no text outside of the bounds can be written. */
import { assert } from "../../domain/assert.ts";

/** Sixteen digits are beyond what a double holds exactly, and enough for any id. */
const DIGITS_MAX = 16;
export const INTEGER_ABS_MAX = 10n ** BigInt(DIGITS_MAX) - 1n;
const FRACTION = '("." [0-9]{1,15})?';
const ZERO_FRACTION = '("." "0"{1,15})?';
const SOME_FRACTION = '"." "0"{0,7} [1-9] [0-9]{0,7}';

export interface NumberBounds {
  /** Null: as far as `INTEGER_ABS_MAX`. */
  readonly min: bigint | null;
  readonly max: bigint | null;
  /** The bound itself is not allowed. */
  readonly isMinOpen: boolean;
  readonly isMaxOpen: boolean;
}

/** Null when no integer lies within. */
export function integerGrammar(bounds: NumberBounds): string | null {
  const min = (bounds.min ?? -INTEGER_ABS_MAX) + (bounds.isMinOpen ? 1n : 0n);
  const max = (bounds.max ?? INTEGER_ABS_MAX) - (bounds.isMaxOpen ? 1n : 0n);
  return signed({ min, max });
}

/** Numbers with an optional fraction; null when none lies within. */
export function decimalGrammar(bounds: NumberBounds): string | null {
  const min = bounds.min ?? -INTEGER_ABS_MAX;
  const max = bounds.max ?? INTEGER_ABS_MAX;
  if (min > max || (min === max && (bounds.isMinOpen || bounds.isMaxOpen))) return null;
  const positive =
    max >= 0n
      ? magnitudes({
          low: maxOf(min, 0n),
          high: max,
          isLowOpen: bounds.isMinOpen && min >= 0n,
          isHighOpen: bounds.isMaxOpen,
        })
      : null;
  const negative =
    min < 0n
      ? magnitudes({
          low: maxOf(-max, 0n),
          high: -min,
          isLowOpen: max <= 0n && bounds.isMaxOpen,
          isHighOpen: bounds.isMinOpen,
        })
      : null;
  return either([positive, negative === null ? null : `"-" (${negative})`]);
}

/** Numbers from `low` to `high`, neither below zero. */
function magnitudes(range: { low: bigint; high: bigint; isLowOpen: boolean; isHighOpen: boolean }): string | null {
  const { low, high, isLowOpen, isHighOpen } = range;
  if (low > high) return null;
  const first = isLowOpen ? low + 1n : low;
  const whole = first <= high - 1n ? `(${natural(first, high - 1n)}) ${FRACTION}` : null;
  const aboveLow = isLowOpen && low < high ? `"${low}" ${SOME_FRACTION}` : null;
  const top = isHighOpen || (isLowOpen && low === high) ? null : `"${high}" ${ZERO_FRACTION}`;
  return either([whole, aboveLow, top]);
}

function signed({ min, max }: { min: bigint; max: bigint }): string | null {
  if (min > max) return null;
  const positive = max >= 0n ? natural(maxOf(min, 0n), max) : null;
  const negative = min < 0n ? `"-" (${natural(maxOf(-max, 1n), -min)})` : null;
  return either([positive, negative]);
}

/** Whole numbers from `low` to `high`, both at least 0, without leading zeros. */
function natural(low: bigint, high: bigint): string {
  assert(low >= 0n && low <= high, `${low} to ${high} is a range of naturals`);
  const [from, to] = [String(low), String(high)];
  const alternatives: string[] = [];
  for (let digits = from.length; digits <= to.length; digits++) {
    const least = digits === from.length ? from : `1${"0".repeat(digits - 1)}`;
    const most = digits === to.length ? to : "9".repeat(digits);
    alternatives.push(sameLength(least, most));
  }
  return alternatives.join(" | ");
}

function sameLength(low: string, high: string): string {
  const [first, last] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const rest = low.length - 1;
  if (rest === 0) return digit(first, last);
  if (first === last) return `"${first}" (${sameLength(lowRest, highRest)})`;
  const isLowFull = /^0*$/.test(lowRest);
  const isHighFull = /^9*$/.test(highRest);
  const [from, to] = [isLowFull ? first : first + 1, isHighFull ? last : last - 1];
  return (
    either([
      isLowFull ? null : `"${first}" (${sameLength(lowRest, "9".repeat(rest))})`,
      from <= to ? `${digit(from, to)} [0-9]{${rest}}` : null,
      isHighFull ? null : `"${last}" (${sameLength("0".repeat(rest), highRest)})`,
    ]) ?? ""
  );
}

function digit(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}

function either(alternatives: readonly (string | null)[]): string | null {
  const some = alternatives.filter((alternative) => alternative !== null);
  return some.length === 0 ? null : some.join(" | ");
}

function maxOf(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
