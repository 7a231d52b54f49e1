/**
 * What the first stage is told of the others: how long the slowest takes for a decode of single tokens, and all together. It sizes its micro-batches and
 * its drafts by them, and sees no other stage's times itself.
 */
import type { ChainSet } from "../../wire/chain-link.ts";
import type { Chain } from "./chain.ts";

export type ChainTimes = NonNullable<ChainSet["times"]>;

/** What it does goes by steps coarser than this: smaller changes are not told. */
const CHANGE_MIN = 0.25;
/** Within one epoch. */
const TELL_MS = 10_000;

/** What it is to be told now; null: nothing new, or not all have measured. Counts as told then. */
export function newTimes(chain: Chain, nowMs: number): ChainTimes | null {
  if (chain.state !== "serving") return null;
  const { told, epoch } = chain;
  const isOfEpoch = told?.epoch === epoch;
  if (isOfEpoch && nowMs - told.atMs < TELL_MS) return null;
  const times = timesOf(chain);
  if (times === null || (isOfEpoch && !hasChanged(told.times, times))) return null;
  chain.told = { epoch, times, atMs: nowMs };
  return times;
}

function timesOf({ places }: Chain): ChainTimes | null {
  const known = places.flatMap(({ report }) => (report !== null && report.singleMs !== null ? [report.singleMs] : []));
  if (known.length < places.length) return null;
  return { slowestMs: Math.max(...known), sumMs: known.reduce((sum, ms) => sum + ms, 0) };
}

function hasChanged(told: ChainTimes, now: ChainTimes): boolean {
  return isFar(told.slowestMs, now.slowestMs) || isFar(told.sumMs, now.sumMs);
}

function isFar(told: number, now: number): boolean {
  return Math.abs(now - told) > CHANGE_MIN * told;
}
