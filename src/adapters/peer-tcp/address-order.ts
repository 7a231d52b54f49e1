/** Which of a node's addresses are tried first: those of the same local network, then the rest as the node named them. */
import { BlockList, isIP } from "node:net";
import type { HostPort } from "../../domain/peer.ts";

const PRIVATE = new BlockList();
PRIVATE.addSubnet("10.0.0.0", 8, "ipv4");
PRIVATE.addSubnet("172.16.0.0", 12, "ipv4");
PRIVATE.addSubnet("192.168.0.0", 16, "ipv4");
PRIVATE.addSubnet("169.254.0.0", 16, "ipv4");
PRIVATE.addSubnet("127.0.0.0", 8, "ipv4");
PRIVATE.addAddress("::1", "ipv6");
PRIVATE.addSubnet("fc00::", 7, "ipv6");
PRIVATE.addSubnet("fe80::", 10, "ipv6");

/** As many as the coordinator names of a node. */
const ADDRESSES_MAX = 16;

export function isPrivateAddress(host: string): boolean {
  const family = isIP(host);
  return family !== 0 && PRIVATE.check(host, family === 4 ? "ipv4" : "ipv6");
}

/** Private ones first, each kind in the order given, none twice, at most 16; `known` is the one that answered before and leads. */
export function addressOrder(addresses: readonly HostPort[], known: HostPort | null): readonly HostPort[] {
  const ordered = [
    ...(known === null ? [] : addresses.filter((one) => name(one) === name(known))),
    ...addresses.filter(({ host }) => isPrivateAddress(host)),
    ...addresses,
  ];
  const seen = new Set<string>();
  return ordered.filter((one) => !seen.has(name(one)) && seen.add(name(one))).slice(0, ADDRESSES_MAX);
}

export function name({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
