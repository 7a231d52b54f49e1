/**
 * How many TCP connections carry bulk. One is best where nothing is lost; where packets are lost, each connection of a loss-driven
 * congestion control gets a fixed small rate, and many get many times that. So the number is doubled while that pays, by measure:
 *
 *   state      look                                          next
 *   any        the way is far                                at least 4; all 16 when loss holds each one down (`isLossBound`) in
 *                                                            `BOUND_LOOKS` looks in a row: a way that only begins is slow too
 *   steady     connections are the limit, no hold            try twice as many: growing (settle)
 *   settle     any                                           measure
 *   measure    rate >= 1.15 x the rate before                steady with the new number
 *   measure    rate below that                               steady with the old number, hold for `HOLD_LOOKS`
 *   any        nothing moved for `IDLE_LOOKS`                steady with one
 */

import { LOSSY_SHARE } from "../../scheduler/network/choose-carrier.ts";

export interface WidthState {
  readonly count: number;
  readonly phase: "steady" | "settle" | "measure";
  readonly countBefore: number;
  readonly rateBefore: number;
  readonly holdLooks: number;
  readonly idleLooks: number;
  /** In a row, in which loss held each connection down. */
  readonly boundLooks: number;
}

export interface WidthLook {
  readonly bytesPerSecond: number;
  /** Bulk is wanted, whether it moves already or not. */
  readonly isBusy: boolean;
  /** More was wanted than the connections took. */
  readonly isConnectionBound: boolean;
  /** Of the way: far ones start with more. */
  readonly isFar: boolean;
  /** Of packets; null when not measured. */
  readonly lossShare: number | null;
  readonly rttMs: number | null;
}

export const CONNECTIONS_MAX = 16;
const FAR_COUNT = 4;
/** On a near way the processor is the limit, and one thread encrypts for all connections; chance makes more look better than they are. */
const NEAR_COUNT_MAX = 2;
const GROWTH_MIN = 1.15;
const HOLD_LOOKS = 40;
const IDLE_LOOKS = 20;
const BOUND_LOOKS = 2;

export const WIDTH_START: WidthState = {
  count: 1,
  phase: "steady",
  countBefore: 1,
  rateBefore: 0,
  holdLooks: 0,
  idleLooks: 0,
  boundLooks: 0,
};

/** Mathis and others, "The macroscopic behavior of the TCP congestion avoidance algorithm" (1997): what loss leaves one connection. */
const MATHIS = 1.22;
const SEGMENT_BYTES = 1_400;
/** Connections that bring more than this many times that are not driven by loss: more of them would only queue. */
const LOSS_BOUND_TIMES = 2;

function isLossBound(state: WidthState, { lossShare, rttMs, bytesPerSecond }: WidthLook): boolean {
  if (lossShare === null || lossShare < LOSSY_SHARE || rttMs === null || bytesPerSecond === 0) return false;
  const one = (SEGMENT_BYTES * MATHIS * 1_000) / (rttMs * Math.sqrt(lossShare));
  return bytesPerSecond / state.count < one * LOSS_BOUND_TIMES;
}

/** Called at even intervals of about half a second, and of several round trips. */
export function widen(state: WidthState, look: WidthLook): WidthState {
  if (look.bytesPerSecond === 0 && !look.isBusy) {
    const idleLooks = state.idleLooks + 1;
    return idleLooks < IDLE_LOOKS ? { ...state, idleLooks } : { ...WIDTH_START, idleLooks };
  }
  const boundLooks = isLossBound(state, look) ? state.boundLooks + 1 : 0;
  const busy: WidthState = { ...state, boundLooks, idleLooks: 0, holdLooks: Math.max(0, state.holdLooks - 1) };
  const isBound = boundLooks >= BOUND_LOOKS;
  const least = look.isFar ? (isBound ? CONNECTIONS_MAX : FAR_COUNT) : 1;
  if (busy.count < least) return { ...busy, count: least, phase: "steady", countBefore: least };
  switch (busy.phase) {
    case "steady": {
      const most = look.isFar || isBound ? CONNECTIONS_MAX : NEAR_COUNT_MAX;
      if (!look.isConnectionBound || busy.holdLooks > 0 || busy.count >= most) return busy;
      const count = Math.min(most, busy.count * 2);
      return { ...busy, count, phase: "settle", countBefore: busy.count, rateBefore: look.bytesPerSecond };
    }
    case "settle":
      return { ...busy, phase: "measure" };
    case "measure":
      return look.bytesPerSecond >= busy.rateBefore * GROWTH_MIN
        ? { ...busy, phase: "steady" }
        : { ...busy, phase: "steady", count: busy.countBefore, holdLooks: HOLD_LOOKS };
  }
}
