/**
 * How many bytes of bulk may be on their way at once, over all connections of a link. Small messages meet the queue that bulk leaves in the
 * network; so the asking node watches the round trip of its pings, which travel with the messages, and asks for less when it grows: by a
 * third of the base round trip, or by what a busy machine adds by itself. Delay is the signal and loss is not, since a lossy way is not a full one.
 *
 *   round trip   window used   window
 *   too long     either        by as much as it is too long, x 0.5 at most, once in a round trip and `SETTLE_MS`
 *   too long     either        on a near way: back to where the shrinking began when next to nothing waits as long, since then others, or a busy
 *                              machine, make it wait; held for `HOLD_MS`
 *   good         used up       x 2 until it was first too long (x 1.4 beside messages), then x 1.1
 *   good         not used up   as it is
 */

export interface GovernorState {
  readonly windowBytes: number;
  readonly isStarting: boolean;
  /** When it last changed, so that a change shows before the next. */
  readonly changedAtMs: number;
  /** Where it began to shrink, and the longest round trip since; null while it does not. */
  readonly shrinksFrom: { readonly windowBytes: number; readonly rttMs: number } | null;
}

export interface GovernorLook {
  readonly nowMs: number;
  /** Null: not measured yet. */
  readonly recentRttMs: number | null;
  readonly baseRttMs: number | null;
  /** Messages were sent of late: then the queue is held half as long. */
  readonly isMessaging: boolean;
  /** All of the window was asked for. */
  readonly isWindowUsed: boolean;
}

export const WINDOW_BYTES_MIN = 64 * 1024;
export const WINDOW_BYTES_MAX = 16 * 1024 * 1024;
export const WINDOW_BYTES_START = 512 * 1024;
/** A machine under load answers a ping this much later without any queue in the network. */
const QUEUE_MS_MIN = 15;
const QUEUE_SHARE_OF_BASE = 0.3;
const SHRINK_LEAST = 0.9;
const SHRINK_MOST = 0.5;
const START_GROW = 2;
/** The queue shows some steps late, and messages would wait in what was too much. */
const START_GROW_BESIDE = 1.4;
const GROW = 1.1;
const SETTLE_MS = 150;
/** So little that still waits this share as long does not make the queue. A far way holds more than this without any. */
const VAIN_WINDOW_BYTES = 128 * 1024;
const VAIN_RTT_SHARE = 0.8;
const NEAR_RTT_MS = 10;
const HOLD_MS = 3_000;

export const GOVERNOR_START: GovernorState = {
  windowBytes: WINDOW_BYTES_START,
  isStarting: true,
  changedAtMs: 0,
  shrinksFrom: null,
};

export function govern(state: GovernorState, look: GovernorLook): GovernorState {
  const { nowMs, recentRttMs, baseRttMs, isMessaging, isWindowUsed } = look;
  if (nowMs - state.changedAtMs < (recentRttMs ?? 0) + SETTLE_MS) return state;
  const isTooLong = recentRttMs !== null && baseRttMs !== null && recentRttMs > longestGoodMs(baseRttMs, isMessaging);
  if (isTooLong) {
    const { windowBytes, rttMs } = state.shrinksFrom ?? { windowBytes: state.windowBytes, rttMs: 0 };
    const shrinksFrom = { windowBytes, rttMs: Math.max(rttMs, recentRttMs) };
    const isLittle = state.windowBytes <= VAIN_WINDOW_BYTES && baseRttMs < NEAR_RTT_MS;
    if (isLittle && recentRttMs >= shrinksFrom.rttMs * VAIN_RTT_SHARE) {
      return { windowBytes, isStarting: false, changedAtMs: nowMs + HOLD_MS, shrinksFrom: null };
    }
    const share = Math.min(SHRINK_LEAST, Math.max(SHRINK_MOST, longestGoodMs(baseRttMs, isMessaging) / recentRttMs));
    const lessBytes = Math.max(WINDOW_BYTES_MIN, Math.floor(state.windowBytes * share));
    return { windowBytes: lessBytes, isStarting: false, changedAtMs: nowMs, shrinksFrom };
  }
  if (!isWindowUsed) return state;
  const growth = state.isStarting ? (isMessaging ? START_GROW_BESIDE : START_GROW) : GROW;
  const windowBytes = Math.min(WINDOW_BYTES_MAX, Math.floor(state.windowBytes * growth));
  return { ...state, windowBytes, changedAtMs: nowMs, shrinksFrom: null };
}

export function longestGoodMs(baseRttMs: number, isMessaging: boolean): number {
  const queueMs = Math.max(QUEUE_MS_MIN, baseRttMs * QUEUE_SHARE_OF_BASE);
  return baseRttMs + (isMessaging ? queueMs / 2 : queueMs);
}
