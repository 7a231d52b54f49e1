import { expect, test } from "vitest";
import { hostOf, networkOf } from "./network-prefix.ts";

test.each([
  ["192.168.1.77:5123", "192.168.1.0/24"],
  ["192.168.1.78", "192.168.1.0/24"],
  ["::ffff:10.0.3.4", "10.0.3.0/24"],
  ["[::ffff:10.0.3.4]:80", "10.0.3.0/24"],
  ["[2001:db8:12:34::7]:443", "2001:db8:12::/48"],
  ["2001:0db8:0012:0034:0:0:0:7", "2001:db8:12::/48"],
  ["::1", "0:0:0::/48"],
  ["agent-3:7", null],
  ["somewhere", null],
  ["", null],
])("the network of %s is %s", (remote, network) => {
  expect(networkOf(remote)).toBe(network);
});

test.each([
  ["192.168.1.77:5123", "192.168.1.77"],
  ["::ffff:10.0.3.4", "10.0.3.4"],
  ["[2001:db8:12:34::7]:443", "2001:db8:12:34::7"],
  ["agent-3:7", null],
])("the address of %s, as others could dial it, is %s", (remote, host) => {
  expect(hostOf(remote)).toBe(host);
});
