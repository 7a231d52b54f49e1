/**
 * How many bytes of bulk may be on their way at once, over all connections of a link. Small messages meet the queue that bulk leaves in the
 * network; so the asking node watches the round trip of its pings, which travel with the messages, and asks for less when it grows: by a
 * third of the base round trip, or by what a busy machine adds by itself. Delay is the signal and loss is not, since a lossy way is not a full one.
 *
 *   round trip   window used   window
 *   too long     either        x 0.8, at most once in a round trip and `SETTLE_MS`
 *   too long     either        back to what it was when a quarter of it waits as long: then others, or a busy machine, make it wait; held for `HOLD_MS`
 *   good         used up       x 2 until it was first too long, then x 1.1
 *   good         not used up   as it is
 */

export interface GovernorState {
  readonly windowBytes: number;
  readonly isStarting: boolean;
  /** When it last changed, so that a change shows before the next. */
  readonly changedAtMs: number;
  /** Where it began to shrink; null while it does not. */
  readonly shrinksFrom: { readonly windowBytes: number; readonly rttMs: number } | null;
}

export interface GovernorLook {
  readonly nowMs: number;
  /** Null: not measured yet. */
  readonly recentRttMs: number | null;
  readonly baseRttMs: number | null;
  /** All of the window was asked for. */
  readonly isWindowUsed: boolean;
}

export const WINDOW_BYTES_MIN = 64 * 1024;
export const WINDOW_BYTES_MAX = 16 * 1024 * 1024;
export const WINDOW_BYTES_START = 512 * 1024;
/** A machine under load answers a ping this much later without any queue in the network. */
const QUEUE_MS_MIN = 15;
const QUEUE_SHARE_OF_BASE = 0.3;
const SHRINK = 0.8;
const GROW = 1.1;
const SETTLE_MS = 150;
/** A window of this share that still waits this share as long does not make the queue. */
const VAIN_WINDOW_SHARE = 0.25;
const VAIN_RTT_SHARE = 0.7;
const HOLD_MS = 3_000;

export const GOVERNOR_START: GovernorState = {
  windowBytes: WINDOW_BYTES_START,
  isStarting: true,
  changedAtMs: 0,
  shrinksFrom: null,
};

export function govern(state: GovernorState, look: GovernorLook): GovernorState {
  const { nowMs, recentRttMs, baseRttMs, isWindowUsed } = look;
  if (nowMs - state.changedAtMs < (recentRttMs ?? 0) + SETTLE_MS) return state;
  const isTooLong = recentRttMs !== null && baseRttMs !== null && recentRttMs > longestGoodMs(baseRttMs);
  if (isTooLong) {
    const from = state.shrinksFrom ?? { windowBytes: state.windowBytes, rttMs: recentRttMs };
    const isInVain =
      state.windowBytes <= from.windowBytes * VAIN_WINDOW_SHARE && recentRttMs >= from.rttMs * VAIN_RTT_SHARE;
    if (isInVain) {
      const { windowBytes } = from;
      return { windowBytes, isStarting: false, changedAtMs: nowMs + HOLD_MS, shrinksFrom: null };
    }
    const windowBytes = Math.max(WINDOW_BYTES_MIN, Math.floor(state.windowBytes * SHRINK));
    return { windowBytes, isStarting: false, changedAtMs: nowMs, shrinksFrom: from };
  }
  if (!isWindowUsed) return state;
  const windowBytes = Math.min(WINDOW_BYTES_MAX, Math.floor(state.windowBytes * (state.isStarting ? 2 : GROW)));
  return { ...state, windowBytes, changedAtMs: nowMs, shrinksFrom: null };
}

export function longestGoodMs(baseRttMs: number): number {
  return baseRttMs + Math.max(QUEUE_MS_MIN, baseRttMs * QUEUE_SHARE_OF_BASE);
}
