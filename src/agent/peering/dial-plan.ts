/**
 * Which connections the opening end of a link dials, and which it ends, once the carriers were chosen (carrier-watch.ts): a pure decision,
 * taken with each look.
 *
 *   what the link has                        what is dialled
 *   no message connection that answers       messages: where something else answers at once, then on all carriers, each a stagger after the
 *                                            one before; those that failed come late, and those that fell silent last
 *   messages on the relay                    messages on the direct carriers, when their pause after a failure is over
 *   messages not on the carrier chosen       messages there; those elsewhere end when they are up
 *   the way is far, or packets are lost      more for messages, up to three; one of them on the other direct carrier
 *   something moves                          a spare on each other direct carrier: it measures, and takes over at once when the chosen one falls
 *   a measurement is due                     a spare there, also on the relay, which ends it when it has measured
 *   bulk moves                               bulk on the carriers chosen for it: TCP up to the width, one over UDP
 *   nothing moves                            nothing; spares, and bulk connections beyond the width, end
 *
 * The relay carries no bulk connections of their own: it is metered, and bulk shares the messages' there, paced by the governor.
 */
import { CARRIER_KINDS, type CarrierKind } from "../../domain/peer.ts";
import { FAR_RTT_MS } from "../../scheduler/network/choose-carrier.ts";
import type { ConnectionRole } from "../../wire/peer-frame-bytes.ts";
import type { CarrierChoices } from "./carrier-watch.ts";
import { CARRIER_STAGGER_MS } from "./link-bounds.ts";

/**
 * One is held up by each loss for a round trip or two; with 1 % loss and 8 KiB there and back two of them are held up at once for 1 to 3 % of
 * the time (bench/peer-link: p99 of 125 ms at 40 ms), three for a tenth of that.
 */
const LOSSY_MESSAGES = 3;
/** Until loss was measured: it shows only after some hundred packets. */
const FAR_MESSAGES = 2;
/** On a near way a spare only waits, so it is dialled when the link has been busy for so long: most links of a LAN never are. */
const NEAR_SPARE_AFTER_MS = 2_000;

export interface CarrierLook {
  readonly kind: CarrierKind;
  /** Live and answering. */
  readonly live: Readonly<Record<ConnectionRole, number>>;
  readonly dialled: Readonly<Record<ConnectionRole, number>>;
  readonly hasSilent: boolean;
  /** It fell, and was not opened since. */
  readonly hasFailed: boolean;
  /** After a failure: not before. */
  readonly retryAtMs: number;
  /** A spare here has said what it was dialled for. */
  readonly isMeasured: boolean;
}

export interface DialLook {
  readonly nowMs: number;
  /** Since when no message connection answers; null when one does. */
  readonly cutAtMs: number | null;
  /** Since when something moves; null: nothing does. */
  readonly busySinceMs: number | null;
  readonly isBulkWanted: boolean;
  readonly isLossy: boolean;
  readonly rttMs: number | null;
  /** TCP connections for bulk. */
  readonly width: number;
  readonly choices: CarrierChoices;
  /** Those that this node has and the target can be met on, in the order in which they are tried. */
  readonly carriers: readonly CarrierLook[];
}

export interface Dial {
  readonly kind: CarrierKind;
  readonly role: ConnectionRole;
}

/** How many may end: of these roles on these carriers. */
export interface DialPlan {
  readonly dials: readonly Dial[];
  readonly ends: readonly (Dial & { readonly count: number })[];
}

export function planDials(look: DialLook): DialPlan {
  if (look.cutAtMs !== null) return { dials: cutDials(look, look.cutAtMs), ends: [] };
  const wanted = messagesWanted(look);
  return {
    dials: [...messageDials(look, wanted), ...bulkDials(look), ...spareDials(look)],
    ends: [...messageEnds(look, wanted), ...bulkEnds(look), ...spareEnds(look)],
  };
}

function cutDials({ nowMs, carriers }: DialLook, cutAtMs: number): readonly Dial[] {
  const promise = (state: CarrierLook): number =>
    hasLive(state) ? 0 : state.hasSilent ? 2 : state.hasFailed ? 1 : 0.5;
  const order = [...carriers].sort((a, b) => promise(a) - promise(b) || rank(a) - rank(b));
  return order
    .filter((state, at) => nowMs - cutAtMs >= at * CARRIER_STAGGER_MS && mayDial(state, "message", nowMs))
    .map(({ kind }) => ({ kind, role: "message" }));
}

