import { expect, test } from "vitest";
import { addressOrder } from "./address-order.ts";

const at = (host: string) => ({ host, port: 1 });

test("private addresses are tried first, none twice, and at most sixteen", () => {
  const named = ["203.0.113.7", "192.168.1.5", "fd00::1", "198.51.100.2", "10.0.0.9", "192.168.1.5"].map(at);
  expect(addressOrder(named, null).map(({ host }) => host)).toEqual([
    "192.168.1.5",
    "fd00::1",
    "10.0.0.9",
    "203.0.113.7",
    "198.51.100.2",
  ]);
  expect(
    addressOrder(
      Array.from({ length: 40 }, (_, index) => at(`203.0.113.${index}`)),
      null,
    ),
  ).toHaveLength(16);
});

test("the address that answered before leads, if the node still names it", () => {
  const named = [at("192.168.1.5"), at("203.0.113.7")];
  expect(addressOrder(named, at("203.0.113.7"))[0]?.host).toBe("203.0.113.7");
  expect(addressOrder(named, at("203.0.113.8")).map(({ host }) => host)).toEqual(["192.168.1.5", "203.0.113.7"]);
});
