import { describe, expect, test } from "vitest";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import {
  ACCUSATION_MS,
  ACCUSERS_MIN,
  BLAMED_ALONE_MAX,
  type PeerReport,
  PeerReports,
  QUARANTINE_MS,
} from "./peer-reports.ts";

const node = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const BAD = node(0xbad);
const report = (reporter: NodeId, more: Partial<PeerReport> = {}): PeerReport => ({
  reporter,
  reporterGroup: [],
  accused: BAD,
  accusedGroup: [],
  weightsSha256: null,
  code: "bad-chunk",
  nowMs: 0,
  ...more,
});

describe("reports about nodes", () => {
  test("of as many nodes as it takes put a poisoner into quarantine, for a time", () => {
    const reports = new PeerReports();
    const taken = [1, 2, 3].map((index) => reports.take(report(node(index))));
    expect(taken).toEqual([false, false, true]);
    expect(taken).toHaveLength(ACCUSERS_MIN);
    expect(reports.isQuarantined(BAD, QUARANTINE_MS - 1)).toBe(true);
    expect(reports.isQuarantined(BAD, QUARANTINE_MS)).toBe(false);
    expect(reports.quarantined(0)).toEqual([{ nodeId: BAD, untilMs: QUARANTINE_MS }]);
  });

  test("of one liar change what he is told, and nothing for others", () => {
    const reports = new PeerReports();
    for (let round = 0; round < 50; round++) reports.take(report(node(1), { nowMs: round }));
    expect(reports.isQuarantined(BAD, 50)).toBe(false);
    expect(reports.isShunned(node(1), BAD, 50)).toBe(true);
    expect(reports.isShunned(node(2), BAD, 50)).toBe(false);
  });

  test("of nodes that came with one join code, or from one network, count as one", () => {
    const reports = new PeerReports();
    for (const index of [1, 2, 3])
      reports.take(report(node(index), { reporterGroup: ["owner a", `network ${index}`] }));
    for (const index of [4, 5, 6])
      reports.take(report(node(index), { reporterGroup: [`owner ${index}`, "network 1"] }));
    expect(reports.accusersOf(BAD, 0)).toBe(1);
    expect(reports.isQuarantined(BAD, 0)).toBe(false);
  });

  test("of nodes of the accused's own house count one by one", () => {
    const reports = new PeerReports();
    const house = { reporterGroup: ["network lab"], accusedGroup: ["network lab"] };
    expect([1, 2, 3].map((index) => reports.take(report(node(index), house)))).toEqual([false, false, true]);
  });

  test("of one who blames everybody are not counted", () => {
    const reports = new PeerReports();
    for (let index = 0; index < BLAMED_ALONE_MAX + 1; index++)
      reports.take(report(node(1), { accused: node(100 + index) }));
    reports.take(report(node(1)));
    reports.take(report(node(2)));
    reports.take(report(node(3)));
    expect(reports.isQuarantined(BAD, 0)).toBe(false);
    expect(reports.take(report(node(4)))).toBe(true);
  });

  test("of long ago are forgotten, and slowness is no poison", () => {
    const reports = new PeerReports();
    reports.take(report(node(1)));
    reports.take(report(node(2)));
    expect(reports.take(report(node(3), { nowMs: ACCUSATION_MS + 1 }))).toBe(false);
    for (const index of [4, 5, 6, 7]) reports.take(report(node(index), { code: "too-slow", nowMs: ACCUSATION_MS + 1 }));
    expect(reports.isQuarantined(BAD, ACCUSATION_MS + 1)).toBe(false);
    expect(reports.isShunned(node(4), BAD, ACCUSATION_MS + 60_002)).toBe(false);
    expect(reports.stats().reports).toMatchObject({ "bad-chunk": 3, "too-slow": 4 });
  });

  test("that come again after a quarantine lead to one twice as long", () => {
    const reports = new PeerReports();
    for (const index of [1, 2, 3]) reports.take(report(node(index)));
    for (const index of [1, 2, 3]) reports.take(report(node(index), { nowMs: QUARANTINE_MS }));
    expect(reports.quarantined(QUARANTINE_MS)).toEqual([{ nodeId: BAD, untilMs: 3 * QUARANTINE_MS }]);
  });
});
