/**
 * Which addresses a download may go to. A name or a redirect from the internet must lead to the internet: what resolves to this machine,
 * its network or a cloud's metadata service is refused, in every way of writing it. Only what the operator named himself may be private, and
 * link-local addresses (where metadata services are) never are.
 */
import { BlockList, isIP } from "node:net";

export type AddressKind = "public" | "private" | "forbidden";

const V4_PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
/** No download lives there: this network, link-local and metadata, protocol assignments, tests, multicast, reserved. */
const V4_FORBIDDEN = [
  "0.0.0.0/8",
  "100.100.100.200/32",
  "169.254.0.0/16",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
const V6_PRIVATE = ["::1/128", "fc00::/7"];
/** Amazon's metadata service has an address among the private ones. */
const V6_METADATA = ["fd00:ec2::/32"];
/** Of the one range that is the internet: protocol assignments (Teredo too), documentation, 6to4. */
const V6_NOT_PUBLIC = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

const v4Private = listOf(V4_PRIVATE, "ipv4");
const v4Forbidden = listOf(V4_FORBIDDEN, "ipv4");
const v6Private = listOf(V6_PRIVATE, "ipv6");
const v6Metadata = listOf(V6_METADATA, "ipv6");
const v6Public = listOf(["2000::/3"], "ipv6");
const v6NotPublic = listOf(V6_NOT_PUBLIC, "ipv6");

/** For an address as `dns.lookup` or a URL's host writes it, without brackets. Anything else is forbidden. */
export function addressKind(address: string): AddressKind {
  const bare = address.replace(/%.*$/, "");
  const family = isIP(bare);
  if (family === 4) return kindOfV4(bare);
  if (family !== 6) return "forbidden";
  const embedded = embeddedV4(bare);
  if (embedded !== null) return kindOfV4(embedded);
  if (v6Metadata.check(bare, "ipv6")) return "forbidden";
  if (v6Private.check(bare, "ipv6")) return "private";
  return v6Public.check(bare, "ipv6") && !v6NotPublic.check(bare, "ipv6") ? "public" : "forbidden";
}

function kindOfV4(address: string): AddressKind {
  if (v4Forbidden.check(address, "ipv4")) return "forbidden";
  return v4Private.check(address, "ipv4") ? "private" : "public";
}

/** Of `::ffff:a.b.c.d` (mapped) and `64:ff9b::a.b.c.d` (NAT64, RFC 6052). */
function embeddedV4(address: string): string | null {
  // The URL parser writes an address in one way: hexadecimal, shortened.
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [, high, low] = /^(?:::ffff|64:ff9b:):([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(text) ?? [];
  if (high === undefined || low === undefined) return null;
  const bits = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return bits.flatMap((half) => [half >> 8, half & 255]).join(".");
}

function listOf(subnets: readonly string[], family: "ipv4" | "ipv6"): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = "", prefix = ""] = subnet.split("/");
    list.addSubnet(network, Number(prefix), family);
  }
  return list;
}
