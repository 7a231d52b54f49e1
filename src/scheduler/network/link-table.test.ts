import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import type { LinkQuality } from "../../domain/peer.ts";
import {
  HALF_LIFE_MS,
  LINKS_PER_NODE_MAX,
  LinkTable,
  RELAYED_MS,
  SAME_NETWORK_RTT_MS,
  UNKNOWN_RTT_MS,
} from "./link-table.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const [A, B, C] = [node(1), node(2), node(3)];
const quality = (more: Partial<LinkQuality>): LinkQuality => ({
  carrier: "tcp",
  rttMs: null,
  lossShare: null,
  bytesPerSecond: null,
  measuredAtMs: 0,
  ...more,
});
function table(nodes: readonly { id: NodeId; rtt?: number | null; region?: string; network?: string }[]): LinkTable {
  const made = new LinkTable();
  for (const { id, rtt = null, region = null, network = null } of nodes) {
    made.setNode({ nodeId: id, coordinatorRttMs: rtt, region, network });
  }
  return made;
}

describe("a measured pair", () => {
  test("has one round trip, the newest of both ends, and a bandwidth each way", () => {
    const links = table([{ id: A }, { id: B }]);
    links.report(A, B, quality({ rttMs: 40, lossShare: 0.01, bytesPerSecond: 5_000_000 }));
    links.report(B, A, quality({ rttMs: 42, bytesPerSecond: 1_000_000, measuredAtMs: 10, carrier: "udp" }));
    // What A counted came from B.
    expect(links.estimate(B, A, 10)).toMatchObject({
      rttMs: 42,
      bytesPerSecond: 5_000_000,
      lossShare: 0.01,
      basis: "measured",
    });
    expect(links.estimate(A, B, 10)).toMatchObject({ rttMs: 42, bytesPerSecond: 1_000_000 });
    expect(links.carrierOf(A, B)).toBe("udp");
  });

  test("is trusted less with age", () => {
    const links = table([{ id: A }, { id: B }]);
    links.report(A, B, quality({ rttMs: 40, bytesPerSecond: 5 }));
    const confidence = (nowMs: number) => links.estimate(B, A, nowMs).confidence;
    expect(confidence(0)).toBe(1);
    expect(confidence(HALF_LIFE_MS)).toBeCloseTo(0.5);
    expect(confidence(100 * HALF_LIFE_MS)).toBe(0.3);
  });
});

describe("a pair that met over the relay", () => {
  test("counts as relayed until it may have found a direct way, or has one", () => {
    const links = table([{ id: A }, { id: B }]);
    links.report(A, B, quality({ carrier: "relay", rttMs: 80 }));
    expect(links.estimate(A, B, 0).isRelayed).toBe(true);
    expect(links.estimate(B, A, RELAYED_MS - 1).isRelayed).toBe(true);
    expect(links.estimate(A, B, RELAYED_MS).isRelayed).toBeUndefined();
    links.report(B, A, quality({ carrier: "udp", rttMs: 40, measuredAtMs: 10 }));
    expect(links.estimate(A, B, 11).isRelayed).toBeUndefined();
  });
});