/** How many connections for messages each carrier should have. */
function messagesWanted(look: DialLook): ReadonlyMap<CarrierKind, number> {
  const { choices, isLossy, rttMs, carriers } = look;
  const { message } = choices;
  if (message === null) return new Map();
  if (message === "relay") return new Map([["relay", 1]]);
  const isBusy = look.busySinceMs !== null;
  const all = !isBusy ? 1 : isLossy ? LOSSY_MESSAGES : (rttMs ?? 0) > FAR_RTT_MS ? FAR_MESSAGES : 1;
  const other = carriers.find(({ kind, hasFailed, live }) => {
    return kind !== "relay" && kind !== message && !hasFailed && live.spare + live.bulk + live.message > 0;
  });
  if (all === 1 || other === undefined) return new Map([[message, all]]);
  return new Map([
    [message, all - 1],
    [other.kind, 1],
  ]);
}

function messageDials(look: DialLook, wanted: ReadonlyMap<CarrierKind, number>): readonly Dial[] {
  const { nowMs, carriers, choices } = look;
  return carriers
    .filter((state) => {
      const isBetter = choices.message === "relay" && state.kind !== "relay" && state.live.message === 0;
      const isDue = isBetter && (!state.hasFailed || choices.due.includes(state.kind));
      return (isDue || state.live.message < (wanted.get(state.kind) ?? 0)) && mayDial(state, "message", nowMs);
    })
    .map(({ kind }) => ({ kind, role: "message" }));
}

/** Elsewhere than wanted they end when those that are wanted are up; one more than wanted on a carrier that stays does no harm. */
function messageEnds({ carriers, choices }: DialLook, wanted: ReadonlyMap<CarrierKind, number>): DialPlan["ends"] {
  const isUp = carriers.some(({ kind, live }) => kind === choices.message && live.message > 0);
  if (!isUp) return [];
  return carriers
    .filter(
      ({ kind, live }) => !wanted.has(kind) && live.message > 0 && (choices.message !== "relay" || kind === "relay"),
    )
    .map(({ kind, live }) => ({ kind, role: "message", count: live.message }));
}

function bulkDials({ isBulkWanted, nowMs, carriers, choices, width }: DialLook): readonly Dial[] {
  if (!isBulkWanted) return [];
  const dials: Dial[] = [];
  for (const state of carriers) {
    if (state.kind === "relay" || nowMs < state.retryAtMs || !choices.bulk.includes(state.kind)) continue;
    const wanted = state.kind === "tcp" ? width : 1;
    for (let have = state.live.bulk + state.dialled.bulk; have < wanted; have++)
      dials.push({ kind: state.kind, role: "bulk" });
  }
  return dials;
}

function bulkEnds({ isBulkWanted, carriers, choices, width }: DialLook): DialPlan["ends"] {
  const isUp = carriers.some(({ kind, live }) => choices.bulk.includes(kind) && live.bulk > 0);
  return carriers.flatMap(({ kind, live }) => {
    const isChosen = !isBulkWanted || !isUp || choices.bulk.includes(kind);
    const wanted = isChosen ? (kind === "tcp" ? width : 1) : 0;
    return live.bulk > wanted ? [{ kind, role: "bulk", count: live.bulk - wanted }] : [];
  });
}

function spareDials(look: DialLook): readonly Dial[] {
  const { nowMs, busySinceMs, rttMs, choices, carriers } = look;
  if (busySinceMs === null || choices.message === null) return [];
  const isLate = nowMs - busySinceMs >= NEAR_SPARE_AFTER_MS || (rttMs ?? 0) > FAR_RTT_MS;
  return carriers
    .filter((state) => {
      if (state.kind === choices.message || hasLive(state) || hasDialled(state)) return false;
      if (state.kind !== "relay" && choices.message === "relay") return false;
      const isDue = choices.due.includes(state.kind);
      return isLate && (isDue || (state.kind !== "relay" && !state.hasFailed)) && mayDial(state, "spare", nowMs);
    })
    .map(({ kind }) => ({ kind, role: "spare" }));
}

function spareEnds({ busySinceMs, choices, carriers }: DialLook): DialPlan["ends"] {
  return carriers
    .filter(({ kind, live, isMeasured }) => {
      const isUsed = kind === choices.message && live.message > 0;
      return live.spare > 0 && (isUsed || (isMeasured && (busySinceMs === null || kind === "relay")));
    })
    .map(({ kind, live }) => ({ kind, role: "spare", count: live.spare }));
}

function mayDial(state: CarrierLook, role: ConnectionRole, nowMs: number): boolean {
  return nowMs >= state.retryAtMs && state.dialled[role] === 0;
}

function hasLive({ live }: CarrierLook): boolean {
  return live.message + live.bulk + live.spare > 0;
}

function hasDialled({ dialled }: CarrierLook): boolean {
  return dialled.message + dialled.bulk + dialled.spare > 0;
}

function rank({ kind }: { readonly kind: CarrierKind }): number {
  return CARRIER_KINDS.indexOf(kind);
}
