/**
 * How many TCP connections carry bulk. One is best where nothing is lost; where packets are lost, each connection of a loss-driven
 * congestion control gets a fixed small rate, and many get many times that. So the number is doubled while that pays, by measure:
 *
 *   state      look                                          next
 *   steady     connections are the limit, no hold            try twice as many: growing (settle)
 *   settle     any                                           measure
 *   measure    rate >= 1.15 x the rate before                steady with the new number
 *   measure    rate below that                               steady with the old number, hold for `HOLD_LOOKS`
 *   any        nothing moved for `IDLE_LOOKS`                steady with one
 */

export interface WidthState {
  readonly count: number;
  readonly phase: "steady" | "settle" | "measure";
  readonly countBefore: number;
  readonly rateBefore: number;
  readonly holdLooks: number;
  readonly idleLooks: number;
}

export interface WidthLook {
  readonly bytesPerSecond: number;
  /** More was wanted than the connections took. */
  readonly isConnectionBound: boolean;
  /** Of the way: far ones start with more. */
  readonly isFar: boolean;
}

export const CONNECTIONS_MAX = 16;
const FAR_COUNT = 4;
const GROWTH_MIN = 1.15;
const HOLD_LOOKS = 40;
const IDLE_LOOKS = 20;

export const WIDTH_START: WidthState = {
  count: 1,
  phase: "steady",
  countBefore: 1,
  rateBefore: 0,
  holdLooks: 0,
  idleLooks: 0,
};

/** Called at even intervals of about half a second, and of several round trips. */
export function widen(state: WidthState, look: WidthLook): WidthState {
  if (look.bytesPerSecond === 0) {
    const idleLooks = state.idleLooks + 1;
    return idleLooks < IDLE_LOOKS ? { ...state, idleLooks } : { ...WIDTH_START, idleLooks };
  }
  const busy: WidthState = { ...state, idleLooks: 0, holdLooks: Math.max(0, state.holdLooks - 1) };
  if (look.isFar && busy.count < FAR_COUNT && busy.holdLooks === 0) {
    return { ...busy, count: FAR_COUNT, phase: "settle", countBefore: FAR_COUNT, rateBefore: 0 };
  }
  switch (busy.phase) {
    case "steady": {
      if (!look.isConnectionBound || busy.holdLooks > 0 || busy.count >= CONNECTIONS_MAX) return busy;
      const count = Math.min(CONNECTIONS_MAX, busy.count * 2);
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