describe("an unmeasured pair", () => {
  test("behind one address is a local network", () => {
    const links = table([
      { id: A, network: "198.51.100.0/24", rtt: 40 },
      { id: B, network: "198.51.100.0/24", rtt: 41 },
    ]);
    expect(links.estimate(A, B, 0)).toMatchObject({ rttMs: SAME_NETWORK_RTT_MS, basis: "same-network" });
  });

  test("lies within what a third says of both, the tightest bounds of all thirds", () => {
    const links = table([
      { id: A, rtt: 100 },
      { id: B, rtt: 90 },
      { id: C, rtt: 95 },
    ]);
    expect(links.estimate(A, B, 0)).toMatchObject({ rttMs: (10 + 190) / 2, basis: "triangle" });
    links.report(A, C, quality({ rttMs: 5 }));
    links.report(B, C, quality({ rttMs: 15 }));
    expect(links.estimate(A, B, 0)).toMatchObject({ rttMs: (10 + 20) / 2, basis: "triangle" });
  });

  test("is like other pairs of its regions, within those bounds", () => {
    const far = { rtt: 80, region: "us" };
    const links = table([
      { id: A, rtt: 20, region: "eu" },
      { id: B, ...far },
      { id: C, ...far },
      { id: node(4), rtt: 200, region: "us" },
    ]);
    links.report(A, B, quality({ rttMs: 90 }));
    expect(links.estimate(A, C, 0)).toMatchObject({ rttMs: 90, basis: "regions" });
    expect(links.estimate(C, A, 0)).toMatchObject({ rttMs: 90, basis: "regions" });
    expect(links.estimate(A, node(4), 0).rttMs).toBe(180);
  });

  test("sends what its sender was seen to send, at most what its receiver was seen to receive", () => {
    const links = table([{ id: A }, { id: B }, { id: C }, { id: node(4) }]);
    links.report(B, A, quality({ bytesPerSecond: 2_000_000 }));
    links.report(C, B, quality({ bytesPerSecond: 9_000_000 }));
    expect(links.estimate(A, C, 0).bytesPerSecond).toBe(2_000_000);
    expect(links.estimate(B, node(4), 0).bytesPerSecond).toBe(9_000_000);
  });

  test("of which nothing is known is guessed, with little confidence", () => {
    expect(new LinkTable().estimate(A, B, 0)).toMatchObject({
      rttMs: UNKNOWN_RTT_MS,
      confidence: 0.1,
      basis: "unknown",
    });
  });
});

describe("the table", () => {
  test("forgets a node with all its ways", () => {
    const links = table([
      { id: A, rtt: 10 },
      { id: B, rtt: 10 },
    ]);
    links.report(A, B, quality({ rttMs: 40 }));
    links.dropNode(B);
    expect(links.measuredWith(A)).toEqual([]);
    expect(links.estimate(A, B, 0).basis).toBe("unknown");
  });

  test("does not learn of nodes that are not set, nor of a node's way to itself", () => {
    const links = table([{ id: A }]);
    links.report(A, B, quality({ rttMs: 40 }));
    links.report(A, A, quality({ rttMs: 40 }));
    expect(links.measuredWith(A)).toEqual([]);
  });

  test("law: keeps a bounded number of ways for each node, the newest, alike from both ends", () => {
    const report = fc.tuple(fc.nat(199), fc.nat(199));
    fc.assert(
      fc.property(fc.array(report, { maxLength: 2_000, size: "max" }), (reports) => {
        const ids = Array.from({ length: 200 }, (_, number) => node(number));
        const links = table(ids.map((id) => ({ id })));
        for (const [at, [from, to]] of reports.entries()) {
          // One hub meets everybody: its ways are the most.
          links.report(node(from), node(at % 3 === 0 ? 0 : to), quality({ rttMs: at + 1, measuredAtMs: at }));
        }
        for (const id of ids) {
          const met = links.measuredWith(id);
          expect(met.length).toBeLessThanOrEqual(LINKS_PER_NODE_MAX);
          for (const other of met) expect(links.measuredWith(other)).toContain(id);
        }
      }),
      // Two thousand reports take minutes to shrink.
      { numRuns: 8, endOnFailure: true },
    );
  });

  test("law: an estimate is finite, positive and between what its thirds allow", () => {
    const rtts = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(rtts, rtts, rtts, (toCoordinator, fromA, fromB) => {
        const ids = toCoordinator.map((rtt, at) => ({ id: node(at), rtt }));
        const links = table(ids);
        for (const at of [2, 3, 4]) {
          links.report(node(0), node(at), quality({ rttMs: fromA[at] ?? 1 }));
          links.report(node(1), node(at), quality({ rttMs: fromB[at] ?? 1 }));
        }
        const { rttMs, bytesPerSecond, confidence } = links.estimate(node(0), node(1), 0);
        const most = Math.max(
          (toCoordinator[0] ?? 0) + (toCoordinator[1] ?? 0),
          ...[2, 3, 4].map((at) => (fromA[at] ?? 0) + (fromB[at] ?? 0)),
        );
        expect(rttMs).toBeGreaterThan(0);
        expect(rttMs).toBeLessThanOrEqual(most);
        expect(bytesPerSecond).toBeGreaterThan(0);
        expect(confidence).toBe(0.3);
        expect(links.estimate(node(1), node(0), 0).rttMs).toBe(rttMs);
      }),
    );
  });
});
