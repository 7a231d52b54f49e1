import { describe, expect, test } from "vitest";
import { nodeId, sha256Hex } from "../../domain/ids.ts";
import { OrderBook } from "./order-book.ts";

const digest = (index: number) => sha256Hex(index.toString(16).padStart(64, "0"));
const [ANN, BEN] = [nodeId(`node_${"a".repeat(32)}`), nodeId(`node_${"b".repeat(32)}`)];

describe("rights to weights", () => {
  test("are of the node that was ordered, for what was ordered", () => {
    const orders = new OrderBook();
    orders.give(ANN, digest(1));
    expect([orders.has(ANN, digest(1)), orders.has(ANN, digest(2)), orders.has(BEN, digest(1))]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("end with the node or the model", () => {
    const orders = new OrderBook();
    for (const index of [1, 2]) orders.give(ANN, digest(index));
    orders.forget((weights) => weights === digest(1));
    expect(orders.of(ANN)).toEqual([digest(1)]);
    orders.takeFrom(ANN);
    expect(orders.of(ANN)).toEqual([]);
  });

  test("are bounded: the one that was given longest ago ends first, and to give it again makes it the newest", () => {
    const orders = new OrderBook();
    for (let index = 0; index < 256; index++) orders.give(ANN, digest(index));
    orders.give(ANN, digest(0));
    orders.give(ANN, digest(999));
    expect([orders.has(ANN, digest(0)), orders.has(ANN, digest(1)), orders.of(ANN).length]).toEqual([true, false, 256]);
  });
});
