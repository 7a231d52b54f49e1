/**
 * The network that a link comes from, as the prefix of its address: /24 of IPv4, /48 of IPv6, which is what a household or an office
 * mostly has. Nodes that share it share a line that can fail. Null for an address that is none.
 */
export function networkOf(remote: string): string | null {
  const address = withoutPort(remote);
  const mapped = /^(?:::ffff:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.\d{1,3}$/i.exec(address);
  if (mapped !== null) return `${mapped[1]}.${mapped[2]}.${mapped[3]}.0/24`;
  const groups = expanded(address);
  return groups === null ? null : `${groups.slice(0, 3).join(":")}::/48`;
}

/** The address itself, as others could dial it; null for one that is none. */
export function hostOf(remote: string): string | null {
  if (networkOf(remote) === null) return null;
  return withoutPort(remote).replace(/^::ffff:(?=\d)/i, "");
}

/** `1.2.3.4:80`, `[::1]:80`, and either without a port. */
function withoutPort(remote: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(remote);
  if (bracketed !== null) return bracketed[1] ?? "";
  if (/^\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?$/.test(remote)) return remote.replace(/:\d+$/, "");
  // Node gives `address:port` without brackets too: an IPv6 address with a port has nine parts, or `::` before it.
  return /^[0-9a-f:]+:\d{4,5}$/i.test(remote) && expanded(remote) === null ? remote.replace(/:\d+$/, "") : remote;
}

/** Its eight groups without leading zeros; null when it is no IPv6 address. */
function expanded(address: string): readonly string[] | null {
  const [head = "", tail, ...more] = address.toLowerCase().replace(/%.*$/, "").split("::");
  if (more.length > 0 || !address.includes(":")) return null;
  const parts = (text: string | undefined) => (text === undefined || text === "" ? [] : text.split(":"));
  const [before, after] = [parts(head), parts(tail)];
  const missing = 8 - before.length - after.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return null;
  const groups = [...before, ...Array.from({ length: Math.max(0, missing) }, () => "0"), ...after];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/.test(group))) return null;
  return groups.map((group) => group.replace(/^0+(?=.)/, ""));
}
