/** What a link shows of itself: the way that its messages take, and what was measured of it. */
import { CARRIER_KINDS, type LinkQuality } from "../../domain/peer.ts";
import { LOSSY_SHARE } from "../../scheduler/network/choose-carrier.ts";
import type { LinkConnection } from "./link-connection.ts";

/** Live connections that are not passed over, the best carrier first, then the least queued. */
function usable(connections: Iterable<LinkConnection>): readonly LinkConnection[] {
  return [...connections]
    .filter((connection) => !connection.isClosed && !connection.isClosing && !connection.isSuspect)
    .sort((a, b) => rankOf(a) - rankOf(b) || a.bufferedBytes() - b.bufferedBytes());
}

/** Those for messages, wherever they are; a spare when there are none, and one of bulk at the last. */
export function messageWays(connections: Iterable<LinkConnection>): readonly LinkConnection[] {
  const all = usable(connections);
  const own = all.filter(({ role }) => role === "message");
  if (own.length > 0) return own;
  const spare = all.find(({ role }) => role === "spare") ?? all[0];
  return spare === undefined ? [] : [spare];
}

/** Those for bulk; before there are any, one for messages. */
export function bulkWays(connections: Iterable<LinkConnection>): readonly LinkConnection[] {
  const own = usable(connections).filter(({ role }) => role === "bulk");
  return own.length > 0 ? own : messageWays(connections).slice(0, 1);
}

/** The greatest loss that either end saw in its sending direction. */
export function lossOf(connections: Iterable<LinkConnection>): number | null {
  let loss: number | null = null;
  for (const connection of connections) {
    for (const share of [connection.lossShare(), connection.peerLossShare]) {
      if (share !== null) loss = Math.max(loss ?? 0, share);
    }
  }
  return loss;
}

export function isLossy(lossShare: number | null): boolean {
  return lossShare !== null && lossShare >= LOSSY_SHARE;
}

export function qualityOf(
  connections: Iterable<LinkConnection>,
  measured: { readonly bytesPerSecond: number | null; readonly wallMs: number },
): LinkQuality | null {
  const [first] = usable(connections).filter(({ role }) => role === "message");
  if (first === undefined) return null;
  return {
    carrier: first.carrier,
    rttMs: first.rtt.quantileMs(0.5),
    lossShare: lossOf(connections),
    bytesPerSecond: measured.bytesPerSecond,
    measuredAtMs: measured.wallMs,
  };
}

function rankOf({ carrier }: LinkConnection): number {
  return CARRIER_KINDS.indexOf(carrier);
}
