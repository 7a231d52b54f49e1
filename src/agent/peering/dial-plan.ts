/**
 * Which connections the opening end of a link dials, and which it ends: a pure decision, taken with each look.
 *
 *   what the link has                        what is dialled
 *   no message connection that answers       messages, on all carriers, each a stagger after the one before; those that fell silent last
 *   one on a carrier that is not the best    messages on the better ones, when their pause after a failure is over
 *   the way is far, or packets are lost      more for messages on the same carrier, up to three (not over the relay)
 *   bulk moves                               bulk on TCP up to the width; one over UDP on a far or lossy way, or where TCP is missing
 *   nothing moves                            nothing; bulk connections beyond the width end
 *
 * The relay carries no bulk connections of their own: it is metered, and bulk shares the messages' there, paced by the governor.
 */
import { CARRIER_KINDS, type CarrierKind } from "../../domain/peer.ts";
import type { ConnectionRole } from "../../wire/peer-frame-bytes.ts";
import { CARRIER_STAGGER_MS, FAR_RTT_MS } from "./link-bounds.ts";

/**
 * One is held up by each loss for a round trip or two; with 1 % loss and 8 KiB there and back two of them are held up at once for 1 to 3 % of
 * the time (bench/peer-link: p99 of 125 ms at 40 ms), three for a tenth of that.
 */
const LOSSY_MESSAGES = 3;
/** Until loss was measured: it shows only after some hundred packets. */
const FAR_MESSAGES = 2;

export interface CarrierState {
  readonly kind: CarrierKind;
  /** Live and answering. */
  readonly messages: number;
  readonly bulks: number;
  /** Being dialled. */
  readonly messagesDialled: number;
  readonly bulksDialled: number;
  readonly hasSilent: boolean;
  /** After a failure: not before. */
  readonly retryAtMs: number;
}

export interface DialLook {
  readonly nowMs: number;
  /** Since when no message connection answers; null when one does. */
  readonly cutAtMs: number | null;
  readonly isBusy: boolean;
  readonly isBulkWanted: boolean;
  readonly isLossy: boolean;
  readonly rttMs: number | null;
  /** TCP connections for bulk. */
  readonly width: number;
  /** Those that this node has and the target can be met on, in the order in which they are tried. */
  readonly carriers: readonly CarrierState[];
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
  const best = look.carriers.find(({ messages }) => messages > 0);
  if (best === undefined) return { dials: cutDials(look), ends: [] };
  const dials = [...betterDials(look, best), ...spareDials(look, best), ...bulkDials(look, best)];
  return { dials, ends: [...worseEnds(look, best), ...bulkEnds(look)] };
}

function cutDials({ nowMs, cutAtMs, carriers }: DialLook): readonly Dial[] {
  const order = [...carriers].sort((a, b) => Number(a.hasSilent) - Number(b.hasSilent) || rank(a) - rank(b));
  return order
    .filter((state, at) => nowMs - (cutAtMs ?? nowMs) >= at * CARRIER_STAGGER_MS && mayDial(state, "message", nowMs))
    .map(({ kind }) => ({ kind, role: "message" }));
}

function betterDials({ nowMs, carriers }: DialLook, best: CarrierState): readonly Dial[] {
  return carriers
    .filter((state) => rank(state) < rank(best) && mayDial(state, "message", nowMs))
    .map(({ kind }) => ({ kind, role: "message" }));
}

function spareDials({ nowMs, isLossy, isBusy, rttMs }: DialLook, best: CarrierState): readonly Dial[] {
  const wanted = isLossy ? LOSSY_MESSAGES : (rttMs ?? 0) > FAR_RTT_MS ? FAR_MESSAGES : 1;
  const isWanted = isBusy && best.kind !== "relay" && best.messages < wanted && mayDial(best, "message", nowMs);
  return isWanted ? [{ kind: best.kind, role: "message" }] : [];
}

function bulkDials(look: DialLook, best: CarrierState): readonly Dial[] {
  if (!look.isBulkWanted) return [];
  const dials: Dial[] = [];
  for (const state of look.carriers) {
    if (state.kind === "relay" || look.nowMs < state.retryAtMs) continue;
    // A carrier that carries no messages yet is not known to work: TCP waits for its message connection.
    if (state.kind === "tcp" && state.messages === 0) continue;
    const wanted = state.kind === "tcp" ? look.width : udpWanted(look, best);
    for (let have = state.bulks + state.bulksDialled; have < wanted; have++)
      dials.push({ kind: state.kind, role: "bulk" });
  }
  return dials;
}

function udpWanted({ isLossy, rttMs }: DialLook, best: CarrierState): number {
  return best.kind !== "tcp" || isLossy || (rttMs ?? 0) > FAR_RTT_MS ? 1 : 0;
}

function worseEnds({ carriers }: DialLook, best: CarrierState): DialPlan["ends"] {
  return carriers
    .filter((state) => rank(state) > rank(best) && state.messages > 0)
    .map(({ kind, messages }) => ({ kind, role: "message", count: messages }));
}

function bulkEnds({ carriers, width }: DialLook): DialPlan["ends"] {
  const tcp = carriers.find(({ kind }) => kind === "tcp");
  return tcp === undefined || tcp.bulks <= width ? [] : [{ kind: "tcp", role: "bulk", count: tcp.bulks - width }];
}

function mayDial(state: CarrierState, role: ConnectionRole, nowMs: number): boolean {
  return nowMs >= state.retryAtMs && (role === "message" ? state.messagesDialled : state.bulksDialled) === 0;
}

function rank({ kind }: { readonly kind: CarrierKind }): number {
  return CARRIER_KINDS.indexOf(kind);
}
