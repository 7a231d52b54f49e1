import { describe, expect, test } from "vitest";
import { namedAddresses } from "./named-addresses.ts";

const named = (host: string, askerNetwork: string | null) =>
  namedAddresses([{ host, port: 7_000 }], askerNetwork).length === 1;
const FAR = "198.51.100.0/24";

describe("an address that a node tells of itself", () => {
  test.each([
    "203.0.113.7",
    "192.168.1.5",
    "10.0.0.9",
    "100.64.3.2",
    "2001:db8:1::7",
    "fd12:3456::1",
    "::ffff:203.0.113.7",
    "node7.example.org",
    "a.b-c.example",
  ])("is named to all: %s", (host) => {
    expect([named(host, FAR), named(host, null), named(host, "127.0.0.0/24")]).toEqual([true, true, true]);
  });

  test.each(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::"])(
    "is named on the coordinator's machine only: %s",
    (host) => {
      expect([named(host, FAR), named(host, null)]).toEqual([false, false]);
      expect([named(host, "127.0.0.0/24"), named(host, "0:0:0::/48")]).toEqual([true, true]);
    },
  );

  test.each([
    "0.0.0.0",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "224.0.0.251",
    "239.1.1.1",
    "255.255.255.255",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::fb",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "localhost",
    "sub.localhost",
    "2130706433",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "010.0.0.1",
    "a name",
    "example.org:80",
    "http://example.org",
    "",
  ])("is named to nobody: %j", (host) => {
    expect([named(host, FAR), named(host, "127.0.0.0/24")]).toEqual([false, false]);
  });
});
