/**
 * How much of weights a node may move at this moment: a cap in bytes a second (token bucket), quiet hours of the week with a cap of their
 * own (0: nothing), and nothing at all while the owner is back. One state for each direction; the caller asks, moves what it was allowed,
 * and asks again when told.
 *
 * | owner is back | quiet hour | allowed                                   | ask again                      |
 * | ------------- | ---------- | ----------------------------------------- | ------------------------------ |
 * | yes           | any        | 0                                         | when the owner has left (null)  |
 * | no            | cap 0      | 0                                         | when the quiet hours end        |
 * | no            | cap        | what the bucket holds at the quiet cap     | when the bucket holds a piece   |
 * | no            | no         | what the bucket holds at the cap, or all   | when the bucket holds a piece   |
 */
import { assert } from "../../domain/assert.ts";

export const MINUTES_PER_WEEK = 7 * 24 * 60;
/** Monday 00:00; 1 January 1970 was a Thursday. */
const EPOCH_MINUTE_OF_WEEK = 3 * 24 * 60;
const MINUTE_MS = 60_000;
/** What a bucket holds at most: a second's worth, so that a cap is kept over any second or two. */
const BURST_MS = 1_000;
/** A bucket holds at least one piece of this, or a slow cap would never let a read through. */
export const PIECE_BYTES = 64 * 1024;
export const QUIET_WINDOWS_MAX = 64;

/** In the node's local time, from Monday 00:00; one whose end is not after its start runs over the week's end. */
export interface WeeklyWindow {
  readonly fromMinute: number;
  readonly toMinute: number;
}

export interface TransferLimits {
  /** Null: no cap. */
  readonly bytesPerSecondMax: number | null;
  readonly quietHours: readonly WeeklyWindow[];
  /** 0 pauses. */
  readonly quietBytesPerSecondMax: number;
  /** Of the node's local time against UTC, east positive. */
  readonly utcOffsetMinutes: number;
}

export const NO_LIMITS: TransferLimits = {
  bytesPerSecondMax: null,
  quietHours: [],
  quietBytesPerSecondMax: 0,
  utcOffsetMinutes: 0,
};

export interface TransferState {
  /** What may be moved of what was saved up; below 0 after an overdraft. */
  readonly bucketBytes: number;
  readonly atMs: number;
}

export interface TransferDecision {
  /** Infinity: no cap. */
  readonly allowedBytes: number;
  /** How long until more is allowed; 0 when some is, null until the owner leaves. */
  readonly waitMs: number | null;
  readonly state: TransferState;
}

export function freshTransferState(nowMs: number): TransferState {
  return { bucketBytes: 0, atMs: nowMs };
}

/** `nowMs` is wall-clock time: quiet hours follow it. A clock that goes back gives nothing for the time gone over twice. */
export function allowTransfer(
  limits: TransferLimits,
  state: TransferState,
  now: { readonly nowMs: number; readonly isYielding: boolean },
): TransferDecision {
  const { nowMs, isYielding } = now;
  const cap = capAt(limits, nowMs);
  const filled = { bucketBytes: refill(state, cap, nowMs), atMs: nowMs };
  if (isYielding)
    return { allowedBytes: 0, waitMs: null, state: { bucketBytes: Math.min(filled.bucketBytes, 0), atMs: nowMs } };
  if (cap === null) return { allowedBytes: Number.POSITIVE_INFINITY, waitMs: 0, state: filled };
  if (cap <= 0) return { allowedBytes: 0, waitMs: msToQuietEnd(limits, nowMs), state: filled };
  if (filled.bucketBytes >= PIECE_BYTES)
    return { allowedBytes: Math.floor(filled.bucketBytes), waitMs: 0, state: filled };
  const waitMs = Math.ceil(((PIECE_BYTES - filled.bucketBytes) / cap) * 1_000);
  return { allowedBytes: 0, waitMs: Math.max(1, waitMs), state: filled };
}

/** After bytes were moved; more than was allowed is taken from what comes. */
export function spendTransfer(state: TransferState, bytes: number): TransferState {
  assert(bytes >= 0, `${bytes} bytes were moved`);
  return { ...state, bucketBytes: state.bucketBytes - bytes };
}

export function isQuietHour(limits: Pick<TransferLimits, "quietHours" | "utcOffsetMinutes">, nowMs: number): boolean {
  const minute = minuteOfWeek(nowMs, limits.utcOffsetMinutes);
  return limits.quietHours.some((window) => isInWindow(window, minute));
}

/** 0 to `MINUTES_PER_WEEK`, with the part of the minute. */
export function minuteOfWeek(nowMs: number, utcOffsetMinutes: number): number {
  const minutes = nowMs / MINUTE_MS + utcOffsetMinutes + EPOCH_MINUTE_OF_WEEK;
  return ((minutes % MINUTES_PER_WEEK) + MINUTES_PER_WEEK) % MINUTES_PER_WEEK;
}

/** Null: none. */
function capAt(limits: TransferLimits, nowMs: number): number | null {
  const { bytesPerSecondMax, quietBytesPerSecondMax } = limits;
  if (!isQuietHour(limits, nowMs)) return bytesPerSecondMax;
  return bytesPerSecondMax === null ? quietBytesPerSecondMax : Math.min(bytesPerSecondMax, quietBytesPerSecondMax);
}

function refill(state: TransferState, cap: number | null, nowMs: number): number {
  // Nothing is saved up without a cap, and nothing owed.
  if (cap === null) return 0;
  const most = Math.max(PIECE_BYTES, (cap * BURST_MS) / 1_000);
  const gained = (cap * Math.max(0, nowMs - state.atMs)) / 1_000;
  return Math.min(most, state.bucketBytes + gained);
}

function msToQuietEnd(limits: TransferLimits, nowMs: number): number {
  // Windows may touch or overlap: go from end to end, at most once round the week.
  let waitedMs = 0;
  for (let step = 0; step <= limits.quietHours.length && waitedMs < MINUTES_PER_WEEK * MINUTE_MS; step++) {
    const minute = minuteOfWeek(nowMs + waitedMs, limits.utcOffsetMinutes);
    const ends = limits.quietHours
      .filter((window) => isInWindow(window, minute))
      .map((window) => minutesTo(window, minute));
    if (ends.length === 0) return Math.max(1, waitedMs);
    waitedMs += Math.max(1, Math.ceil(Math.max(...ends) * MINUTE_MS));
  }
  return MINUTES_PER_WEEK * MINUTE_MS;
}

function minutesTo({ toMinute }: WeeklyWindow, minute: number): number {
  const ahead = (toMinute - minute + MINUTES_PER_WEEK) % MINUTES_PER_WEEK;
  return ahead === 0 ? MINUTES_PER_WEEK : ahead;
}

function isInWindow({ fromMinute, toMinute }: WeeklyWindow, minute: number): boolean {
  return fromMinute < toMinute ? minute >= fromMinute && minute < toMinute : minute >= fromMinute || minute < toMinute;
}
