/**
 * Money is integer micro-USD in a safe integer (2^53 µUSD is about 9 billion USD); prices are integer micro-USD per
 * million tokens. `priced` is the only place that rounds: a charge rounds up, a payment rounds down, and whoever calls it
 * posts the difference to the rounding account.
 */
import { assert } from "./assert.ts";

declare const brand: unique symbol;
export type MicroUsd = number & { readonly [brand]: "MicroUsd" };

export function microUsd(amount: number): MicroUsd {
  assert(Number.isSafeInteger(amount), `${amount} is a whole number of micro-USD`);
  return amount as MicroUsd;
}

export const ZERO_USD: MicroUsd = microUsd(0);

export function addUsd(...amounts: readonly MicroUsd[]): MicroUsd {
  let sum = 0;
  for (const amount of amounts) sum += amount;
  return microUsd(sum);
}

export function subtractUsd(from: MicroUsd, amount: MicroUsd): MicroUsd {
  return microUsd(from - amount);
}

/** Price of one model in one tier. Both in micro-USD per million tokens, 0 to 10^9 (1,000 USD). */
export interface TokenPrice {
  readonly inputMicroUsdPerMtok: number;
  readonly outputMicroUsdPerMtok: number;
}

/** Tokens at a price, rounded `up` (what a tenant pays) or `down` (what a node is paid). */
export function priced(line: { tokens: number; microUsdPerMtok: number; round: "up" | "down" }): MicroUsd {
  assert(Number.isSafeInteger(line.tokens) && line.tokens >= 0, `${line.tokens} is a count of tokens`);
  assert(Number.isSafeInteger(line.microUsdPerMtok) && line.microUsdPerMtok >= 0, `${line.microUsdPerMtok} is a price`);
  const product = BigInt(line.tokens) * BigInt(line.microUsdPerMtok);
  const floor = product / 1_000_000n;
  const isExact = floor * 1_000_000n === product;
  return microUsd(Number(line.round === "up" && !isExact ? floor + 1n : floor));
}

/** A share in basis points (1/10,000) of an amount, rounded down. */
export function shareOf(amount: MicroUsd, basisPoints: number): MicroUsd {
  assert(Number.isInteger(basisPoints) && basisPoints >= 0 && basisPoints <= 10_000, `${basisPoints} is 0 to 10,000`);
  return microUsd(Number((BigInt(amount) * BigInt(basisPoints)) / 10_000n));
}

/** For people: dollars with six decimals, e.g. `0.000123`. */
export function formatUsd(amount: MicroUsd): string {
  const sign = amount < 0 ? "-" : "";
  const digits = String(Math.abs(amount)).padStart(7, "0");
  return `${sign}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}
