/**
 * Who of a link's connections still answers.
 *
 *   silent for             then
 *   less than the bound    it is used
 *   the bound              passed over: what it owed is asked for elsewhere; a byte from it, and it is used again
 *   five bounds            cut
 */
import { BUSY_TICK_MS, IDLE_PING_MS, IDLE_TICK_MS, QUIET_MS, SILENT_CUTS_TIMES } from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";

/** Pings all, and answers those that are passed over from here on. `isStalled`: this machine stood still, so nobody was silent. */
export function watchConnections(
  connections: Iterable<LinkConnection>,
  { isBusy, isStalled }: { readonly isBusy: boolean; readonly isStalled: boolean },
): readonly LinkConnection[] {
  const passedOver: LinkConnection[] = [];
  for (const connection of [...connections]) {
    connection.ping(pingEveryMs(connection, isBusy));
    if (isStalled) connection.forgiveSilence();
    const silentMs = connection.silentMs();
    const boundMs = connection.silentBoundMs();
    if (silentMs > boundMs * SILENT_CUTS_TIMES) connection.destroy();
    else if (silentMs > boundMs && !connection.isSuspect) {
      connection.isSuspect = true;
      passedOver.push(connection);
    } else if (silentMs <= boundMs) connection.isSuspect = false;
  }
  return passedOver;
}

/** The governor looks at the pings of messages; those of bulk only show that somebody is there, and go out soon when nothing comes. */
function pingEveryMs(connection: LinkConnection, isBusy: boolean): number {
  if (!isBusy) return IDLE_PING_MS;
  if (connection.role === "message") return BUSY_TICK_MS;
  return connection.unheardMs() > QUIET_MS ? QUIET_MS : IDLE_TICK_MS / 2;
}
