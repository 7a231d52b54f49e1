/**
 * Which of the addresses that a node tells of itself are named to another. A node may say any: those that lead every other machine to itself
 * or to its own link are left out, since what answers there is somebody else, and so are spellings that only some resolvers read as addresses.
 * Private addresses stay: nodes of one site, or of a private overlay, are reached there. That the right node answers is proved by its key.
 *
 * | address                                              | named to                                         |
 * | ---------------------------------------------------- | ------------------------------------------------ |
 * | loopback, and IPv4 or nothing written as IPv6 (`::…`) | nodes that come from the coordinator's machine   |
 * | unspecified, link-local, multicast, reserved         | nobody                                           |
 * | `64:ff9b:…` (an IPv4 address behind NAT64)           | nobody                                           |
 * | `localhost`, `2130706433`, `0x7f.1`, `127.1`         | nobody                                           |
 * | any other address or name                            | all                                              |
 */
import type { HostPort } from "../../domain/peer.ts";
import { networkOf } from "../registry/network-prefix.ts";

const LOOPBACK_V4 = /^127\./;
/** Of `::1`, of `::ffff:…` in hexadecimal, and of what else begins with six bytes of nothing. */
const NOTHING_V6 = "0:0:0::/48";
/** This network, link-local with the metadata services, multicast and reserved; a number that begins with 0 is octal to some. */
const V4_NOBODY = /^(?:0\.|169\.254\.|22[4-9]\.|2[3-9]\d\.|[3-9]\d\d\.)|(?:^|\.)0\d/;
const V6_NOBODY = /^(?:fe[89a-f][0-9a-f]:|ff[0-9a-f]{2}:|64:ff9b:)/;
/** A name ends in a word; `localhost` has no dot. */
const NAME =
  /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?!localhost\.?$)[a-z][a-z0-9-]{0,61}[a-z0-9]\.?$/i;

/** `askerNetwork`: where the node comes from to whom they are named (`networkOf`); null when that is not known. */
export function namedAddresses(
  tcp: readonly HostPort[],
  askerNetwork: string | null,
): { host: string; port: number }[] {
  const isAskerHere = askerNetwork !== null && (LOOPBACK_V4.test(askerNetwork) || askerNetwork === NOTHING_V6);
  return tcp.filter(({ host }) => isNamed(host, isAskerHere)).map(({ host, port }) => ({ host, port }));
}

function isNamed(host: string, isAskerHere: boolean): boolean {
  const bare = host.replace(/^::ffff:(?=\d+\.)/i, "");
  const network = networkOf(bare);
  if (network === null) return NAME.test(bare);
  if (LOOPBACK_V4.test(network) || network === NOTHING_V6) return isAskerHere;
  return !(bare.includes(":") ? V6_NOBODY : V4_NOBODY).test(bare.includes(":") ? network : bare);
}
