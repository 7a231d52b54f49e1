/**
 * A home router as nftables rules. What each kind does with UDP, in the words of RFC 4787:
 *
 * | kind | mapping | filtering |
 * | --- | --- | --- |
 * | `cone` | endpoint-independent: the source port is kept (unless two hosts use the same one) | address- and port-dependent |
 * | `full-cone` | as `cone` | endpoint-independent: whoever sends to a port that a host has sent from reaches it |
 * | `random` | address- and port-dependent: a random port for each flow ("symmetric") | address- and port-dependent |
 *
 * TCP is the same without filtering that a stranger passes, for all kinds. `forwards` open a port for good, as an owner would.
 */
export const WAN_DEVICE = "wan0";
export const LAN_DEVICE = "lan0";
/** As RFC 4787 asks of a router at least. */
const UDP_MAPPING_S = 300;
const MAPPINGS_MAX = 4_096;
const HTTPS_PORT = 443;

export type NatKind = "cone" | "full-cone" | "random";
export type Egress = "open" | "udp-blocked" | "tcp443-only";

export interface NatSpec {
  readonly lan: string;
  readonly kind: NatKind;
  /** What may leave; default is everything. */
  readonly egress?: Egress;
  /** Ports of the public address that lead to a host of the LAN: its address is 192.168.n.k, see `LabHost.address`. */
  readonly forwards?: readonly { readonly protocol: "tcp" | "udp"; readonly port: number; readonly to: string }[];
}

/** For `nft -f`, in the router's namespace. A refused packet is dropped without a word, as most firewalls do. */
export function natRules({ kind, egress = "open", forwards = [] }: NatSpec): string {
  const remember = `oifname ${WAN_DEVICE} meta l4proto udp update @inbound { udp sport : ip saddr . udp sport }`;
  const lead = `iifname ${WAN_DEVICE} meta l4proto udp dnat ip to udp dport map @inbound`;
  return `
table ip nat {
  map inbound {
    type inet_service : ipv4_addr . inet_service
    flags dynamic,timeout
    timeout ${UDP_MAPPING_S}s
    size ${MAPPINGS_MAX}
  }
  chain outgoing {
    type nat hook postrouting priority 100; policy accept;
    ${kind === "full-cone" ? remember : ""}
    oifname ${WAN_DEVICE} masquerade ${kind === "random" ? "fully-random" : ""}
  }
  chain incoming {
    type nat hook prerouting priority -100; policy accept;
    ${forwards.map(({ protocol, port, to }) => `iifname ${WAN_DEVICE} ${protocol} dport ${port} dnat to ${to}`).join("\n    ")}
    ${kind === "full-cone" ? lead : ""}
  }
}
table ip filter {
  chain across {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ct status dnat accept
    ${egressRules(egress)}
    iifname ${LAN_DEVICE} oifname ${WAN_DEVICE} accept
  }
  chain own {
    type filter hook input priority 0; policy accept;
    iifname ${WAN_DEVICE} ct state established,related accept
    iifname ${WAN_DEVICE} drop
  }
}
`;
}

function egressRules(egress: Egress): string {
  const out = `iifname ${LAN_DEVICE} oifname ${WAN_DEVICE}`;
  switch (egress) {
    case "open":
      return "";
    case "udp-blocked":
      return `${out} meta l4proto udp drop`;
    case "tcp443-only":
      return `${out} tcp dport ${HTTPS_PORT} accept\n    ${out} drop`;
  }
}
